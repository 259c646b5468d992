"""Images of any size in bounded memory for networks that look at the whole image: overlapping tiles, blended.

Squeeze-and-excitation, attention and global pooling see every pixel, so that no margin makes tiles
equal to one pass over everything (:mod:`upscore.inference.tiling`). Each tile is then an image by
itself; neighbours share a quarter of it, over which one fades out as the next fades in::

    weight  1 ┤──────────╮         ╭─────        the two always add up to 1, so that nothing
              │  tile 1   ╲       ╱   tile 2     is divided: a network that says the same
              │            ╲     ╱               everywhere says that, and where tiles agree
            0 ┤─────────────╲───╱──────          the result is theirs
                        └ shared ┘

The result is near that of the whole image, not equal to it. Memory is that of one tile and of
one strip of shared pixels across the image's shorter side, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.tile_grid import Span, Window, plan_spans

__all__ = ["blended", "iterate_blended"]


def iterate_blended(
    segmenter: Callable[[Tensor], Tensor],
    image: npt.NDArray[np.uint8],
    *,
    tile: int,
    stride: int,
    grain: int = 1,
    within: Window | None = None,
) -> Iterator[tuple[Window, Tensor]]:
    """Segment an image in overlapping tiles, and yield each piece when all tiles that share it have been heard.

    Parameters
    ----------
    segmenter : callable
        images (1, 3, h, w) float32 -> probs (1, K, h, w).
    image : (H, W, 3) uint8
        RGB; only a tile of it at a time becomes floating point.
    tile, stride, grain : int
        As in :func:`upscore.inference.tile_grid.plan_spans`, along both axes.
    within : Window, optional
        Only pieces that meet it are computed, and what they hold outside of it is not complete.

    Yields
    ------
    window : Window
        Where the piece lies; without ``within`` every pixel is in exactly one.
    probs : (K, h, w) float32
        Its probabilities, on the segmenter's device.

    Raises
    ------
    GeometryError
        As :func:`upscore.inference.tile_grid.plan_spans`.
    """

    def read(rows: slice, columns: slice) -> Tensor:
        return segmenter(image_to_tensor(image[rows, columns])[None])[0]

    yield from _iterate(read, *image.shape[:2], tile=tile, stride=stride, grain=grain, within=within)


def blended(segmenter: Callable[[Tensor], Tensor], *, tile: int, stride: int, grain: int = 1) -> Callable[[Tensor], Tensor]:
    """Wrap ``segmenter`` so that it works through its images in overlapping tiles.

    The network's memory is bounded; the probabilities (N, K, H, W) are held whole, since that is
    what a segmenter returns. Use :func:`iterate_blended` to hold only pieces of them.

    Parameters
    ----------
    segmenter : callable
        images -> probs, or scores.
    tile, stride, grain : int
        As in :func:`iterate_blended`.

    Returns
    -------
    callable
        A segmenter with nearly the same result; the very same for images no larger than a tile.
    """

    def segment(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if max(height, width) <= tile:
            return segmenter(images)
        together: Tensor | None = None
        for number, image in enumerate(images):

            def read(rows: slice, columns: slice, image: Tensor = image) -> Tensor:
                return segmenter(image[None, :, rows, columns])[0]

            for window, probs in _iterate(read, height, width, tile=tile, stride=stride, grain=grain):
                if together is None:
                    together = probs.new_empty((len(images), len(probs), height, width))
                together[(number, slice(None), *window.slices)] = probs
        assert together is not None
        return together

    return segment


def _iterate(
    read: Callable[[slice, slice], Tensor], height: int, width: int, *, tile: int, stride: int, grain: int, within: Window | None = None
) -> Iterator[tuple[Window, Tensor]]:
    """Yield the pieces in strips across the shorter side, of which only the shared part of the last is kept."""
    within = within or Window(0, 0, height, width)
    rows = _meeting(plan_spans(height, span=tile, stride=stride, grain=grain), within.top, within.bottom)
    columns = _meeting(plan_spans(width, span=tile, stride=stride, grain=grain), within.left, within.right)
    turned = width > height
    strips, along = (columns, rows) if turned else (rows, columns)
    shared: dict[int, Tensor] = {}  # of the strip before, by where the piece begins
    for strip in strips:
        beside: Tensor | None = None  # what the tile before says of the pixels it shares with this one
        for span in along:
            down, right = (span, strip) if turned else (strip, span)
            probs = read(slice(down.first, down.last), slice(right.first, right.last))
            probs = probs[:, down.begin - down.first : down.end - down.first, right.begin - right.first : right.end - right.first]
            probs = probs.mT if turned else probs
            said = probs * _weights(strip, probs)[:, None] * _weights(span, probs)
            if beside is not None and span.fades_in:
                said[..., : span.fades_in] += beside
            beside = said[..., span.next - span.begin :].clone()
            said = said[..., : span.next - span.begin]
            if strip.fades_in and (above := shared.pop(span.begin, None)) is not None:
                said[:, : strip.fades_in] += above
            if strip.fades_out:
                shared[span.begin] = said[:, strip.next - strip.begin :].clone()
            piece = said[:, : strip.next - strip.begin]
            yield Window(down.begin, right.begin, down.next, right.next), piece.mT if turned else piece


def _meeting(spans: list[Span], begin: int, end: int) -> list[Span]:
    """Return the spans that say anything of positions ``begin`` to ``end - 1``."""
    return [span for span in spans if span.begin < end and span.end > begin]


def _weights(span: Span, like: Tensor) -> Tensor:
    """Return what a span's positions weigh; those of neighbours add up to 1 where they share."""
    weights = torch.ones(span.end - span.begin, dtype=like.dtype, device=like.device)
    for count, ends in ((span.fades_in, slice(None, span.fades_in)), (span.fades_out, slice(span.next - span.begin, None))):
        if count:
            ramp = torch.arange(1, 2 * count, 2, dtype=like.dtype, device=like.device) / (2 * count)
            weights[ends] = ramp if ends.start is None else 1 - ramp
    return weights
