"""Images of any size in bounded memory, with the very result of the whole image.

::

      image            crop = tile + margins         every output pixel
    ┌───┬───┬───┐      ┌ ─ ─ ─ ─ ─ ┐                   belongs to one tile
    │   │   │   │        ┌───────┐    margin: half
    ├───┼───┼───┤      │ │ tile  │ │  the field of view
    │   │ ▒ │   │  ->    │ kept  │                ->   labels and probabilities
    ├───┼───┼───┤      │ └───────┘ │                   equal one pass over
    │   │   │   │                                      everything
    └───┴───┴───┘      └ ─ ─ ─ ─ ─ ┘

A network looks a bounded distance around each pixel. A tile that is read with that much
real context and whose crop begins on the network's stride therefore computes the very
cells that the whole image would: nothing is blended, because there is nothing to hide.
At the image's edges the margin is cut, so that the network's own padding stands where it
would stand anyway. A tile can be written and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor

from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.tile_grid import Window, plan_tiles

__all__ = ["iterate_tiles", "tiled"]


def iterate_tiles(
    segmenter: Callable[[Tensor], Tensor],
    image: npt.NDArray[np.uint8],
    *,
    tile: int,
    margin: int,
    stride: int,
    grain: int = 1,
) -> Iterator[tuple[Window, Tensor]]:
    """Segment an image tile by tile; memory is that of one tile whatever the image's size.

    Parameters
    ----------
    segmenter : callable
        images (1, 3, h, w) float32 -> probs (1, K, h, w).
    image : (H, W, 3) uint8
        RGB; only a tile of it at a time becomes floating point, so a memory map will do.
    tile, margin, stride, grain : int
        As in :func:`upscore.inference.tile_grid.plan_tiles`. With the network's own margin and stride
        (``Geometry.margin()``, ``Geometry.jump``) the result equals the whole image's.

    Yields
    ------
    window : Window
        Where the tile lies.
    probs : (K, h, w) float32
        Its probabilities, on the segmenter's device.

    Raises
    ------
    GeometryError
        As :func:`upscore.inference.tile_grid.plan_tiles`.
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
        As in :func:`upscore.inference.tile_grid.plan_tiles`.

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
