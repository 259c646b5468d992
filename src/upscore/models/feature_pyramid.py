"""The simple feature pyramid: maps of all strides from a backbone that has one, or none that is fine enough.

Li, Mao, Girshick, He, "Exploring Plain Vision Transformer Backbones for Object Detection" (2022), section 3 and figure 2. A plain
transformer has one stride from its first layer to its last, and its last map has the strongest features, so every level is made
from that one::

    backbone ─ /16 ─┬─ ×2 transposed, layer norm, GELU ─ ×2 transposed ─ project ─► /4
                    ├─ ×2 transposed ─────────────────────────────────── project ─► /8
                    ├─────────────────────────────────────────────────── project ─► /16
                    └─ 2×2 maximum ───────────────────────────────────── project ─► /32

    transposed  2×2 of stride 2, to half as many channels
    project     1×1, then 3×3, to ``channels``, each followed by layer norm over the channels

These layers are in no file of ImageNet weights: they are trained from scratch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from upscore.models.backbone import FeatureLevel

__all__ = ["FeaturePyramid"]


class FeaturePyramid(nn.Module):
    """Feature levels of ``strides`` from those that a backbone has.

    Parameters
    ----------
    sources : mapping of int to FeatureLevel
        Those of the backbone by stride, each twice the one before. A plain transformer has one.
    strides : sequence of int
        Powers of two. A level finer than all sources is made from the finest, a coarser one from the coarsest; one that the backbone has is
        projected.
    channels : int
        Of every level; the paper's 256.

    Attributes
    ----------
    levels : dict of int to FeatureLevel
        By stride.

    Examples
    --------
    >>> import torch
    >>> from upscore.ops.geometry import Geometry
    >>> pyramid = FeaturePyramid({16: FeatureLevel(192, Geometry(16, 7.5, math.inf))}, (8, 16, 32), channels=4)
    >>> {stride: tuple(x.shape) for stride, x in pyramid({16: torch.rand(1, 192, 6, 4)}).items()}
    {8: (1, 4, 12, 8), 16: (1, 4, 6, 4), 32: (1, 4, 3, 2)}
    >>> [float(level.geometry.offset) for level in pyramid.levels.values()]
    [3.5, 7.5, 15.5]
    """

    def __init__(self, sources: Mapping[int, FeatureLevel], strides: Sequence[int], *, channels: int = 256) -> None:
        super().__init__()
        self.levels: dict[int, FeatureLevel] = {}
        self.source_of: dict[int, int] = {}
        self.paths = nn.ModuleDict()
        for stride in strides:
            source = stride if stride in sources else min(sources) if stride < min(sources) else max(sources)
            geometry, found = sources[source].geometry, sources[source].channels
            layers: list[nn.Module] = []
            for step in range(abs(int(math.log2(stride / source)))):
                if stride > source:
                    layers.append(nn.MaxPool2d(2))
                    geometry = geometry.pool(2, stride=2)
                    continue
                if step:
                    layers += [ChannelNorm(found), nn.GELU()]
                layers.append(nn.ConvTranspose2d(found, max(found // 2, 1), 2, stride=2))
                geometry, found = geometry.deconv(2, stride=2), max(found // 2, 1)
            layers += [nn.Conv2d(found, channels, 1, bias=False), ChannelNorm(channels)]
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), ChannelNorm(channels)]
            self.source_of[stride], self.paths[str(stride)] = source, nn.Sequential(*layers)
            self.levels[stride] = FeatureLevel(channels, replace(geometry, receptive_field=math.inf))

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return (N, channels, h, w) by stride, of the sources' maps (N, C, h', w') by stride."""
        return {stride: self.paths[str(stride)](maps[source]) for stride, source in self.source_of.items()}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised (N, C, H, W)."""
        return F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
