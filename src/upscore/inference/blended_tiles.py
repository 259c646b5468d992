"""Overlapping tiles, blended: for networks whose receptive field is unbounded.

Squeeze-and-excitation, attention and global pooling see every pixel, so that no margin makes tiles
equal to one pass over the whole image (:mod:`upscore.inference.tiling`). Each tile is then an image of
its own; neighbours overlap by a quarter of it, over which one fades out as the next fades in::

    weight  1 ┤──────────╮         ╭─────        the two always add up to 1, so that nothing
              │  tile 1   ╲       ╱   tile 2     is divided: a network that predicts the same
              │            ╲     ╱               everywhere still does, and where tiles agree
            0 ┤─────────────╲───╱──────          the result is theirs
                        └overlap ┘

The result is near that of the whole image, not equal to it. Memory is that of one tile and of
one strip of overlap across the image's shorter side, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from upscore.inference.tile_grid import Span, Window, plan_spans

__all__ = ["blend_tiles"]


def blend_tiles(
    predict: Callable[[Window], Tensor],
    height: int,
    width: int,
    *,
    tile: int,
    stride: int,
    multiple: int = 1,
    within: Window | None = None,
) -> Iterator[tuple[Window, Tensor]]:
    """Predict an image in overlapping tiles, and yield each window when all tiles that overlap there are predicted.

    Parameters
    ----------
    predict : callable
        A crop's window -> its probabilities, or scores, (N, K, h, w).
    height, width : int
        Of the image.
    tile, stride, multiple : int
        As in :func:`upscore.inference.tile_grid.plan_spans`, along both axes; so are the errors.
    within : Window, optional
        Only windows that meet it are computed, and what they hold outside of it is not complete.

    Yields
    ------
    window : Window
        Without ``within`` every pixel is in exactly one.
    values : (N, K, h, w) tensor
        What was predicted there.
    """
    within = within or Window(0, 0, height, width)
    rows = _meeting(plan_spans(height, span=tile, stride=stride, multiple=multiple), within.top, within.bottom)
    columns = _meeting(plan_spans(width, span=tile, stride=stride, multiple=multiple), within.left, within.right)
    # In strips across the shorter side, of which only the overlap of the last is held.
    transposed = width > height
    strips, along = (columns, rows) if transposed else (rows, columns)
    overlaps: dict[int, Tensor] = {}  # with the strip before, by where the window begins
    for strip in strips:
        beside: Tensor | None = None  # the last tile's part of its overlap with this one
        for span in along:
            down, right = (span, strip) if transposed else (strip, span)
            values = predict(Window(down.first, right.first, down.last, right.last))
            values = values[..., down.begin - down.first : down.end - down.first, right.begin - right.first : right.end - right.first]
            values = values.mT if transposed else values
            weighted = values * _weights(strip, values)[:, None] * _weights(span, values)
            if beside is not None and span.fades_in:
                weighted[..., : span.fades_in] += beside
            beside = weighted[..., span.next - span.begin :].clone()
            weighted = weighted[..., : span.next - span.begin]
            if strip.fades_in and (above := overlaps.pop(span.begin, None)) is not None:
                weighted[..., : strip.fades_in, :] += above
            if strip.fades_out:
                overlaps[span.begin] = weighted[..., strip.next - strip.begin :, :].clone()
            weighted = weighted[..., : strip.next - strip.begin, :]
            yield Window(down.begin, right.begin, down.next, right.next), weighted.mT if transposed else weighted


def _meeting(spans: list[Span], begin: int, end: int) -> list[Span]:
    """Return the spans that predict any of the positions ``begin`` to ``end - 1``."""
    return [span for span in spans if span.begin < end and span.end > begin]


def _weights(span: Span, like: Tensor) -> Tensor:
    """Return the weight of each position of a span; those of neighbours add up to 1 where they overlap."""
    weights = torch.ones(span.end - span.begin, dtype=like.dtype, device=like.device)
    for count, ends in ((span.fades_in, slice(None, span.fades_in)), (span.fades_out, slice(span.next - span.begin, None))):
        if count:
            ramp = torch.arange(1, 2 * count, 2, dtype=like.dtype, device=like.device) / (2 * count)
            weights[ends] = ramp if ends.start is None else 1 - ramp
    return weights
