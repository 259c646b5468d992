"""Fully convolutional networks: the decoder of FCN-32s, FCN-16s and FCN-8s.

Jonathan Long, Evan Shelhamer, Trevor Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015 (arXiv 1411.4038), figure 3; PAMI 2017 (arXiv 1605.06211)::

    images ─ normalization ─ backbone ────┬──────────────┬──────────────┐
    N C H W                               │ /8           │ /16          │ /32
                                        pool3          pool4           fc7
                                          │              │              │
                                     score_pool3    score_pool4      score_fr
                                          │ 9            │ 5            │
                                          │              │              ├── upscore (×32) ─ 19 ──► FCN-32s
                                          │              ▼              │
                                          │              + ◄──────── upscore2 (×2)
                                          │              ├───────────────── upscore (×16) ── 27 ─► FCN-16s
                                          ▼              │
                                          + ◄──── upscore_pool4 (×2)
                                          └──────────────────────────────── upscore (×8) ─── 31 ─► FCN-8s

    score_*    1×1 convolution to K classes, zero at the start: a finer net starts as the coarser
    upscore*   bilinear transposed convolution, one kernel per class, no bias; the ×2 steps may be learned
    +          sum
    numbers    leading cells that are cropped, for VGG16 padded by 100; computed by ``Geometry``
    output     (N, K, H, W) logits of exactly the images' size

The first line and the last ``upscore`` are those of every network on a backbone
(:class:`upscore.models.on_backbone.OnBackbone`).

Deviations. Normalisation is the first layer. Only the part of an upsampling that is used is
computed. For backbones that do not pad their input by themselves, the normalised image is
padded with zeros until cells lie symmetrically on it, and scores are continued by their
outermost cells instead of fading to zero; every offset still comes from ``Geometry``.
"""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alignment import SkipFusion
from upscore.models.arguments import check_classes, check_flag
from upscore.models.backbone import Backbone, FeatureLevel, select_levels
from upscore.ops.upsample import BilinearUpsample

__all__ = ["FCN", "Upsampling"]

Upsampling = Literal["frozen", "learned", "full"]
"""Of the ×2 steps: "frozen" bilinear as in the reference release; "learned" from bilinear, one kernel for each class; or "full" as in
the CVPR paper's deploy files, kernels from every class to every class and a bias on the first step, learned from bilinear too. The last
step to the image is bilinear in all."""

AT_ONCE_SCALES = (0.01, 0.0001)
"""What pool4 and pool3 are multiplied by when all streams of FCN-8s are trained at once."""


class FCN(nn.Module):
    """Scores of the deepest features, doubled and added to those of pool4, doubled again and added to those of pool3.

    Parameters
    ----------
    backbone : Backbone
        Its feature levels of stride 32, 16 and 8 are read, down to ``finest``.
    num_classes : int
        K, 1 to 255.
    finest : {32, 16, 8}
        FCN-32s, FCN-16s or FCN-8s.
    upsampling : {"frozen", "learned", "full"}
        Of ``upscore2`` and ``upscore_pool4``.
    at_once : bool
        Scale pool4 by 0.01 and pool3 by 0.0001 before their scores, which lets all three
        streams be trained in one stage from VGG16's weights, whose earlier maps are larger by
        those factors.

    Raises
    ------
    ModelError, GeometryError
        The backbone lacks a stride, or an argument is out of range; or the backbone's grids cannot be aligned with one another.
    """

    stride, context = 32, 0

    def __init__(
        self, backbone: Backbone, *, num_classes: int, finest: int, upsampling: Upsampling = "frozen", at_once: bool = False
    ) -> None:
        super().__init__()
        *skips, fc7 = select_levels(backbone, *(stride for stride in (8, 16, 32) if stride >= finest))
        if upsampling not in ("frozen", "learned", "full"):
            raise ModelError(f"found upsampling {upsampling!r:.80}, expected 'frozen', 'learned' or 'full'")
        learned, mixed = upsampling != "frozen", upsampling == "full"
        scale4, scale3 = AT_ONCE_SCALES if check_flag("at_once", at_once) else (1.0, 1.0)
        self.num_classes = self.channels = num_classes
        self.finest, self.geometry = finest, fc7.geometry
        self.upsamplings: tuple[BilinearUpsample, ...] = ()
        self.score_fr = _score_layer(fc7, num_classes)
        if finest <= 16:
            self.score_pool4 = _score_layer(skips[-1], num_classes)
            self.at_pool4 = SkipFusion.of(self.geometry, skips[-1].geometry, backbone.padding, scale=scale4)
            self.upscore2 = self.at_pool4.upsample(num_classes, learned=learned, mixed=mixed, bias=mixed)
            self.geometry, self.upsamplings = self.at_pool4.geometry, (self.upscore2,)
        if finest <= 8:
            self.score_pool3 = _score_layer(skips[0], num_classes)
            self.at_pool3 = SkipFusion.of(self.geometry, skips[0].geometry, backbone.padding, scale=scale3)
            self.upscore_pool4 = self.at_pool3.upsample(num_classes, learned=learned, mixed=mixed)
            self.geometry, self.upsamplings = self.at_pool3.geometry, (self.upscore2, self.upscore_pool4)
        self.head = nn.Identity()

    def forward(self, levels: dict[int, Tensor]) -> Tensor:
        """Return scores (N, K, h, w) at stride ``finest`` of feature maps (N, C, h', w') by stride."""
        scores = self.score_fr(levels[32])
        if self.finest <= 16:
            upscore2, pool4 = self.at_pool4(scores, self.upscore2, levels[16])
            scores = upscore2 + self.score_pool4(pool4)
        if self.finest <= 8:
            upscore_pool4, pool3 = self.at_pool3(scores, self.upscore_pool4, levels[8])
            scores = upscore_pool4 + self.score_pool3(pool3)
        return cast(Tensor, scores)


def _score_layer(level: FeatureLevel, num_classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(level.channels, check_classes(num_classes), 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
