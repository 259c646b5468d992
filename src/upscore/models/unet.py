"""U-Net as published: valid convolutions, skip connections of whole maps, context mirrored at the edges.

Olaf Ronneberger, Philipp Fischer, Thomas Brox, "U-Net: Convolutional Networks for
Biomedical Image Segmentation", MICCAI 2015 (arXiv 1505.04597), figure 1. Sizes are those of
its 572×572 tile::

    572 ─ 64 ─ 64 ─ 568 ───────── crop 88 ─────────► 392 ─ 128 ─ 64 ─ 64 ─ 388 ─ score ─► logits
                     ▼ pool                           ▲ up
             284 ─ 128 ─ 128 ─ 280 ── crop 40 ──► 200 ─ 256 ─ 128 ─ 128 ─ 196
                                 ▼ pool            ▲ up
                     140 ─ 256 ─ 256 ─ 136 ─ 16 ─► 104 ─ 512 ─ 256 ─ 256 ─ 100
                                         ▼ pool    ▲ up
                          68 ─ 512 ─ 512 ─ 64 ─ 4 ─► 56 ─ 1024 ─ 512 ─ 512 ─ 52
                                            ▼ pool   ▲ up
                                 32 ─ 1024 ─ 1024 ─ 28

    ─ 64 ─   3×3 convolution to 64 channels without padding, ReLU: a pixel is lost on each side
    pool     maxima of 2×2
    crop     cells removed on each side of the contracting map, so that it fits the expanding one
    up       2×2 transposed convolution of stride 2 that halves the channels; its result follows
             the cropped map along the channels
    output   (N, K, H, W) logits of exactly the images' size

A tile of 572 gives 388 pixels: 92 on each side are context. Where the image ends, the
context is its mirror image (figure 2), so that any image can be labelled whole, or tile
by tile with the same result.

Deviations. Normalisation of the image is the first layer.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import size_of
from upscore.models.arguments import check_classes, check_dropout, scale_channels
from upscore.models.encoder_decoder import conv_block, init_weights, propagate_geometry
from upscore.ops.geometry import Geometry
from upscore.ops.mirror import mirror

__all__ = ["UNet"]

CHANNELS = (64, 128, 256, 512, 1024)

CONTEXT = 92
"""Pixels lost on each side."""

GRAIN, MIN_TILE = 16, 188
"""Tiles of 188 pixels, plus any multiple of 16, pool evenly four times; 188 give 4."""


class UNet(nn.Module):
    """Four poolings and four up-convolutions; ModelError where K, the width or the dropout is out of range.

    Parameters and attributes are those of :class:`upscore.models.segnet.SegNet`; the geometry is that of the deepest map, the stride
    is 16, and the paper's images have 1 channel. ``dropout`` is the probability after each of the two deepest contracting stages,
    element by element.

    >>> from upscore.models.normalization import Normalization
    >>> model = UNet(num_classes=2, normalization=Normalization.imagenet(), width=1 / 16)
    >>> tuple(model(torch.zeros(1, 3, 50, 40)).shape), tuple(model.valid(torch.zeros(1, 3, 188, 188)).shape)
    ((1, 2, 50, 40), (1, 2, 4, 4))
    """

    stride = 16

    def __init__(
        self, *, num_classes: int, normalization: nn.Module, in_channels: int = 3, width: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.num_classes = check_classes(num_classes)
        self.normalization = normalization
        widths = [scale_channels(n, width) for n in CHANNELS]
        self.contracting, self.up, self.expanding = nn.Sequential(), nn.Sequential(), nn.Sequential()
        for number, (before, after) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True), start=1):
            self.contracting.add_module(f"stage{number}", _two_convolutions(before, after))
        for number in (4, 3, 2, 1):
            deep, shallow = widths[number], widths[number - 1]
            self.up.add_module(f"stage{number}", nn.ConvTranspose2d(deep, shallow, 2, stride=2))
            self.expanding.add_module(f"stage{number}", _two_convolutions(2 * shallow, shallow))
        self.score = nn.Conv2d(widths[0], num_classes, 1)
        self.dropout = nn.Dropout(check_dropout(dropout))
        init_weights(self)
        self.geometry = self._grid()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        height, width = size_of(images)
        rows, columns = ((CONTEXT, CONTEXT + _to_even_poolings(n)) for n in (height, width))
        logits = self.valid(mirror(self.normalization(images), rows=rows, columns=columns))
        return logits[..., :height, :width]

    def valid(self, x: Tensor) -> Tensor:
        """Return the logits (N, K, H - 184, W - 184) of the centre of normalised tiles (N, C, H, W), as in figure 1.

        H and W are 188, 204, 220, … 572, …; for others, which would not pool evenly, there is a ModelError.
        """
        for side in size_of(x):
            if side < MIN_TILE or (side - MIN_TILE) % GRAIN:
                raise ModelError(
                    f"found a tile of {x.shape[-2]}×{x.shape[-1]} pixels, expected sides of {MIN_TILE}, {MIN_TILE + GRAIN}, … 572, …"
                )
        skips = []
        for number, convolve in enumerate(self.contracting, start=1):
            x = convolve(x)
            x = self.dropout(x) if number >= 4 else x
            if number < len(CHANNELS):
                skips.append(x)
                x = F.max_pool2d(x, 2)
        for up, convolve in zip(self.up, self.expanding, strict=True):
            x = up(x)
            x = convolve(torch.cat((_crop_centre(skips.pop(), size_of(x)), x), 1))
        return cast(Tensor, self.score(x))

    def _grid(self) -> Geometry:
        grid = Geometry(offset=Fraction(-CONTEXT))
        for number, convolve in enumerate(self.contracting, start=1):
            grid = propagate_geometry(convolve, grid if number == 1 else grid.pool(2, 2))
        deepest = grid
        for up, convolve in zip(self.up, self.expanding, strict=True):
            grid = propagate_geometry(convolve, propagate_geometry(up, grid))
        assert grid == Geometry(receptive_field=grid.receptive_field)  # 92 pixels of context land on the image's own
        return replace(deepest, receptive_field=grid.receptive_field)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return conv_block(["conv1", "conv2"], [before, after, after], padding=0)


def _crop_centre(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop (N, C, H, W) to its centre."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


def _to_even_poolings(size: int) -> int:
    """Return the number of pixels beyond its context that an image needs to pool evenly."""
    return GRAIN - 1 - (size + GRAIN - 1 - (MIN_TILE - 2 * CONTEXT)) % GRAIN
