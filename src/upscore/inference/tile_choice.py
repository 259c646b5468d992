"""Which tiles an image of a size is labelled in, so that exactness and memory are both had where they can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from upscore.errors import GeometryError
from upscore.inference.segmenter import Segmenter
from upscore.inference.tiling import Tiles
from upscore.inference.tta import tta_context
from upscore.settings import InferenceSettings

__all__ = ["MIN_BLENDED_TILE", "WHOLE_PIXELS", "TileContext", "choose_tiles", "context_of"]

WHOLE_PIXELS = {"cpu": 1_500_000, "cuda": 4_000_000, "mps": 2_000_000}
"""Images of at most this many pixels are labelled in one pass under ``tile="auto"``."""

AUTO_TILES = (256, 1024)
"""The sides between which ``tile="auto"`` chooses; with its margins a tile is about ``WHOLE_PIXELS``."""

MIN_BLENDED_TILE = 256
"""The shortest side of blended tiles: a network that needs the whole image sees too little of it in smaller ones."""


class TileContext(NamedTuple):
    """What tiles need around them; ``margin`` is None where no margin would do."""

    margin: int | None
    stride: int
    multiple: int


def context_of(segmenters: Sequence[Segmenter], settings: InferenceSettings) -> TileContext:
    """Return what tiles need, so that every one of the segmenters gives in them what it gives for the whole image."""
    geometries = [segmenter.geometry for segmenter in segmenters]
    margins = [geometry.margin() for geometry in geometries if geometry is not None and geometry.receptive_field != math.inf]
    margin = settings.margin
    if margin is None and len(margins) == len(geometries):
        margin = max(margins, default=0)
    stride = math.lcm(*(segmenter.stride for segmenter in segmenters))
    context, stride, multiple = tta_context(margin=margin or 0, stride=stride, scales=settings.scales)
    return TileContext(None if margin is None else context, stride, multiple)


def choose_tiles(size: tuple[int, int], context: TileContext, settings: InferenceSettings, device: torch.device) -> Tiles:
    """Return the tiles of an image; one tile as large as the image is the whole image.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    context : TileContext
        Of the segmenters that label whole images.
    settings : InferenceSettings
        ``tile`` and ``scales``.
    device : torch.device
        Its memory bounds the tiles of ``tile="auto"``.

    Raises
    ------
    GeometryError
        Tiles of less than ``MIN_BLENDED_TILE`` pixels are set for a network of an unbounded or unknown receptive field, without a margin.
    """
    margin, stride, multiple = context
    tile = _side(size, context, settings, device)
    if margin is None:
        tile = max(-(-tile // stride), 2) * stride
    if tile >= max(size):
        return Tiles(max(size), 0, stride, multiple)
    if margin is None and tile < MIN_BLENDED_TILE:
        raise GeometryError(
            f"found tiles of {tile} and a network whose receptive field is unbounded or not known: use tile "
            f"{MIN_BLENDED_TILE} or more, which then overlap, or 'auto' or 'whole', or give a margin in pixels for tiles of any size"
        )
    return Tiles(tile, margin, stride, multiple)


def _side(size: tuple[int, int], context: TileContext, settings: InferenceSettings, device: torch.device) -> int:
    if settings.tile == "whole":
        return max(size)
    if settings.tile != "auto":
        return settings.tile
    budget = WHOLE_PIXELS.get(device.type, WHOLE_PIXELS["cpu"]) / max(1.0, *settings.scales) ** 2
    if size[0] * size[1] <= budget:
        return max(size)
    side = math.isqrt(int(budget))
    margin = context.margin  # where there is none, the network sees as much of the image as fits
    side = max(side, MIN_BLENDED_TILE) if margin is None else min(max(side - 2 * margin, AUTO_TILES[0]), AUTO_TILES[1])
    return max(side // context.stride, 1) * context.stride
