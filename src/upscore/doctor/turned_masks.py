"""Turn a mask as an EXIF orientation tag turns its image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.headers import EXIF_TRANSPOSE

__all__ = ["turn"]


def turn(mask: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return a mask (H, W) turned as an image with this EXIF orientation, 1 to 8, is turned upright.

    >>> turn(np.array([[1, 2]], np.uint8), 6).tolist()
    [[1], [2]]
    """
    if orientation == 1:
        return mask
    return np.array(Image.fromarray(mask).transpose(EXIF_TRANSPOSE[orientation]))
