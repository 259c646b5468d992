"""How many of the objects the first so many boxes find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from upscore.proposals.boxes import Boxes, overlaps

__all__ = ["best_overlaps", "recalls"]


def best_overlaps(objects: Boxes, proposals: Boxes, counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return how well each object is met by the best of the first ``counts`` boxes.

    Returns
    -------
    (N, C) float64 in [0, 1]
        Greatest intersection over union of object n with the best ``counts[c]`` boxes; 0 where
        there are none.
    """
    ranked = proposals.best(max(counts, default=0))
    running = np.zeros((len(objects), len(ranked) + 1))
    np.maximum.accumulate(overlaps(objects, ranked), axis=1, out=running[:, 1:])
    return running[:, np.minimum(counts, len(ranked))]


def recalls(
    images: Iterable[tuple[Boxes, Boxes]], counts: Sequence[int], *, overlaps: Sequence[float] = (0.5, 0.7)
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the share of all objects that are found, by how many boxes an image may have.

    Parameters
    ----------
    images : iterable of (Boxes, Boxes)
        The objects of each image and its proposals.
    counts : sequence of int
        How many of the best boxes are looked at.
    overlaps : sequence of float
        Intersection over union from which an object counts as found.

    Returns
    -------
    recalls : (C, O) float64 in [0, 1]
        NaN where there is no object at all.
    objects : int
        How many there are.
    """
    met = np.concatenate([np.empty((0, len(counts))), *(best_overlaps(objects, found, counts) for objects, found in images)])
    found = [[np.mean(met[:, c] >= least) if len(met) else np.nan for least in overlaps] for c in range(len(counts))]
    return np.array(found).reshape(len(counts), len(overlaps)), len(met)
