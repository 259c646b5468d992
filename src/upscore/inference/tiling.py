"""Images of any size in bounded memory: in tiles that give the very result of the whole image, or nearly that.

::

      image            crop = tile + margins         every output pixel
    ┌───┬───┬───┐      ┌ ─ ─ ─ ─ ─ ┐                   belongs to one tile
    │   │   │   │        ┌───────┐    margin: half
    ├───┼───┼───┤      │ │ tile  │ │  the receptive
    │   │ ▒ │   │  ->    │       │    field           ->   labels and probabilities
    ├───┼───┼───┤      │ └───────┘ │                   equal one pass over
    │   │   │   │                                      the whole image
    └───┴───┴───┘      └ ─ ─ ─ ─ ─ ┘

A network with a bounded receptive field computes, from a crop with that much real context that begins
on the network's stride, the very cells that it computes from the whole image: nothing is blended, because
there is nothing to hide. At the image's edges the margin ends, so that the network's own padding stands where
it would stand anyway. A tile can be written and forgotten.

No margin does that for a network whose receptive field is unbounded. Its tiles overlap and are blended
(:mod:`upscore.inference.blended_tiles`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from upscore.inference.blended_tiles import blend_tiles
from upscore.inference.segmenter import Segmenter, SegmenterWrapper
from upscore.inference.tile_grid import Window, plan_tiles, widen

__all__ = ["TiledSegmenter", "Tiles", "tiled"]


class Tiles(NamedTuple):
    """How images are tiled; a tile as large as the image is the image.

    Parameters
    ----------
    tile : int
        Longest side of a tile in pixels.
    margin : int or None
        Context around a tile in pixels; None where no margin would do, and tiles overlap.
    stride, multiple : int
        As in :func:`upscore.inference.tile_grid.plan_tiles`. With the network's own margin and stride
        (``Geometry.margin()``, ``Segmenter.stride``) the result equals the whole image's.
    """

    tile: int
    margin: int | None
    stride: int
    multiple: int = 1

    def walk(
        self, predict: Callable[[Window], Tensor], height: int, width: int, *, within: Window | None = None
    ) -> Iterator[tuple[Window, Tensor]]:
        """Predict an image tile by tile.

        Parameters
        ----------
        predict : callable
            A crop's window -> its probabilities, or scores, (N, K, h, w).
        height, width : int
            Of the image.
        within : Window, optional
            Only as many tiles as it needs are predicted; what they hold outside of it does not count.

        Yields
        ------
        window : Window
            Each pixel, or each of ``within``, is in exactly one.
        values : (N, K, h, w) tensor
            What was predicted there.

        Raises
        ------
        GeometryError
            As :func:`upscore.inference.tile_grid.plan_tiles` or :func:`upscore.inference.tile_grid.plan_spans`.
        """
        tile, margin, stride, multiple = self
        if margin is None:
            yield from blend_tiles(predict, height, width, tile=tile, stride=stride, multiple=multiple, within=within)
            return
        read = within or Window(0, 0, height, width)
        region = widen(read, height, width, margin=margin, stride=stride, multiple=multiple)
        size = region.bottom - region.top, region.right - region.left
        for planned in plan_tiles(*size, tile=tile, margin=margin, stride=stride, multiple=multiple):
            values = predict(planned.crop.moved(region.top, region.left))
            yield planned.window.moved(region.top, region.left), values[(..., *planned.inside)]


class TiledSegmenter(SegmenterWrapper):
    """A segmenter that works through its images in tiles.

    The network's memory is bounded; the result (N, K, H, W) is held whole, since
    that is what a segmenter returns. :meth:`Tiles.walk` holds only a tile of it.
    """

    def __init__(self, segmenter: Segmenter, tiles: Tiles) -> None:
        super().__init__(segmenter)
        self.tiles = tiles

    def apply(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return ``function`` of ``images``, computed tile by tile."""
        height, width = images.shape[-2:]
        result: Tensor | None = None
        for window, values in self.tiles.walk(lambda crop: function(images[(..., *crop.slices)]), height, width):
            if result is None:
                result = values.new_empty((*values.shape[:2], height, width))
            result[(..., *window.slices)] = values
        assert result is not None
        return result


def tiled(segmenter: Segmenter, *, tile: int, margin: int | None, stride: int, multiple: int = 1) -> TiledSegmenter:
    """Wrap ``segmenter`` so that it works through its images in tiles; see :class:`Tiles` for the arguments."""
    return TiledSegmenter(segmenter, Tiles(tile, margin, stride, multiple))
