"""AlexNet made fully convolutional, as in the FCN paper.

Krizhevsky, Sutskever, Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
Networks", in the form of Caffe's reference model, with the linear layers of Long, Shelhamer,
Darrell (2015)::

    conv1 ─ pool1 ─ norm1 ─ conv2 ─ pool2 ─ norm2 ─ conv3 ─ conv4 ─ conv5 ─ pool5 ─ fc6 ─ fc7
    11×11    │ /8            5×5     │ /16            3×3     3×3     3×3     /32    6×6   1×1
    /4       └─ level 8              └─ level 16                                             └─ level 32
    96                       256                      384     384     256            4096  4096

    norm       local response normalisation over five channels
    groups     conv2, conv4 and conv5 are two groups of channels without connections

conv1 pads by 100 and pooling rounds up, so that fc6 fits into any image. A cell of fc7 sees
355 pixels; kernels are odd everywhere but in fc6, so scores are upsampled by a kernel of 63
and cropped by 18.

``variant="torchvision"`` is the network of Krizhevsky (2014), "One weird trick for
parallelizing convolutional neural networks", as torchvision has it: one tower of 64, 192, 384,
256 and 256 channels, without groups and without local response normalisation.

Deviations. As in Caffe, pooling comes before normalisation; the paper has it after. The papers
use fc7 alone; pool1 and pool2 can be read too, or conv2 and conv5 (``skips="convolution"``), since their crops are whole numbers.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.arguments import check_dropout, scale_channels
from upscore.models.backbone import INPUT_PADDING, FeatureLevel, Skips, check_skips, padding_mode
from upscore.models.encoder_decoder import init_weights
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.ops.geometry import Geometry

__all__ = ["AlexNet"]

CHANNELS = {"caffe": (96, 256, 384, 384, 256, 4096, 4096), "torchvision": (64, 192, 384, 256, 256, 4096, 4096)}
"""Of conv1 to conv5, fc6 and fc7."""


class AlexNet(nn.Module):
    """The backbone of FCN-AlexNet, from the image to fc7; ModelError where an argument is out of range.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of every layer; 1 is the paper's.
    dropout : float
        Probability after fc6 and fc7, element by element.
    padding : int
        Of conv1. 100 or more is enough for every image; with less, the image is padded before.
    skips : {"pooling", "convolution"}
        Whether the levels of stride 8 and 16 are pool1 and pool2, or conv2 and conv5, the last convolutions of these strides.
    variant : {"caffe", "torchvision"}
        Whose layers: the paper's two towers, or one tower without normalisation.

    Examples
    --------
    >>> import torch
    >>> maps = AlexNet(width=1 / 32)(torch.zeros(1, 3, 50, 40))
    >>> {stride: tuple(x.shape) for stride, x in maps.items()}
    {8: (1, 4, 30, 29), 16: (1, 8, 15, 14), 32: (1, 128, 2, 2)}
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        padding: int = INPUT_PADDING,
        skips: Skips = "pooling",
        variant: Literal["caffe", "torchvision"] = "caffe",
    ) -> None:
        super().__init__()
        if variant not in CHANNELS:
            raise ModelError(f"found variant {variant!r}, expected {' or '.join(CHANNELS)}")
        self.padding = padding_mode(padding)
        self.after_convolution = check_skips(skips)
        towers = 2 if variant == "caffe" else 1
        c1, c2, c3, c4, c5, c6, c7 = (towers * scale_channels(c // towers, width) for c in CHANNELS[variant])
        self.conv1 = nn.Conv2d(in_channels, c1, 11, stride=4, padding=padding)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=towers)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=towers)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=towers)
        self.fc6 = nn.Conv2d(c5, c6, 6)
        self.fc7 = nn.Conv2d(c6, c7, 1)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0) if variant == "caffe" else nn.Identity()
        self.dropout = nn.Dropout(check_dropout(dropout))
        init_weights(self)

        pool1 = Geometry().conv(11, 4, padding).pool(3, 2)
        conv2 = pool1.conv(5, 1, 2)
        pool2 = conv2.pool(3, 2)
        conv5 = pool2.conv(3, 1, 1).conv(3, 1, 1).conv(3, 1, 1)
        fine = (
            (FeatureLevel(c2, conv2), FeatureLevel(c5, conv5))
            if self.after_convolution
            else (FeatureLevel(c1, pool1), FeatureLevel(c2, pool2))
        )
        self.levels = {8: fine[0], 16: fine[1], 32: FeatureLevel(c7, conv5.pool(3, 2).conv(6))}

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the levels of stride 8 and 16 and fc7, of stride 32, by stride, of normalised (N, C, H, W); with padding 100 any size."""
        pool1 = _pool(F.relu(self.conv1(x)))
        conv2 = F.relu(self.conv2(self.norm(pool1)))
        pool2 = _pool(conv2)
        conv3 = F.relu(self.conv3(self.norm(pool2)))
        conv4 = F.relu(self.conv4(conv3))
        conv5 = F.relu(self.conv5(conv4))
        fc6 = self.dropout(F.relu(self.fc6(_pool(conv5))))
        fc7 = self.dropout(F.relu(self.fc7(fc6)))
        return {8: conv2, 16: conv5, 32: fc7} if self.after_convolution else {8: pool1, 16: pool2, 32: fc7}


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)
