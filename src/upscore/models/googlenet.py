"""GoogLeNet made fully convolutional.

Szegedy et al. (2015), "Going Deeper with Convolutions", figure 3 and table 1, without the
auxiliary classifiers, its last average and its linear layer, as in Long, Shelhamer, Darrell
(2015, §4.1)::

    conv1 ─ pool1 ─ norm ─ conv2 ─ norm ─ pool2 ─ 3a 3b ─ pool3 ─ 4a 4b 4c 4d 4e ─ pool4 ─ 5a 5b
    7×7     /4             1×1, 3×3       /8        │     /16                 │    /32        │
    /2                                              └─ level 8                └─ level 16     └─ level 32

    an inception   ┌─ conv1x1 ───────────────────────┐
                   ├─ conv3x3_reduce ─── conv3x3 ────┤
              x ───┤                                 ├─ channels side by side
                   ├─ conv5x5_reduce ─── conv5x5 ────┤
                   └─ 3×3 maximum ────── pool_proj ──┘

    norm       local response normalisation over five channels
    pool       3×3 maximum of stride 2, rounding up

A ReLU follows every convolution. A cell of 5b sees 715 pixels, and 907 after the classifier's
average over 7×7 cells, the number that FCN's authors report.

``variant="torchvision"`` is the network whose trained weights torchvision has: batch
normalisation after every convolution instead of the two local ones, 3×3 convolutions named
5×5, and a pool4 of 2×2. It was trained on images from -1 to 1.

Deviations. Dropout comes before the classifier's average, which is not part of the backbone.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.arguments import check_dropout, scale_channels
from upscore.models.backbone import FeatureLevel, PaddingMode
from upscore.models.encoder_decoder import init_weights
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.ops.geometry import Geometry

__all__ = ["GoogLeNet"]

INCEPTIONS = {
    #      1×1  reduce 3×3  reduce 5×5  pool_proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of the six convolutions of each inception (table 1 of the paper)."""

_LEVELS = {"3b": 8, "4e": 16, "5b": 32}


class GoogLeNet(nn.Module):
    """The backbone of FCN-GoogLeNet, from the image to inception 5b; ModelError where an argument is out of range.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of every layer; 1 is the paper's.
    dropout : float
        Probability on 5b, element by element.
    variant : {"caffe", "torchvision"}
        Whose layers: the paper's, as in Caffe's model, or torchvision's.

    Examples
    --------
    >>> maps = GoogLeNet(width=1 / 16)(torch.zeros(1, 3, 64, 96))
    >>> {stride: tuple(x.shape) for stride, x in maps.items()}
    {8: (1, 30, 8, 12), 16: (1, 52, 4, 6), 32: (1, 64, 2, 3)}
    """

    padding: PaddingMode = "external"

    def __init__(
        self, *, in_channels: int = 3, width: float = 1.0, dropout: float = 0.4, variant: Literal["caffe", "torchvision"] = "caffe"
    ) -> None:
        super().__init__()
        if variant not in ("caffe", "torchvision"):
            raise ModelError(f"found variant {variant!r}, expected caffe or torchvision")
        batch_norm = variant == "torchvision"
        self.mean, self.std = ((0.5,) * 3, (0.5,) * 3) if batch_norm else (IMAGENET_MEAN, IMAGENET_STD)
        self.last_pool = 2 if batch_norm else 3
        stem, channels = scale_channels(64, width), scale_channels(192, width)
        self.conv1 = Unit(in_channels, stem, 7, stride=2, batch_norm=batch_norm)
        self.conv2_reduce = Unit(stem, stem, 1, batch_norm=batch_norm)
        self.conv2 = Unit(stem, channels, 3, batch_norm=batch_norm)
        self.norm = nn.Identity() if batch_norm else nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.levels: dict[int, FeatureLevel] = {}
        geometry = Geometry().conv(7, 2, 3).pool(3, 2).conv(3, 1, 1).pool(3, 2)
        for name, row in INCEPTIONS.items():
            if name in ("4a", "5a"):
                geometry = geometry.pool(self.last_pool if name == "5a" else 3, 2)
            inception = Inception(channels, *(scale_channels(c, width) for c in row), batch_norm=batch_norm)
            self.add_module(f"inception_{name}", inception)
            geometry, channels = geometry.conv(inception.kernel5x5, 1, inception.kernel5x5 // 2), inception.out_channels
            if name in _LEVELS:
                self.levels[_LEVELS[name]] = FeatureLevel(channels, geometry)
        init_weights(self)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return inceptions 3b, 4e and 5b by their strides 8, 16 and 32, of normalised images (N, C, H, W), H and W from 15."""
        x = self.norm(_pool(self.conv1(x)))
        x = _pool(self.norm(self.conv2(self.conv2_reduce(x))))
        maps: dict[int, Tensor] = {}
        for name in INCEPTIONS:
            if name in ("4a", "5a"):
                x = _pool(x, self.last_pool if name == "5a" else 3)
            x = self.get_submodule(f"inception_{name}")(x)
            if name in _LEVELS:
                maps[_LEVELS[name]] = x
        return maps | {32: self.dropout(x)}


class Inception(nn.Module):
    """Four branches over the same cells, concatenated along the channels; the channels are those of the six convolutions.

    With ``batch_norm`` it is torchvision's: normalised, and its conv5x5 is a 3×3.
    """

    def __init__(
        self, in_channels: int, conv1: int, reduce3: int, conv3: int, reduce5: int, conv5: int, proj: int, *, batch_norm: bool
    ) -> None:
        super().__init__()
        self.kernel5x5 = 3 if batch_norm else 5
        self.out_channels = conv1 + conv3 + conv5 + proj
        self.conv1x1 = Unit(in_channels, conv1, 1, batch_norm=batch_norm)
        self.conv3x3_reduce = Unit(in_channels, reduce3, 1, batch_norm=batch_norm)
        self.conv3x3 = Unit(reduce3, conv3, 3, batch_norm=batch_norm)
        self.conv5x5_reduce = Unit(in_channels, reduce5, 1, batch_norm=batch_norm)
        self.conv5x5 = Unit(reduce5, conv5, self.kernel5x5, batch_norm=batch_norm)
        self.pool_proj = Unit(in_channels, proj, 1, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, conv1 + conv3 + conv5 + proj, H, W) of (N, C, H, W)."""
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.conv3x3_reduce(x)),
            self.conv5x5(self.conv5x5_reduce(x)),
            self.pool_proj(F.max_pool2d(x, 3, 1, padding=1)),
        )
        return torch.cat(branches, dim=1)


class Unit(nn.Module):
    """A padded convolution, batch normalisation where asked for, and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H / stride, W / stride)."""
        return F.relu(cast(Tensor, self.bn(self.conv(x))), inplace=True)


def _pool(x: Tensor, kernel: int = 3) -> Tensor:
    return F.max_pool2d(x, kernel, 2, ceil_mode=True)
