"""Apply OpenCV to images of any number of bands: its scalars, such as the value beyond an image's edge, have four numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["map_bands"]

_MAX_BANDS = 4


def map_bands(
    function: Callable[[npt.NDArray[Any], tuple[float, ...]], npt.NDArray[Any]], image: npt.NDArray[Any], fill: tuple[float, ...] = ()
) -> npt.NDArray[Any]:
    """Return an image (H, W, C) with ``function`` applied to at most four bands at a time, and joined again.

    ``function`` gets a part of the image and of ``fill``, which has a number for each band. Of a single band it gets, and may return,
    (H, W): OpenCV drops an axis of length 1.

    >>> map_bands(lambda part, fill: part + 1, np.zeros((2, 2, 5), np.uint8)).shape
    (2, 2, 5)
    """
    bands = image.shape[2]
    if 1 < bands <= _MAX_BANDS:
        return function(image, fill)
    parts = []
    for first in range(0, bands, _MAX_BANDS):
        part = image[..., first : first + _MAX_BANDS]
        given = part[..., 0] if part.shape[2] == 1 else np.ascontiguousarray(part)
        result = function(given, fill[first : first + _MAX_BANDS])
        parts.append(result.reshape(*result.shape[:2], part.shape[2]))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
