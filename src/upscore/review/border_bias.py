"""How far the borders of a mask lie outside the predicted ones: objects that are drawn too large, or too small, everywhere."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from upscore.types import IGNORE

__all__ = ["MAX_DISTANCE", "MIN_BORDER", "border_distances", "median_distance"]

MAX_DISTANCE = 12
"""Borders further from the predicted one than this, in pixels, are those of other objects, and not counted."""

MIN_BORDER = 200
"""Pixels of borders for which a median is known."""

_STEPS = 4  # of the histogram to a pixel


def border_distances(label: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int64]:
    """Return, for each class, a histogram (K, 97) of the signed distances of its borders in a mask to those in the prediction.

    A border pixel is one of the class beside one of another; pixels beside ignored ones and at the image's edge are left out. Distances
    are positive where the mask's border lies outside the predicted region; the histogram has bins of a quarter of a pixel from
    -:data:`MAX_DISTANCE` to :data:`MAX_DISTANCE`.

    >>> label, predicted = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    >>> label[7:33, 7:33], predicted[10:30, 10:30] = 1, 1
    >>> median_distance(border_distances(label, predicted, 2)[1], min_border=20)
    3.0
    """
    counts = np.zeros((classes, 2 * MAX_DISTANCE * _STEPS + 1), np.int64)
    window = np.ones((3, 3), np.uint8)
    inside_image = np.zeros(label.shape, bool)
    inside_image[1:-1, 1:-1] = True
    inside_image &= cv2.dilate((label == IGNORE).astype(np.uint8), window) == 0
    for label_class in np.unique(label[label != IGNORE]).tolist():
        given, there = (label == label_class).astype(np.uint8), (predicted == label_class).astype(np.uint8)
        border = (given > cv2.erode(given, window)) & inside_image
        if not border.any() or not there.any() or there.all():
            continue
        outside = cv2.distanceTransform(1 - there, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        inside = cv2.distanceTransform(there, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # The innermost pixels of both sides are 1 from the other side: a pixel on the predicted border has the distance 0.
        signed = np.where(there[border] > 0, 1 - inside[border], outside[border])
        near = signed[np.abs(signed) <= MAX_DISTANCE]
        counts[label_class] += np.bincount(np.rint((near + MAX_DISTANCE) * _STEPS).astype(np.int64), minlength=counts.shape[1])
    return counts


def median_distance(histogram: npt.NDArray[np.int64], *, min_border: int = MIN_BORDER) -> float:
    """Return the median of a class's distances in pixels; NaN where fewer than ``min_border`` pixels are counted."""
    total = int(histogram.sum())
    if total < max(1, min_border):
        return float("nan")
    return float(np.searchsorted(histogram.cumsum(), total / 2)) / _STEPS - MAX_DISTANCE
