"""Doubtful regions of a mask: connected pixels that a network is sure are of another class than their label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from upscore.review.doubt import MIN_PROB
from upscore.types import IGNORE

__all__ = ["MAX_GIVEN_PROB", "MAX_REGIONS", "MIN_DEPTH", "DoubtfulRegion", "find_regions", "ranked"]

MIN_DEPTH = 2.0
"""The smallest depth of a region in pixels, the distance of its innermost pixel to what is outside: thinner ones are along borders."""

MAX_REGIONS = 20
"""Regions of an image that are stored."""

MAX_GIVEN_PROB = 0.02
"""The largest probability of the labels of a region, as their geometric mean, at which they are doubtful."""

_BINS = 256


@dataclass(frozen=True, eq=False)
class DoubtfulRegion:
    """Connected pixels that are predicted as one class and labelled as others."""

    given: int  #: the label of most of its pixels
    predicted: int
    area: int  #: pixels
    box: tuple[int, int, int, int]  #: left, top, right and bottom in pixels; right and bottom are exclusive
    given_prob: float  #: geometric mean of the probabilities of its labels
    predicted_prob: float  #: mean probability of the predicted class
    mask: npt.NDArray[np.bool_] = field(repr=False)  #: (h, w), the part inside the box
    #: (256,) how many of its pixels have each probability of the predicted class, in steps of 1/255
    histogram: npt.NDArray[np.int64] = field(repr=False)

    @property
    def evidence(self) -> float:
        """By what regions are ranked: -log of ``given_prob`` times the logarithm of the area.

        Their sum of -log p would rank large regions first that a network is not sure of.
        """
        return float(-np.log(self.given_prob) * np.log(self.area))

    def confident_fraction(self, threshold: float) -> float:
        """Return the fraction of its pixels with a probability of the predicted class of at least ``threshold``."""
        return float(self.histogram[int(np.ceil(threshold * (_BINS - 1))) :].sum() / self.area)


def find_regions(
    label: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.uint8],
    given_probs: npt.NDArray[np.floating],
    predicted_probs: npt.NDArray[np.floating],
    *,
    min_depth: float = MIN_DEPTH,
) -> list[DoubtfulRegion]:
    """Return the regions of an image whose labels are improbable, those with the most evidence first.

    Pixels that touch only at a corner are not connected.

    Parameters
    ----------
    label, predicted : (H, W) uint8
        Classes; 255 in ``label`` is ignored, and in no region.
    given_probs, predicted_probs : (H, W) floats in [0, 1]
        Probabilities of the label and of the predicted class.
    min_depth : float
        Regions without a pixel this far from the outside, in pixels, are left out: along borders, masks and predictions always differ.

    Returns
    -------
    list of DoubtfulRegion
        At most :data:`MAX_REGIONS`.

    Examples
    --------
    >>> label, predicted = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    >>> predicted[2:7, 2:7] = 1
    >>> [region] = find_regions(label, predicted, np.full((9, 9), 0.01), np.full((9, 9), 0.99))
    >>> region.given, region.predicted, region.area, region.box
    (0, 1, 25, (2, 2, 7, 7))
    """
    differs = (label != predicted) & (label != IGNORE)
    depth = cv2.distanceTransform(np.pad(differs, 1).view(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    regions = []
    for predicted_class in np.unique(predicted[differs & (depth >= min_depth)]).tolist():
        of_class = (differs & (predicted == predicted_class)).view(np.uint8)
        inner = cv2.distanceTransform(np.pad(of_class, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(of_class, connectivity=4, ltype=cv2.CV_32S)
        for number in np.unique(numbers[inner >= min_depth]).tolist():
            left, top, width, height, area = (int(value) for value in stats[number])
            inside = np.s_[top : top + height, left : left + width]
            mask = numbers[inside] == number
            given_prob = float(np.exp(np.log(np.clip(given_probs[inside][mask].astype(np.float64), MIN_PROB, 1)).mean()))
            if given_prob > MAX_GIVEN_PROB:
                continue
            sure = predicted_probs[inside][mask].astype(np.float64)
            regions.append(
                DoubtfulRegion(
                    int(np.bincount(label[inside][mask]).argmax()), int(predicted_class), area, (left, top, left + width, top + height),
                    given_prob, float(sure.mean()), mask,
                    np.bincount((np.clip(sure, 0, 1) * (_BINS - 1)).astype(np.int64), minlength=_BINS),
                )
            )  # fmt: skip
    return ranked(regions)[:MAX_REGIONS]


def ranked(regions: Sequence[DoubtfulRegion]) -> list[DoubtfulRegion]:
    """Return regions with the most evidence first; of equal ones the upper, then the left one."""
    return sorted(regions, key=lambda region: (-region.evidence, region.box[1], region.box[0]))
