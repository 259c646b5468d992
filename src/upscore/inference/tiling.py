"""Pictures of any size in bounded memory, with the very result of the whole picture.

::

      picture            crop = tile + margins         every output pixel
    ┌───┬───┬───┐      ┌ ─ ─ ─ ─ ─ ┐                   belongs to one tile
    │   │   │   │        ┌───────┐    margin: half
    ├───┼───┼───┤      │ │ tile  │ │  the field of view
    │   │ ▒ │   │  ->    │ kept  │                ->   labels and probabilities
    ├───┼───┼───┤      │ └───────┘ │                   equal one pass over
    │   │   │   │                                      everything
    └───┴───┴───┘      └ ─ ─ ─ ─ ─ ┘

A network looks a bounded distance around each pixel. A tile that is read with that much
real context and whose crop begins on the network's stride therefore computes the very
cells that the whole picture would: nothing is blended, because there is nothing to hide.
At the picture's edges the margin is cut, so that the network's own padding stands where it
would stand anyway. A tile can be written and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.errors import GeometryError

__all__ = ["Tile", "Window", "image_to_tensor", "iterate_tiles", "plan_tiles", "tiled"]


class Window(NamedTuple):
    """A rectangle of pixels: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an (H, W) array with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Tile(NamedTuple):
    """What a tile keeps (``window``) and what is read to compute it (``crop``)."""

    window: Window
    crop: Window

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the window lies within the crop."""
        top, left = self.window.top - self.crop.top, self.window.left - self.crop.left
        return slice(top, top + self.window.bottom - self.window.top), slice(left, left + self.window.right - self.window.left)


def plan_tiles(height: int, width: int, *, tile: int, margin: int, stride: int, grain: int = 1) -> Iterator[Tile]:
    """Divide a picture into tiles, row by row.

    Parameters
    ----------
    height, width : int
        Size of the picture in pixels, each at least 1.
    tile : int
        Greatest side of a tile in pixels, taken up to the next multiple of ``stride``.
        Tiles are then made as equal as the stride allows, so that none is a sliver.
    margin : int
        Least context in pixels around a tile, cut at the picture's edges.
    stride : int
        Crops begin on multiples of it, and end a multiple of it before the picture's end,
        so that a mirrored crop is in step with the mirrored picture too.
    grain : int
        Multiple to which the segmenter first pads its pictures at the end
        (:func:`upscore.inference.averaging.averaging_context`); ``stride`` is a multiple of it.

    Yields
    ------
    Tile
        The windows cover every pixel exactly once.

    Raises
    ------
    GeometryError
        A size is not positive, or ``stride`` is not a multiple of ``grain``.
    """
    if min(height, width, tile, stride, grain) < 1 or margin < 0 or stride % grain:
        raise GeometryError(
            f"found picture {height}×{width}, tile {tile}, margin {margin}, stride {stride}, grain {grain}: "
            "expected positive sizes, margin at least 0 and a stride that is a multiple of grain"
        )
    columns = list(_plan_axis(width, tile=tile, margin=margin, stride=stride, grain=grain))
    for (top, bottom), (upper, lower) in _plan_axis(height, tile=tile, margin=margin, stride=stride, grain=grain):
        for (left, right), (first, last) in columns:
            yield Tile(Window(top, left, bottom, right), Window(upper, first, lower, last))


def iterate_tiles(
    segmenter: Callable[[Tensor], Tensor],
    image: npt.NDArray[np.uint8],
    *,
    tile: int,
    margin: int,
    stride: int,
    grain: int = 1,
) -> Iterator[tuple[Window, Tensor]]:
    """Segment a picture tile by tile; memory is that of one tile whatever the picture's size.

    Parameters
    ----------
    segmenter : callable
        images (1, 3, h, w) float32 -> probs (1, K, h, w).
    image : (H, W, 3) uint8
        RGB; only a tile of it at a time becomes floating point, so a memory map will do.
    tile, margin, stride, grain : int
        As in :func:`plan_tiles`. With the network's own margin and stride
        (``Geometry.margin()``, ``Geometry.jump``) the result equals the whole picture's.

    Yields
    ------
    window : Window
        Where the tile lies.
    probs : (K, h, w) float32
        Its probabilities, on the segmenter's device.

    Raises
    ------
    GeometryError
        As :func:`plan_tiles`.
    """
    height, width = image.shape[:2]
    for piece in plan_tiles(height, width, tile=tile, margin=margin, stride=stride, grain=grain):
        probs = segmenter(image_to_tensor(image[piece.crop.slices])[None])
        yield piece.window, probs[0][(slice(None), *piece.inside)]


def tiled(segmenter: Callable[[Tensor], Tensor], *, tile: int, margin: int, stride: int, grain: int = 1) -> Callable[[Tensor], Tensor]:
    """Wrap ``segmenter`` so that it works through its images in tiles.

    The network's memory is bounded; the probabilities (N, K, H, W) are held whole, since
    that is what a segmenter returns. Use :func:`iterate_tiles` to hold only a tile of them.

    Parameters
    ----------
    segmenter : callable
        images -> probs.
    tile, margin, stride, grain : int
        As in :func:`plan_tiles`.

    Returns
    -------
    callable
        A segmenter with the same result.
    """

    def segment(images: Tensor) -> Tensor:
        probs: Tensor | None = None
        for piece in plan_tiles(images.shape[-2], images.shape[-1], tile=tile, margin=margin, stride=stride, grain=grain):
            part = segmenter(images[(..., *piece.crop.slices)])
            if probs is None:
                probs = part.new_empty((*part.shape[:2], *images.shape[-2:]))
            probs[(..., *piece.window.slices)] = part[(..., *piece.inside)]
        assert probs is not None
        return probs

    return segment


def image_to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """Return ``image`` (H, W, 3) uint8 as a (3, H, W) float32 tensor in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32, order="C")).div_(255)


def _plan_axis(size: int, *, tile: int, margin: int, stride: int, grain: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield ((begin, end) of the window, (begin, end) of the crop) along one axis."""
    count = _ceil(size, _ceil(tile, stride)) // _ceil(tile, stride)
    side = _ceil(-(-size // count), stride)
    padded = _ceil(size, grain)
    for begin in range(0, size, side):
        end = min(begin + side, size)
        first = max(0, begin - margin) // stride * stride
        last = padded - max(0, padded - end - margin) // stride * stride
        yield (begin, end), (first, min(last, size))


def _ceil(size: int, multiple: int) -> int:
    """Return the least multiple of ``multiple`` that is at least ``size``."""
    return -(-size // multiple) * multiple
