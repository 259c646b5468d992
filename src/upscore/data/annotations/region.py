"""The pixels that a shape covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["EMPTY", "Region", "place", "unite"]


class Region(NamedTuple):
    """The pixels of a shape inside an image: a rectangle at a row and a column, and which of its pixels are covered."""

    top: int
    left: int
    mask: npt.NDArray[np.bool_]  #: (h, w), which lies inside the image
    clipped: int = 0  #: pixels of the shape beyond the image, as far as they were counted


EMPTY = Region(0, 0, np.zeros((0, 0), np.bool_))
"""A region without pixels."""


def place(mask: npt.NDArray[np.bool_], top: int, left: int, height: int, width: int) -> Region:
    """Return the part of ``mask`` (h, w), whose first pixel is at (top, left), that lies in an image of ``height`` and ``width``.

    >>> region = place(np.ones((2, 3), bool), -1, 2, 10, 4)
    >>> region.top, region.left, region.mask.shape, region.clipped
    (0, 2, (1, 2), 4)
    """
    rows = slice(max(0, -top), max(0, min(mask.shape[0], height - top)))
    columns = slice(max(0, -left), max(0, min(mask.shape[1], width - left)))
    inside = mask[rows, columns]
    beyond = int(np.count_nonzero(mask)) - int(np.count_nonzero(inside)) if inside.size < mask.size else 0
    if inside.size == 0:
        return EMPTY._replace(clipped=beyond)
    return Region(max(0, top), max(0, left), inside, beyond)


def unite(regions: Sequence[Region]) -> Region:
    """Return the pixels of any of several regions."""
    clipped = sum(region.clipped for region in regions)
    shown = [region for region in regions if region.mask.size]
    if len(shown) < 2:
        return (shown or [EMPTY])[0]._replace(clipped=clipped)
    top, left = min(region.top for region in shown), min(region.left for region in shown)
    bottom = max(region.top + region.mask.shape[0] for region in shown)
    right = max(region.left + region.mask.shape[1] for region in shown)
    united = np.zeros((bottom - top, right - left), np.bool_)
    for region in shown:
        height, width = region.mask.shape
        united[region.top - top :, region.left - left :][:height, :width] |= region.mask
    return Region(top, left, united, clipped)
