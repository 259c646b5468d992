"""VGG16 made fully convolutional, as FCN's authors cast it.

Simonyan, Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image
Recognition", configuration D, with the linear layers of Long, Shelhamer, Darrell (2015)::

    conv1 ×2 ─ pool1 ─ conv2 ×2 ─ pool2 ─ conv3 ×3 ─ pool3 ─ conv4 ×3 ─ pool4 ─ conv5 ×3 ─ pool5 ─ fc6 ─ fc7
      /1                 /2                 /4        │ /8               │ /16              /32     7×7   1×1
                                                      └─ tap 8           └─ tap 16                         └─ tap 32

conv1_1 pads by 100 and pooling rounds up, so that fc6 fits into any picture and the
papers' crops are legal for every size. Dropout is element-wise, as in Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.models.trunk import Padding, Tap
from upscore.ops.geometry import Geometry

__all__ = ["VGG16"]

WIDE = 100


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
    """The trunk of FCN-32s, 16s and 8s, from the picture to fc7.

    Parameters
    ----------
    in_channels : int
        Channels of the picture.
    width : float
        Factor on the number of channels of every layer; 1 is the paper's. Small ones make
        networks that train in seconds.
    dropout : float
        Probability after fc6 and fc7, element by element.
    batch_norm : bool
        Normalise after each of the 13 convolutions (not fc6 and fc7, whose map may be a
        single cell), which lets a network train from scratch.
    padding : int
        Of conv1_1. 100 or more covers every picture by itself; with less, the architecture
        pads the picture.
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
        if not 0 < width <= 4:
            raise ModelError(f"found width {width}, expected above 0 and at most 4: 1 is the paper's VGG16")
        if not 0 <= dropout < 1:
            raise ModelError(f"found dropout {dropout}, expected at least 0 and below 1")
        if not isinstance(batch_norm, bool):
            raise ModelError(f"found batch_norm {batch_norm!r}, expected true or false")
        if not isinstance(padding, int) or not 0 <= padding <= 2 * WIDE:
            raise ModelError(f"found padding {padding}, expected 0 to {2 * WIDE}: the paper's is {WIDE}")
        self.batch_norm = batch_norm
        self.padding: Padding = "wide" if padding >= WIDE else "covering"
        self.taps: dict[int, Tap] = {}
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
                self.taps[self._strides[layer.name]] = Tap(channels, geometry)
        self.dropout = nn.Dropout(dropout)
        self._initialize()

    def _initialize(self) -> None:
        """Draw weights that keep the variance through ReLUs (He et al. 2015, eq. 10); biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return pool3, pool4 and fc7 by their strides 8, 16 and 32, and the finer ones if asked for.

        Parameters
        ----------
        x : (N, C, H, W) float
            Normalised pictures; with padding 100 any H and W from 1.
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


def torchvision_names(*, batch_norm: bool = False) -> dict[str, str]:
    """Return torchvision's and timm's layer names for VGG16, each with the paper's.

    Parameters
    ----------
    batch_norm : bool
        The names of ``vgg16_bn``.

    Returns
    -------
    dict of str to str
        ``"features.0"`` to ``"conv1_1"`` and so on, ``"classifier.0"`` to ``"fc6"``.
    """
    names, index = {}, 0
    for layer in _TABLE:
        if layer.name.startswith("conv"):
            names[f"features.{index}"] = layer.name
            if batch_norm:
                names[f"features.{index + 1}"] = _norm_name(layer.name)
            index += 3 if batch_norm else 2
        else:
            index += 1
    return names | {"classifier.0": "fc6", "classifier.3": "fc7", "pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7"}
