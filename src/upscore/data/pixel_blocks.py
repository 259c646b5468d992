"""Blocks of pixels: large images are converted a block at a time, so that temporary arrays stay small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

__all__ = ["boxes", "flat_blocks", "slices"]

_BLOCK = 2**22  # pixels


def boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left, top, right, bottom) of blocks that cover an image.

    >>> list(boxes(3, 2))
    [(0, 0, 3, 2)]
    """
    across = min(width, _BLOCK)
    down = max(1, _BLOCK // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def slices(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` pixels."""
    for begin in range(0, count, _BLOCK):
        yield slice(begin, min(begin + _BLOCK, count))


def flat_blocks(pixels: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield blocks (n,) or (n, C) of the pixels of an array (H, W) or (H, W, C), in order."""
    flat = pixels.reshape(-1, *pixels.shape[2:])
    for block in slices(len(flat)):
        yield flat[block]
