"""Late fusion: two FCN-32s, each on some of an image's bands, whose scores are added before they are upsampled.

Jonathan Long, Evan Shelhamer, Trevor Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, §5 and table 4
(RGB-HHA on NYUDv2); the layers are those of ``nyud-fcn32s-color-hha/net.py`` in shelhamer/fcn.berkeleyvision.org::

    bands     ┌─ RGB ─ VGG16 ─ fc7 ─ score_fr ─ × 0.5 ─┐
    N C H W ──┤                                        + ─ upscore (×32) ─ crop ─► logits
              └─ HHA ─ VGG16 ─ fc7 ─ score_fr ─ × 0.5 ─┘                           N K H W

    upscore   bilinear and fixed, as in FCN-32s

Deviations. Normalisation is the first layer. Only the part of the upsampling that lies on the image is computed.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import Padding, size_of
from upscore.models.fcn import FCN
from upscore.models.vgg16 import VGG16
from upscore.ops.geometry import Geometry

__all__ = ["LateFusion"]


class LateFusion(nn.Module):
    """Half the sum of the scores of two FCN-32s on VGG16, the first on the first bands of an image, the second on the others.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images to what both backbones expect.
    in_channels : int
        Bands of the images, at least 2.
    split : int
        Bands of the first stream; 0 is half of them, such as red, green and blue of NYUDv2's six.
    width, dropout, batch_norm
        As those of :class:`~upscore.models.vgg16.VGG16`, of both streams.

    Attributes
    ----------
    streams : nn.ModuleList
        Both FCN-32s without their upsampling: each has a ``backbone`` and a ``decoder``.

    Raises
    ------
    ModelError
        An argument is out of range, or a stream would have no band.

    Examples
    --------
    >>> import torch
    >>> model = LateFusion(num_classes=40, normalization=nn.Identity(), in_channels=6, width=1 / 32)
    >>> tuple(model(torch.zeros(1, 6, 50, 40)).shape), [stream.bands for stream in model.streams]
    ((1, 40, 50, 40), [3, 3])
    """

    stride = 32

    def __init__(
        self,
        *,
        num_classes: int,
        normalization: nn.Module,
        in_channels: int = 3,
        split: int = 0,
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if type(split) is not int or not 0 <= split < in_channels or in_channels < 2:
            raise ModelError(
                f"found split {split!r:.80} of {in_channels} bands, expected fewer for the first stream than there are: late fusion needs "
                "bands for both, such as those of NYUDv2's data/hha"
            )
        self.split, self.num_classes = split or -(-in_channels // 2), num_classes
        self.normalization = normalization
        self.streams = nn.ModuleList(
            _Stream(bands, num_classes, VGG16(in_channels=bands, width=width, dropout=dropout, batch_norm=batch_norm))
            for bands in (self.split, in_channels - self.split)
        )
        backbone, decoder = (self.streams[0].get_submodule(name) for name in ("backbone", "decoder"))
        assert isinstance(backbone, VGG16)
        assert isinstance(decoder, FCN)
        padding = Padding.of(decoder.geometry, backbone.padding)
        self.upscore, self.crop = padding.upsample_to_image(decoder.geometry, num_classes)
        grid = decoder.geometry
        self.geometry = Geometry(grid.stride, grid.offset - padding.before, grid.receptive_field)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W), any H and W from 1."""
        bands = self.normalization(images)
        first, second = self.streams[0](bands[:, : self.split]), self.streams[1](bands[:, self.split :])
        return cast(Tensor, self.upscore(0.5 * first + 0.5 * second, offset=self.crop, size=size_of(images)))


class _Stream(nn.Module):
    """The scores of one FCN-32s at stride 32, under the names that it has alone."""

    def __init__(self, bands: int, num_classes: int, backbone: Any) -> None:
        super().__init__()
        self.bands = bands
        self.backbone = backbone
        self.decoder = FCN(backbone, num_classes=num_classes, finest=32)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (N, K, h, w) of normalised bands (N, C, H, W)."""
        return cast(Tensor, self.decoder(self.backbone(x)))
