"""SegNet and SegNet-Basic: a decoder that puts every maximum back where the encoder found it.

Vijay Badrinarayanan, Alex Kendall, Roberto Cipolla, "SegNet: A Deep Convolutional
Encoder-Decoder Architecture for Image Segmentation", PAMI 2017 (arXiv 1511.00561),
figure 2; layer names of the authors' release::

    images ─ normalization ─┐                                        ┌─► conv1_1_D ─► logits
    N C H W            conv1_1, 1_2         64                  conv1_2_D                 H × W
                            ├ pool1 ─ ─ ─ ─ switches ─ ─ ─ ─ ► upsample1
                       conv2_1, 2_2        128                  conv2_2_D, 2_1_D          H/2
                            ├ pool2 ─ ─ ─ ─ switches ─ ─ ─ ─ ► upsample2
                       conv3_1 … 3_3       256                  conv3_3_D … 3_1_D         H/4
                            ├ pool3 ─ ─ ─ ─ switches ─ ─ ─ ─ ► upsample3
                       conv4_1 … 4_3       512                  conv4_3_D … 4_1_D         H/8
                            ├ pool4 ─ ─ ─ ─ switches ─ ─ ─ ─ ► upsample4
                       conv5_1 … 5_3       512                  conv5_3_D … 5_1_D         H/16
                            ├ pool5 ─ ─ ─ ─ switches ─ ─ ─ ─ ► upsample5
                            └───────────────── H/32 ────────────────┘

    conv       3×3, padding 1, batch normalisation, ReLU; conv1_1_D alone is the score
    pool       maxima of 2×2, sizes rounded up: 45 rows pool to 23, and unpool to 45 again
    upsample   each value at its maximum's position, zeros elsewhere: sparse, made dense by conv*_D
    output     (N, K, H, W) logits of exactly the images' size

Only the switches (pooling indices), two bits for each 2×2 window, pass from encoder to decoder;
U-Net passes whole feature maps.

Deviations. Normalisation of the image is the first layer. Batch normalisation adds 1e-5
to the variance where the release adds 1e-9.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from upscore.models.arguments import check_classes, scale_channels
from upscore.models.encoder_decoder import conv_block, decode, encode, init_shifts, init_weights, mirrored_geometry, vgg16_encoder

__all__ = ["SegNet", "SegNetBasic"]

DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))
"""Channels after each convolution of blocks 5 to 1, except for the score."""


class SegNet(nn.Module):
    """VGG16's thirteen convolutions and their mirror image; ModelError where K or the width is out of range.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images in [0, 1] to what the encoder expects.
    in_channels : int
        Channels of the image.
    width : float
        Factor on the number of channels of every layer; 1 is the paper's.

    Attributes
    ----------
    geometry : Geometry
        Grid of pool5 on the image, with the receptive field of a score; its ``margin()`` is what a tile needs.
    stride, num_classes : int
        32, and K.

    Examples
    --------
    >>> import torch
    >>> from upscore.models.normalization import Normalization
    >>> model = SegNet(num_classes=11, normalization=Normalization.raw(), width=1 / 16).eval()
    >>> tuple(model(torch.zeros(1, 3, 45, 60)).shape)
    (1, 11, 45, 60)
    """

    stride = 32

    def __init__(self, *, num_classes: int, normalization: nn.Module, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.num_classes = check_classes(num_classes)
        self.normalization = normalization
        self.encoder = vgg16_encoder(in_channels, width=width, norm="{}_bn".format)
        self.decoder, channels = nn.Sequential(), scale_channels(512, width)
        for number, last, layers in zip((5, 4, 3, 2, 1), (3, 3, 3, 2, 2), DECODER, strict=True):
            names = [f"conv{number}_{i}_D" for i in range(last, last - len(layers), -1)]
            widths = [channels, *(scale_channels(n, width) for n in layers)]
            self.decoder.add_module(f"conv{number}_D", conv_block(names, widths, norm="{}_bn".format))
            channels = widths[-1]
        self.conv1_1_D = nn.Conv2d(channels, num_classes, 3, padding=1)
        init_weights(self)
        init_shifts(self)
        self.geometry = mirrored_geometry(self.encoder, self.decoder, score=self.conv1_1_D)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        x, pooled = encode(self.encoder, self.normalization(images))  # conv1, pool1 … conv5, pool5
        x = decode(self.decoder, x, pooled)  # upsample5, conv5_D … upsample1, conv1_D
        return cast(Tensor, self.conv1_1_D(x))


class SegNetBasic(nn.Module):
    """The small SegNet of the paper's comparisons (§3.1): four blocks of one 7×7 convolution.

    ::

        norm ─ 4 × [conv, batch normalisation, ReLU, pool] ─ 4 × [upsample, conv, batch normalisation] ─ 1×1 score

    All layers have 64 channels. The decoder has no ReLU: the paper reports better results without.
    ``norm`` is the release's local response normalisation over the raw image's channels.
    Parameters and attributes are those of :class:`SegNet`; the stride is 16.
    """

    stride = 16

    def __init__(self, *, num_classes: int, normalization: nn.Module, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.num_classes = check_classes(num_classes)
        self.normalization = normalization
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        channels = scale_channels(64, width)
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        for number in (1, 2, 3, 4):
            widths = [in_channels if number == 1 else channels, channels]
            self.encoder.add_module(f"stage{number}", conv_block([f"conv{number}"], widths, kernel=7, norm="{}_bn".format))
        for number in (4, 3, 2, 1):
            block = conv_block([f"conv_decode{number}"], [channels, channels], kernel=7, norm="{}_bn".format, relu=False)
            self.decoder.add_module(f"decode{number}", block)
        self.conv_classifier = nn.Conv2d(channels, num_classes, 1)
        init_weights(self)
        init_shifts(self)
        self.geometry = mirrored_geometry(self.encoder, self.decoder, score=self.conv_classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        x, pooled = encode(self.encoder, self.norm(self.normalization(images)))
        return cast(Tensor, self.conv_classifier(decode(self.decoder, x, pooled)))
