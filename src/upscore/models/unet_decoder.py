"""U-Net on any backbone: the expanding path of the paper as a decoder, its contracting path a classifier's backbone.

Ronneberger, Fischer, Brox (2015), figure 1, in the form in which it is used today: sizes
do not shrink, batches are normalised, the encoder is pretrained::

    images ─ normalization ─ padding ─ backbone ─┬───────┬───────┬───────┬───────┐
    N C H W                                      /2      /4      /8     /16     /32
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
    logits ◄─ score ◄─ refine ◄──────── upscore ─┘                                     16

    ×2       bilinear, onto the finer map's own cells, which ``Geometry`` gives
    join     both maps along the channels, then two 3×3 convolutions with batch normalisation and ReLU
    upscore  bilinear to the images' size
    refine   two such convolutions there
    score    3×3: of so few channels a 1×1 layer gains confidence too slowly
    output   (N, K, H, W) logits of exactly the images' size

A backbone without a map of stride 2 leaves that join out, and the last step is ×4. For the
network as published, with valid convolutions and an encoder of its own, see :mod:`upscore.models.unet`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import SkipFusion
from upscore.models.arguments import check_classes, check_integer
from upscore.models.backbone import Backbone
from upscore.models.encoder_decoder import conv_block, init_weights
from upscore.ops.upsample import BilinearUpsample

__all__ = ["UNetDecoder"]


class UNetDecoder(nn.Module):
    """A backbone's feature maps, joined from the coarsest to the finest.

    Parameters
    ----------
    backbone : Backbone
        All of its feature levels are read; each stride must be twice the one before.
    num_classes : int
        K, 1 to 255.
    channels : int
        At the images' size, 1 to 1024; each coarser join has twice as many.

    Raises
    ------
    ModelError, GeometryError
        A number is out of range, or the backbone's strides do not double; or its grids cannot be aligned with one another.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, channels: int = 16) -> None:
        super().__init__()
        check_integer(channels, 1024, f"{channels!r:.80} channels")
        self.stride, *finer = sorted(backbone.levels, reverse=True)
        if [self.stride >> (i + 1) for i in range(len(finer))] != finer:
            raise ModelError(f"the backbone has feature maps of strides {sorted(backbone.levels)}, expected each twice the one before")
        self.num_classes = check_classes(num_classes)
        self.fusions: dict[int, SkipFusion] = {}
        self.doublings, self.joins = nn.ModuleDict(), nn.ModuleDict()
        self.upsamplings: tuple[BilinearUpsample, ...] = ()
        self.geometry, self.channels = backbone.levels[self.stride].geometry, backbone.levels[self.stride].channels
        for exponent, stride in zip(range(len(finer), 0, -1), finer, strict=True):
            level = backbone.levels[stride]
            fusion = SkipFusion.of(self.geometry, level.geometry, backbone.padding)
            self.upsamplings += (fusion.upsample(self.channels),)
            self.fusions[stride], self.doublings[str(stride)] = fusion, self.upsamplings[-1]
            joined = channels * 2**exponent
            self.joins[str(stride)] = _two_convolutions(self.channels + level.channels, joined)
            self.geometry, self.channels = fusion.geometry, joined
        self.head = nn.Sequential()
        self.head.add_module("refine", _two_convolutions(self.channels, channels))
        self.head.add_module("score", nn.Conv2d(channels, num_classes, 3, padding=1))
        for part in (self.joins, self.head):
            init_weights(part)
        self.context = 4 * (sum(finer) + 1) + 2  # two 3×3 convolutions at each stride and at the image's, and the score

    def forward(self, levels: dict[int, Tensor]) -> Tensor:
        """Return features (N, channels, h, w) at the finest stride of feature maps by stride; ``head`` makes scores of them."""
        x = levels[self.stride]
        for stride, fusion in self.fusions.items():
            doubled, skip = fusion(x, self.doublings[str(stride)], levels[stride])
            x = self.joins[str(stride)](torch.cat((doubled, skip), 1))
        return x


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return conv_block(["conv1", "conv2"], [before, after, after], norm="{}_bn".format)
