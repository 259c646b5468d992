"""Convolutions at full resolution: the simplest network with a label for each pixel.

The first network of every lecture on segmentation, before down-sampling is introduced::

    images ─ normalization ─ conv1 3×3 ─ conv2 3×3 ─ … ─ conv_depth 3×3 ─ score 1×1
    N C H W                  N width H W ……………………………………… N width H W   N K H W

    conv*     padding 1, stride 1, batch normalisation if wanted, ReLU
    output    (N, K, H, W) logits of exactly the images' size

Every layer costs 9·width² multiply-adds at every pixel and stores width maps of the image's
size for its gradient, yet adds only 2 pixels to the receptive field: the 404 pixels of
FCN-32s would take 202 layers. Down-sampling doubles what a layer adds and
quarters what it costs.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from upscore.models.arguments import check_classes, check_flag, check_in_channels, check_integer
from upscore.models.encoder_decoder import init_weights
from upscore.ops.geometry import Geometry

__all__ = ["FullResolution"]


class FullResolution(nn.Module):
    """A stack of 3×3 convolutions of stride 1, and 1×1 scores.

    Parameters
    ----------
    num_classes, normalization, in_channels
        As in :class:`upscore.models.segnet.SegNet`, and so are the attributes; the geometry is that of the image's own pixels,
        with a receptive field of ``1 + 2 * depth``, and the stride 1.
    depth, width : int
        Number of 3×3 convolutions, 1 to 256, and the channels of each, 1 to 4096; others are a ModelError.
    batch_norm : bool
        Normalise after each. In train mode a batch then needs more than one pixel.

    Examples
    --------
    >>> import torch
    >>> from upscore.models.normalization import Normalization
    >>> model = FullResolution(num_classes=2, normalization=Normalization.imagenet(), depth=3, width=4)
    >>> tuple(model(torch.zeros(1, 3, 5, 7)).shape), int(model.geometry.receptive_field)
    ((1, 2, 5, 7), 7)
    """

    stride = 1

    def __init__(
        self, *, num_classes: int, normalization: nn.Module, in_channels: int = 3, depth: int = 8, width: int = 64, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.num_classes = check_classes(num_classes)
        check_in_channels(in_channels)
        for name, value, maximum in (("depth", depth, 256), ("width", width, 4096)):
            check_integer(value, maximum, f"{name} {value!r:.80}")
        check_flag("batch_norm", batch_norm)
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
