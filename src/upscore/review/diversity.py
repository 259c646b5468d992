"""Choose images that a network is uncertain of, and that differ from one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Choice", "choose_diverse"]


@dataclass(frozen=True)
class Choice:
    """One of the chosen images."""

    index: int
    distance: float  #: to the nearest of those chosen before it; inf for the first
    nearest: int  #: that one's index; -1 for the first


def choose_diverse(uncertainty: npt.NDArray[np.floating], descriptors: npt.NDArray[np.floating], count: int) -> list[Choice]:
    """Choose images one by one: each time the one with the largest product of uncertainty and distance to those chosen already.

    It is the farthest-first traversal (Gonzalez, 1985; k-center greedy in Sener and Savarese, ICLR 2018, §5), weighted by uncertainty: a
    copy of a chosen image has the distance 0, and is chosen last. The first is the most uncertain one. Of equal ones the more uncertain,
    then the first is taken.

    Parameters
    ----------
    uncertainty : (N,) floats of 0 and more
    descriptors : (N, D) floats
        Compared by their Euclidean distance.
    count : int
        How many to choose; all where there are fewer.

    Returns
    -------
    list of Choice
        In the order in which they are chosen.

    Examples
    --------
    >>> descriptors = np.array([[0.0], [0.0], [1.0]])
    >>> [choice.index for choice in choose_diverse(np.array([0.9, 0.8, 0.3]), descriptors, 3)]
    [0, 2, 1]
    """
    left = np.ones(len(uncertainty), bool)
    distances, nearest = np.full(len(uncertainty), np.inf), np.full(len(uncertainty), -1)
    chosen: list[Choice] = []
    for _ in range(min(count, len(uncertainty))):
        values = uncertainty if not chosen else uncertainty * distances
        best = int(np.lexsort((-uncertainty, -values, ~left))[0])
        chosen.append(Choice(best, float(distances[best]), int(nearest[best])))
        left[best] = False
        to_best = np.sqrt(((descriptors - descriptors[best]) ** 2).sum(axis=1))
        closer = to_best < distances
        distances[closer], nearest[closer] = to_best[closer], best
    return chosen
