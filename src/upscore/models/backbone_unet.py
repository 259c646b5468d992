"""U-Net on any backbone: the expanding path of the paper, its contracting path a classifier's backbone.

Ronneberger, Fischer, Brox (2015), figure 1, in the form in which it is used today: sizes
are kept, normalised batches, a pretrained encoder::

    images ─ normalization ─ frame ─ backbone ─┬───────┬───────┬───────┬───────┐
    N C H W                                 /2      /4      /8     /16     /32
                                            │       │       │       │       │
                                            │       │       │       ▼       │
                                            │       │       │     join ◄─ ×2 ┘   256
                                            │       │       ▼       │
                                            │       │     join ◄─ ×2 ┘           128
                                            │       ▼       │
                                            │     join ◄─ ×2 ┘                    64
                                            ▼       │
                                          join ◄─ ×2 ┘                            32
                                            │
    logits ◄─ score ◄─ refine ◄──────── ×2 ─┘                                     16

    ×2       bilinear, onto the finer map's own cells: ``Geometry`` says where these lie
    join     both maps along the channels, then two 3×3 convolutions with batch normalisation and ReLU
    refine   two such convolutions at the images' size
    score    3×3: of so few channels a 1×1 layer gains confidence too slowly
    output   (N, K, H, W) logits of exactly the images' size

A backbone without a map of stride 2 leaves that join out, and the last step is ×4. For the
network as published, with valid convolutions and an encoder of its own, see :mod:`upscore.models.unet`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import Frame, Fusion, align_with_image, size_of, with_upsampling_field
from upscore.models.backbone import Backbone
from upscore.models.encoder_decoder import check_classes, init_weights, stage

__all__ = ["BackboneUNet"]


class BackboneUNet(nn.Module):
    """A backbone's maps, joined from the coarsest to the finest.

    Parameters
    ----------
    backbone : Backbone
        Feature maps keyed by stride, each stride twice the one before.
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images in [0, 1] to what the backbone expects.
    channels : int
        At the images' size; each coarser join has twice as many.

    Attributes
    ----------
    geometry : Geometry
        Grid of the coarsest map on the image, with the field of a score; its ``margin()`` is what a tile needs.
    stride : int
        Of the coarsest map, 32.
    num_classes : int
        K.

    Raises
    ------
    ModelError
        K or ``channels`` is out of range, or the backbone's strides do not double.
    GeometryError
        The backbone's grids cannot be aligned with one another or with the image.
    """

    reads_finer_maps = True
    """Strides 2 and 4 are asked of the backbone too."""

    def __init__(self, backbone: Backbone, *, num_classes: int, normalization: nn.Module, channels: int = 16) -> None:
        super().__init__()
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= 1024:
            raise ModelError(f"found {channels!r} channels, expected a whole number from 1 to 1024")
        coarsest, *finer = sorted(backbone.levels, reverse=True)
        if [coarsest >> (i + 1) for i in range(len(finer))] != finer:
            raise ModelError(f"the backbone has feature maps of strides {sorted(backbone.levels)}, expected each twice the one before")
        self.num_classes = check_classes(num_classes)
        self.normalization = normalization
        self.backbone = backbone
        self.stride = coarsest
        deepest = backbone.levels[coarsest]
        self.frame = Frame.around(deepest.geometry, backbone.padding)
        self.fusions: dict[int, Fusion] = {}
        self.doublings, self.joins = nn.ModuleDict(), nn.ModuleDict()
        grid, wide = deepest.geometry, deepest.channels
        steps = []
        for level, stride in zip(range(len(finer), 0, -1), finer, strict=True):
            tap = backbone.levels[stride]
            fusion = Fusion.of(grid, tap.geometry, backbone.padding)
            doubling = fusion.upsample(wide)
            self.fusions[stride], self.doublings[str(stride)] = fusion, doubling
            joined = channels * 2**level
            self.joins[str(stride)] = _two_convolutions(wide + tap.channels, joined)
            grid, wide = fusion.geometry, joined
            steps.append(doubling)
        self.to_image, self.crop = align_with_image(grid, finer[-1] if finer else coarsest, self.frame, wide)
        self.refine = _two_convolutions(wide, channels)
        self.score = nn.Conv2d(channels, num_classes, 3, padding=1)
        for part in (self.joins, self.refine, self.score):
            init_weights(part)
        field = with_upsampling_field(self.frame, deepest.geometry, *steps, self.to_image)
        convolved = 4 * (sum(finer) + 1) + 2  # two 3×3 convolutions at each stride and at the image's, and the score
        self.geometry = replace(field, receptive_field=field.receptive_field + convolved)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        maps = self.backbone(self.frame.pad(self.normalization(images)))
        x = maps[self.stride]
        for stride, fusion in self.fusions.items():
            x = self.joins[str(stride)](torch.cat(fusion.align(x, self.doublings[str(stride)], maps[stride]), 1))
        x = self.refine(self.to_image(x, offset=self.crop, size=size_of(images)))
        return cast(Tensor, self.score(x))


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return stage(["conv1", "conv2"], [before, after, after], norm="{}_bn".format)
