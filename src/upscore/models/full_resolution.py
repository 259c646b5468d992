"""Convolutions at full resolution: the plainest network with a label for each pixel.

The first answer of every lecture on segmentation, before down-sampling is introduced::

    images ─ normalization ─ conv1 3×3 ─ conv2 3×3 ─ … ─ conv_depth 3×3 ─ score 1×1
    N C H W                  N width H W ……………………………………… N width H W   N K H W

    conv*     padding 1, stride 1, batch normalisation if wanted, ReLU
    output    (N, K, H, W) logits of exactly the images' size

Every layer costs 9·width² multiply-adds at every pixel and keeps width maps of the image's
size for its gradient, yet adds but 2 pixels to the field of view: to see the 404 pixels that
a cell of FCN-32s sees would take 202 layers. Down-sampling doubles what a layer adds and
quarters what it costs.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.encoder_decoder import init_weights
from upscore.ops.geometry import Geometry

__all__ = ["FullResolution"]


class FullResolution(nn.Module):
    """A stack of 3×3 convolutions of stride 1, and 1×1 scores.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images in [0, 1] to what the convolutions expect.
    in_channels : int
        C of the images.
    depth : int
        Number of 3×3 convolutions, 1 to 256.
    width : int
        Channels of each.
    batch_norm : bool
        Normalise after each. In train mode a batch then needs more than one pixel.

    Attributes
    ----------
    geometry : Geometry
        The image's own pixels, each of which sees ``1 + 2 * depth``.
    stride : int
        1.
    num_classes : int
        K.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    stride = 1

    def __init__(
        self,
        *,
        num_classes: int,
        normalization: nn.Module,
        in_channels: int = 3,
        depth: int = 8,
        width: int = 64,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        ranges = {"num_classes": (num_classes, 255), "in_channels": (in_channels, 64), "depth": (depth, 256), "width": (width, 4096)}
        for name, (number, most) in ranges.items():
            if not isinstance(number, int) or not 1 <= number <= most:
                raise ModelError(f"found {name} {number!r}, expected a whole number from 1 to {most}")
        if not isinstance(batch_norm, bool):
            raise ModelError(f"found batch_norm {batch_norm!r}, expected true or false")
        self.num_classes = num_classes
        self.normalization = normalization
        self.geometry = Geometry()
        self.layers = nn.Sequential()
        for number in range(1, depth + 1):
            self.layers.add_module(f"conv{number}", nn.Conv2d(in_channels if number == 1 else width, width, 3, padding=1))
            if batch_norm:
                self.layers.add_module(f"bn{number}", nn.BatchNorm2d(width))
            self.layers.add_module(f"relu{number}", nn.ReLU(inplace=True))
            self.geometry = self.geometry.conv(3, 1, 1)
        self.score = nn.Conv2d(width, num_classes, 1)
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        return cast(Tensor, self.score(self.layers(self.normalization(images))))
