"""Distances on the pixel grid: to a set of pixels, and to the contour of a class. In pixels, between centres."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from upscore.errors import DataError
from upscore.types import IGNORE

__all__ = ["distances_to", "signed_distances"]

MAX_OPENCV_DIAGONAL = 1024
"""The largest diagonal, in pixels, for which OpenCV's distance transform is used, some ten times faster than SciPy's.

Its last digit differs from call to call, which would break bit-identical resume; up to here the squares of the distances
round to the whole numbers that they are.
"""


def distances_to(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return each pixel's Euclidean distance to the nearest of ``pixels`` (H, W), exact; infinite where there is none.

    It is 0 on the pixels themselves, 1 beside them. A DataError is raised where ``pixels`` is no mask of two axes.
    """
    if pixels.ndim != 2 or pixels.dtype != np.bool_:
        raise DataError(f"found a mask of shape {pixels.shape} and type {pixels.dtype}, expected (H, W) bool")
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    if math.hypot(*pixels.shape) > MAX_OPENCV_DIAGONAL:
        return np.asarray(distance_transform_edt(~pixels), np.float32)
    found = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.sqrt(np.rint(np.square(found, dtype=np.float64))), np.float32)


def signed_distances(label: npt.NDArray[Any], label_class: int) -> npt.NDArray[np.float32]:
    """Return each pixel's distance to the contour of a class, negative inside.

    The contour runs halfway between the centres of a pixel of the class and a valid pixel of
    another: -½ and ½ beside it. Towards ignored pixels there is no contour, since nobody
    knows where the class ends.

    ``label`` is (H, W), the class of each pixel or 255; a DataError is raised where it is not integers of two axes. Distances are
    zero everywhere when there is no contour: the class has no pixel, or every valid one. At ignored pixels they are undefined.
    """
    if label.ndim != 2 or label.dtype.kind not in "iu":
        raise DataError(f"found labels of shape {label.shape} and type {label.dtype}, expected (H, W) integers")
    inside = label == label_class
    outside = ~inside & (label != IGNORE)
    if not (inside.any() and outside.any()):
        return np.zeros(label.shape, np.float32)
    half = np.float32(0.5)
    return np.where(inside, half - distances_to(outside), distances_to(inside) - half)
