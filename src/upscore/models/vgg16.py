"""VGG16 made fully convolutional, as in the FCN paper.

Simonyan, Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image
Recognition", configuration D, with the linear layers of Long, Shelhamer, Darrell (2015)::

    conv1 ×2 ─ pool1 ─ conv2 ×2 ─ pool2 ─ conv3 ×3 ─ pool3 ─ conv4 ×3 ─ pool4 ─ conv5 ×3 ─ pool5 ─ fc6 ─ fc7
      /1                 /2                 /4        │ /8               │ /16              /32     7×7   1×1
                                                      └─ level 8         └─ level 16                       └─ level 32

pool3 and pool4 are the first maps of their strides, and what the paper reads. conv4_3 and conv5_3 are the last: as large, on the same
grid, three convolutions deeper (``skips="convolution"``).

conv1_1 pads by 100 and pooling rounds up, so that fc6 fits into any image and the
papers' crops are possible for every size. Dropout is element-wise, as in Caffe.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from upscore.models.arguments import check_dropout, check_flag, scale_channels
from upscore.models.backbone import INPUT_PADDING, FeatureLevel, Skips, check_skips, padding_mode
from upscore.models.encoder_decoder import VGG16_CHANNELS, init_weights
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.ops.geometry import Geometry

__all__ = ["VGG16"]


class VGG16(nn.Module):
    """The backbone of FCN-32s, 16s and 8s, from the image to fc7; ModelError where an argument is out of range.

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
        Of conv1_1. 100 or more is enough for every image; with less, the image is padded before.
    skips : {"pooling", "convolution"}
        Whether the levels of stride 8 and 16 are pool3 and pool4, as in the paper, or conv4_3 and conv5_3.
    finer : bool
        Also return pool1 and pool2, of stride 2 and 4, or conv2_2 and conv3_3.

    Examples
    --------
    >>> import torch
    >>> maps = VGG16(width=1 / 32)(torch.zeros(1, 3, 50, 40))
    >>> {stride: tuple(x.shape) for stride, x in maps.items()}
    {8: (1, 8, 31, 30), 16: (1, 16, 16, 15), 32: (1, 128, 2, 2)}
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
        padding: int = INPUT_PADDING,
        skips: Skips = "pooling",
        finer: bool = False,
    ) -> None:
        super().__init__()
        self.batch_norm = check_flag("batch_norm", batch_norm)
        self.padding = padding_mode(padding)
        self.after_convolution = check_skips(skips)
        strides = (2, 4, 8, 16) if finer else (8, 16)
        self.levels: dict[int, FeatureLevel] = {}
        geometry, channels = Geometry(), in_channels
        for block, widths in enumerate(VGG16_CHANNELS, start=1):
            for i, outputs in enumerate((scale_channels(n, width) for n in widths), start=1):
                pad = padding if block == i == 1 else 1
                self.add_module(f"conv{block}_{i}", nn.Conv2d(channels, outputs, 3, padding=pad))
                if batch_norm:
                    self.add_module(f"bn{block}_{i}", nn.BatchNorm2d(outputs))
                geometry, channels = geometry.conv(3, 1, pad), outputs
            if self.after_convolution and int(geometry.stride) in strides:
                self.levels[int(geometry.stride)] = FeatureLevel(channels, geometry)
            geometry = geometry.pool(2, 2)
            if not self.after_convolution and int(geometry.stride) in strides:
                self.levels[int(geometry.stride)] = FeatureLevel(channels, geometry)
        features = scale_channels(4096, width)
        self.fc6, self.fc7 = nn.Conv2d(channels, features, 7), nn.Conv2d(features, features, 1)
        self.levels[32] = FeatureLevel(features, geometry.conv(7))
        self.dropout = nn.Dropout(check_dropout(dropout))
        init_weights(self)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the levels of stride 8 and 16, and fc7 of stride 32, by stride; and the finer ones if asked for.

        ``x`` are normalised images (N, C, H, W); with padding 100 any H and W from 1.
        """
        maps: dict[int, Tensor] = {}
        for block, widths in enumerate(VGG16_CHANNELS, start=1):
            for i in range(1, len(widths) + 1):
                x = self.get_submodule(f"conv{block}_{i}")(x)
                x = F.relu(self.get_submodule(f"bn{block}_{i}")(x) if self.batch_norm else x, inplace=True)
            if self.after_convolution and 2 ** (block - 1) in self.levels:
                maps[2 ** (block - 1)] = x
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            if not self.after_convolution and 2**block in self.levels and block < 5:
                maps[2**block] = x
        for layer in (self.fc6, self.fc7):
            x = self.dropout(F.relu(layer(x), inplace=True))
        return maps | {32: x}
