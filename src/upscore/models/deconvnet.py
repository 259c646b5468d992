"""DeconvNet: a classifier as encoder, and its mirror image of unpooling and transposed convolutions.

Hyeonwoo Noh, Seunghoon Hong, Bohyung Han, "Learning Deconvolution Network for Semantic
Segmentation", ICCV 2015 (arXiv 1505.04366), figure 2 and table 4; layer names of the
authors' release::

    images ─ normalization ─┐                                        ┌─► seg_score_voc ─► logits
    N C 224 224        conv1_1, 1_2         64                  deconv1_1, 1_2             224
                            ├ pool1 ─ ─ ─ ─ switches ─ ─ ─ ─ ► unpool1
                       conv2_1, 2_2        128                  deconv2_1, 2_2             112
                            ├ pool2 ─ ─ ─ ─ switches ─ ─ ─ ─ ► unpool2
                       conv3_1 … 3_3       256                  deconv3_1 … 3_3             56
                            ├ pool3 ─ ─ ─ ─ switches ─ ─ ─ ─ ► unpool3
                       conv4_1 … 4_3       512                  deconv4_1 … 4_3             28
                            ├ pool4 ─ ─ ─ ─ switches ─ ─ ─ ─ ► unpool4
                       conv5_1 … 5_3       512                  deconv5_1 … 5_3             14
                            ├ pool5 ─ ─ ─ ─ switches ─ ─ ─ ─ ► unpool5
                            │                                        │                       7
                       fc6 7×7 ──► fc7 1×1 ──► fc6_deconv 7×7 ───────┘                       1
                           4096        4096         512

    conv, deconv   3×3, padding 1; every layer but the score is followed by batch normalisation and ReLU
    pool, unpool   maxima of 2×2 and their positions; switches (pooling indices) are two bits a window
    output         (N, K, H, W) logits of exactly the images' size

The paper gives the network one object at a time, in a window of 224×224. It is fully
convolutional here: larger images have more cells at fc6, and smaller ones are padded to
the 224 pixels that fc6 needs.

Deviations. Normalisation of the image is the first layer. Batch normalisation has
running statistics, where the release computes them after training, and adds 1e-5 to the
variance, where the release adds 1e-9.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import size_of
from upscore.models.arguments import check_classes, scale_channels
from upscore.models.encoder_decoder import conv_block, decode, encode, init_shifts, init_weights, mirrored_geometry, vgg16_encoder

__all__ = ["DeconvNet"]

DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 64))
"""Channels after each transposed convolution of blocks 5 to 1."""

MIN_SIDE = 224
"""Pixels along each side that fc6, seven cells of 32, needs."""


class DeconvNet(nn.Module):
    """VGG16 up to fc7, its mirror image of unpooling and transposed convolutions, and a score.

    Parameters, attributes and errors are those of :class:`upscore.models.segnet.SegNet`; a ``width`` of 1 is the paper's 252 million
    parameters, 1/4 sixteen times fewer.

    >>> from upscore.models.normalization import Normalization
    >>> model = DeconvNet(num_classes=21, normalization=Normalization.imagenet(), width=1 / 32).eval()
    >>> tuple(model(torch.zeros(1, 3, 50, 40)).shape)
    (1, 21, 50, 40)
    """

    stride = 32

    def __init__(self, *, num_classes: int, normalization: nn.Module, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        self.num_classes = check_classes(num_classes)
        self.normalization = normalization
        self.encoder = vgg16_encoder(in_channels, width=width, norm=_norm_name)
        channels, middle = scale_channels(512, width), scale_channels(4096, width)
        self.bottom = nn.Sequential(
            conv_block(["fc6"], [channels, middle], kernel=7, padding=0, norm=_norm_name),
            conv_block(["fc7"], [middle, middle], kernel=1, norm=_norm_name),
            conv_block(["fc6_deconv"], [middle, channels], kernel=7, padding=0, norm=_norm_name, transposed=True),
        )
        self.decoder = nn.Sequential()
        for number, layers in zip(range(5, 0, -1), DECODER, strict=True):
            names = [f"deconv{number}_{i}" for i in range(1, len(layers) + 1)]
            widths = [channels, *(scale_channels(n, width) for n in layers)]
            self.decoder.add_module(f"deconv{number}", conv_block(names, widths, norm=_norm_name, transposed=True))
            channels = widths[-1]
        self.seg_score_voc = nn.Conv2d(channels, num_classes, 1)
        self._init_weights()
        self.geometry = mirrored_geometry(self.encoder, self.decoder, bottom=self.bottom, score=self.seg_score_voc)

    def _init_weights(self) -> None:
        """Initialise the encoder like a classifier's; the rest like the paper: deviation 0.01, shifts of 0.001."""
        init_weights(self)
        init_shifts(self)
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d) or layer is self.seg_score_voc:
                assert isinstance(layer, nn.ConvTranspose2d | nn.Conv2d)
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1.

        ModelError for a batch of a single image of at most 224×224 in training: fc6 has one cell, over which batch normalisation is
        not defined.
        """
        x, pooled = encode(self.encoder, _pad_to_minimum(self.normalization(images)))  # conv1, pool1 … conv5, pool5
        if self.training and x.shape[0] * (x.shape[2] - 6) * (x.shape[3] - 6) == 1:
            raise ModelError("DeconvNet cannot normalise over one cell: train on batches of two or more, or on crops above 224×224")
        x = self.bottom(x)  # fc6, fc7, fc6_deconv
        x = decode(self.decoder, x, pooled)  # unpool5, deconv5 … unpool1, deconv1
        return _crop_padding(self.seg_score_voc(x), size_of(images))


def _pad_to_minimum(x: Tensor) -> Tensor:
    """Return (N, C, H, W) with zeros around, so that fc6 fits."""
    rows, columns = (torch.sym_max(0, MIN_SIDE - n) for n in x.shape[-2:])  # type: ignore[no-untyped-call]
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def _crop_padding(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the centre of (N, C, H, W): the image of ``size`` before it was padded."""
    top, left = (torch.sym_max(0, MIN_SIDE - n) // 2 for n in size)  # type: ignore[no-untyped-call]
    return x[..., top : top + size[0], left : left + size[1]]


def _norm_name(layer: str) -> str:
    """Return the release's name of the normalisation after a layer: bn1_1, bnfc6, fc6_deconv_bn, debn5_1."""
    if layer == "fc6_deconv":
        return "fc6_deconv_bn"
    return layer.replace("deconv", "debn") if layer.startswith("deconv") else "bn" + layer.removeprefix("conv")
