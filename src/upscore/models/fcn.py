"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s.

Jonathan Long, Evan Shelhamer, Trevor Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015 (arXiv 1411.4038), figure 3; PAMI 2017 (arXiv 1605.06211)::

    images ─ normalization ─ backbone ───────┬──────────────┬──────────────┐
    N C H W                               │ /8           │ /16          │ /32
                                        pool3          pool4           fc7
                                          │              │              │
                                     score_pool3    score_pool4      score_fr
                                          │ 9            │ 5            │
                                          │              │              ├── upscore (×32) ─ 19 ──► FCN-32s
                                          │              ▼              │
                                          │              + ◄──────── upscore2 (×2)
                                          │              ├───────────────── upscore16 (×16) ─ 27 ► FCN-16s
                                          ▼              │
                                          + ◄──── upscore_pool4 (×2)
                                          └──────────────────────────────── upscore8 (×8) ── 31 ─► FCN-8s

    score_*    1×1 convolution to K classes, zero at the start: a finer net starts as the coarser
    upscore*   bilinear transposed convolution, one kernel per class, no bias
    +          sum
    numbers    leading cells that are cropped, for VGG16 padded by 100; computed by ``Geometry``
    output     (N, K, H, W) logits of exactly the images' size

Deviations. Normalisation is the first layer. Upsampling is computed only where its output
is kept. On backbones without the wide padding (``backbone.padding == "covering"``) the
normalised image is padded with zeros until cells lie symmetrically on it, and scores
are continued by their outermost cells instead of fading to zero; every offset still
comes from ``Geometry``.
"""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import Frame, Fusion, align_with_image, size_of, with_upsampling_field
from upscore.models.backbone import Backbone, FeatureLevel
from upscore.models.encoder_decoder import check_classes

__all__ = ["FCN8s", "FCN16s", "FCN32s", "Upsampling"]

Upsampling = Literal["frozen", "learned"]
"""Of the ×2 steps: "frozen" bilinear as in the reference release, or "learned" from bilinear as
in the CVPR paper. The last step to the image is bilinear in both."""

AT_ONCE_SCALES = (0.01, 0.0001)
"""What pool4 and pool3 are multiplied by when all streams of FCN-8s are trained at once."""


class FCN32s(nn.Module):
    """Scores of the deepest features, upsampled by 32 in one step.

    Parameters
    ----------
    backbone : Backbone
        Feature maps keyed by stride; this network reads 32.
    num_classes : int
        K, 1 to 255.
    normalization : nn.Module
        From images in [0, 1] to what the backbone expects.

    Attributes
    ----------
    geometry : Geometry
        Grid of the coarsest scores on the image; its ``margin()`` is what a tile needs.
    stride : int
        32.
    num_classes : int
        K.

    Raises
    ------
    ModelError
        The backbone lacks a stride, or K is out of range.
    GeometryError
        The backbone's grids cannot be aligned with one another or with the image.
    """

    stride = 32

    def __init__(self, backbone: Backbone, *, num_classes: int, normalization: nn.Module) -> None:
        super().__init__()
        (fc7,) = _taps(backbone, 32)
        self.num_classes = num_classes
        self.normalization = normalization
        self.frame = Frame.around(fc7.geometry, backbone.padding)
        self.backbone = backbone
        self.score_fr = _score_layer(fc7, num_classes)
        self.upscore, self.crop = align_with_image(fc7.geometry, 32, self.frame, num_classes)
        self.geometry = with_upsampling_field(self.frame, fc7.geometry, self.upscore)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        images : (N, C, H, W) float in [0, 1]
            Any H and W from 1.

        Returns
        -------
        Tensor
            (N, K, H, W) float.
        """
        levels = self.backbone(self.frame.pad(self.normalization(images)))
        scores = self.score_fr(levels[32])
        return cast(Tensor, self.upscore(scores, offset=self.crop, size=size_of(images)))


class FCN16s(nn.Module):
    """FCN-32s whose scores are doubled and joined by those of pool4, then upsampled by 16.

    Parameters
    ----------
    backbone, num_classes, normalization
        As in :class:`FCN32s`; the backbone's strides 16 and 32 are read.
    upsampling : {"frozen", "learned"}
        Of ``upscore2``.

    Attributes
    ----------
    geometry, stride, num_classes
        As in :class:`FCN32s`.
    """

    stride = 32

    def __init__(self, backbone: Backbone, *, num_classes: int, normalization: nn.Module, upsampling: Upsampling = "frozen") -> None:
        super().__init__()
        pool4, fc7 = _taps(backbone, 16, 32)
        learned = _is_learned(upsampling)
        self.num_classes = num_classes
        self.normalization = normalization
        self.frame = Frame.around(fc7.geometry, backbone.padding)
        self.backbone = backbone
        self.score_fr = _score_layer(fc7, num_classes)
        self.score_pool4 = _score_layer(pool4, num_classes)
        self.at_pool4 = Fusion.of(fc7.geometry, pool4.geometry, backbone.padding)
        self.upscore2 = self.at_pool4.upsample(num_classes, learned=learned)
        self.upscore16, self.crop = align_with_image(self.at_pool4.geometry, 16, self.frame, num_classes)
        self.geometry = with_upsampling_field(self.frame, fc7.geometry, self.upscore2, self.upscore16)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        levels = self.backbone(self.frame.pad(self.normalization(images)))
        scores = self.score_fr(levels[32])
        scores = self.at_pool4(scores, self.upscore2, levels[16], self.score_pool4)
        return cast(Tensor, self.upscore16(scores, offset=self.crop, size=size_of(images)))


class FCN8s(nn.Module):
    """FCN-16s whose joined scores are doubled again and joined by those of pool3, then upsampled by 8.

    Parameters
    ----------
    backbone, num_classes, normalization
        As in :class:`FCN32s`; the backbone's strides 8, 16 and 32 are read.
    upsampling : {"frozen", "learned"}
        Of ``upscore2`` and ``upscore_pool4``.
    at_once : bool
        Scale pool4 by 0.01 and pool3 by 0.0001 before their scores, which lets all three
        streams be trained in one stage from VGG16's weights, whose earlier maps are larger by
        those factors.

    Attributes
    ----------
    geometry, stride, num_classes
        As in :class:`FCN32s`.
    """

    stride = 32

    def __init__(
        self, backbone: Backbone, *, num_classes: int, normalization: nn.Module, upsampling: Upsampling = "frozen", at_once: bool = False
    ) -> None:
        super().__init__()
        pool3, pool4, fc7 = _taps(backbone, 8, 16, 32)
        learned = _is_learned(upsampling)
        if not isinstance(at_once, bool):
            raise ModelError(f"found at_once {at_once!r}, expected true or false")
        scales = AT_ONCE_SCALES if at_once else (1.0, 1.0)
        self.num_classes = num_classes
        self.normalization = normalization
        self.frame = Frame.around(fc7.geometry, backbone.padding)
        self.backbone = backbone
        self.score_fr = _score_layer(fc7, num_classes)
        self.score_pool4 = _score_layer(pool4, num_classes)
        self.score_pool3 = _score_layer(pool3, num_classes)
        self.at_pool4 = Fusion.of(fc7.geometry, pool4.geometry, backbone.padding, scale=scales[0])
        self.at_pool3 = Fusion.of(self.at_pool4.geometry, pool3.geometry, backbone.padding, scale=scales[1])
        self.upscore2 = self.at_pool4.upsample(num_classes, learned=learned)
        self.upscore_pool4 = self.at_pool3.upsample(num_classes, learned=learned)
        self.upscore8, self.crop = align_with_image(self.at_pool3.geometry, 8, self.frame, num_classes)
        self.geometry = with_upsampling_field(self.frame, fc7.geometry, self.upscore2, self.upscore_pool4, self.upscore8)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        levels = self.backbone(self.frame.pad(self.normalization(images)))
        scores = self.score_fr(levels[32])
        scores = self.at_pool4(scores, self.upscore2, levels[16], self.score_pool4)
        scores = self.at_pool3(scores, self.upscore_pool4, levels[8], self.score_pool3)
        return cast(Tensor, self.upscore8(scores, offset=self.crop, size=size_of(images)))


def _taps(backbone: Backbone, *strides: int) -> list[FeatureLevel]:
    lacking = [stride for stride in strides if stride not in backbone.levels]
    if lacking:
        raise ModelError(f"the backbone has no feature map of stride {lacking[0]}, only {sorted(backbone.levels)}: choose another backbone")
    return [backbone.levels[stride] for stride in strides]


def _is_learned(upsampling: str) -> bool:
    if upsampling not in ("frozen", "learned"):
        raise ModelError(f"found upsampling '{upsampling}', expected 'frozen' or 'learned'")
    return upsampling == "learned"


def _score_layer(tap: FeatureLevel, num_classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(tap.channels, check_classes(num_classes), 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
