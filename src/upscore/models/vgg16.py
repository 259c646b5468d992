"""VGG16 made fully convolutional, as FCN's authors cast it.

Simonyan, Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image
Recognition", configuration D, with the linear layers of Long, Shelhamer, Darrell (2015)::

    conv1 ×2 ─ pool1 ─ conv2 ×2 ─ pool2 ─ conv3 ×3 ─ pool3 ─ conv4 ×3 ─ pool4 ─ conv5 ×3 ─ pool5 ─ fc6 ─ fc7
      /1                 /2                 /4        │ /8               │ /16              /32     7×7   1×1
                                                      └─ tap 8           └─ tap 16                         └─ tap 32

conv1_1 pads by 100 and pooling rounds up, so that fc6 fits into any image and the
papers' crops are legal for every size. Dropout is element-wise, as in Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.backbone import WIDE, FeatureLevel, Padding, check_settings
from upscore.models.encoder_decoder import init_weights
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.ops.geometry import Geometry

__all__ = ["VGG16"]


@dataclass(frozen=True)
class _Layer:
    """A row of the table; a layer without channels is a pooling."""

    name: str
    kernel: int
    channels: int = 0
    stride: int = 1
    padding: int = 0


def _stage(number: int, convolutions: int, channels: int) -> list[_Layer]:
    convs = [_Layer(f"conv{number}_{i}", 3, channels, padding=1) for i in range(1, convolutions + 1)]
    return [*convs, _Layer(f"pool{number}", 2, stride=2)]


_TABLE = (
    *_stage(1, 2, 64),
    *_stage(2, 2, 128),
    *_stage(3, 3, 256),
    *_stage(4, 3, 512),
    *_stage(5, 3, 512),
    _Layer("fc6", 7, 4096),
    _Layer("fc7", 1, 4096),
)
_TAPS = {"pool3": 8, "pool4": 16, "fc7": 32}
_FINER = {"pool1": 2, "pool2": 4}


class VGG16(nn.Module):
    """The backbone of FCN-32s, 16s and 8s, from the image to fc7.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of every layer; 1 is the paper's. Small ones make
        networks that train in seconds.
    dropout : float
        Probability after fc6 and fc7, element by element.
    batch_norm : bool
        Normalise after each of the 13 convolutions (not fc6 and fc7, whose map may be a
        single cell), which lets a network train from scratch.
    padding : int
        Of conv1_1. 100 or more covers every image by itself; with less, the architecture
        pads the image.
    finer : bool
        Also give pool1 and pool2, of stride 2 and 4.

    Raises
    ------
    ModelError
        An argument is out of range.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = False,
        padding: int = WIDE,
        finer: bool = False,
    ) -> None:
        super().__init__()
        check_settings("VGG16", width=width, dropout=dropout, padding=padding)
        if not isinstance(batch_norm, bool):
            raise ModelError(f"found batch_norm {batch_norm!r}, expected true or false")
        self.batch_norm = batch_norm
        self.padding: Padding = "wide" if padding >= WIDE else "covering"
        self.levels: dict[int, FeatureLevel] = {}
        self._strides = _FINER | _TAPS if finer else _TAPS
        geometry, channels = Geometry(), in_channels
        for layer in _TABLE:
            pad = padding if layer.name == "conv1_1" else layer.padding
            geometry = geometry.conv(layer.kernel, layer.stride, pad)
            if layer.channels:
                wider = max(1, round(layer.channels * width))
                self.add_module(layer.name, nn.Conv2d(channels, wider, layer.kernel, padding=pad))
                if batch_norm and layer.name.startswith("conv"):
                    self.add_module(_norm_name(layer.name), nn.BatchNorm2d(wider))
                channels = wider
            if layer.name in self._strides:
                self.levels[self._strides[layer.name]] = FeatureLevel(channels, geometry)
        self.dropout = nn.Dropout(dropout)
        init_weights(self)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return pool3, pool4 and fc7 by their strides 8, 16 and 32, and the finer ones if asked for.

        Parameters
        ----------
        x : (N, C, H, W) float
            Normalised images; with padding 100 any H and W from 1.
        """
        seen: dict[int, Tensor] = {}
        for layer in _TABLE:
            if not layer.channels:
                x = F.max_pool2d(x, layer.kernel, layer.stride, ceil_mode=True)
            else:
                x = self.get_submodule(layer.name)(x)
                if self.batch_norm and layer.name.startswith("conv"):
                    x = self.get_submodule(_norm_name(layer.name))(x)
                x = F.relu(x, inplace=True)
                if layer.name.startswith("fc"):
                    x = self.dropout(x)
            if layer.name in self._strides:
                seen[self._strides[layer.name]] = x
        return seen


def _norm_name(conv: str) -> str:
    return conv.replace("conv", "bn")
