"""A network that is a decoder on a backbone: padding, alignment with the image, and geometry.

::

    images ─ normalization ─ padding ─ backbone ─┬─ /8 ──┐
    N C H W                                      ├─ /16 ─┼─ decoder ─ upscore ─ crop ─► logits
                                                 └─ /32 ─┘                              N K H W

    padding    zeros until the coarsest cells lie symmetrically on the image; nothing if the
               backbone's first layer pads it (``backbone.padding == "input_padding"``)
    decoder    from feature maps by stride to scores on a grid
    upscore    bilinear, from that grid to pixels
    crop       where the image begins on it; all offsets follow from ``Geometry``
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol, cast

from torch import Tensor, nn

from upscore.models.alignment import Padding, size_of
from upscore.models.backbone import Backbone
from upscore.ops.geometry import Geometry
from upscore.ops.upsample import BilinearUpsample

__all__ = ["Decoder", "OnBackbone"]


class Decoder(Protocol):
    """What :class:`OnBackbone` needs of a decoder, which is an ``nn.Module`` built from a backbone."""

    num_classes: int  #: K
    stride: int  #: of the coarsest feature level that it reads
    geometry: Geometry  #: the grid of its result, on the image that the backbone was given
    upsamplings: tuple[BilinearUpsample, ...]  #: those between the coarsest level and its result, in a row
    context: int  #: pixels that its convolutions add to the receptive field
    channels: int  #: of its result; K where there is no ``head``
    head: nn.Module  #: layers at the images' size, after ``upscore``; ``nn.Identity()`` where the result is the scores

    def __call__(self, levels: dict[int, Tensor]) -> Tensor:
        """Return (N, channels, h, w) of feature maps (N, C, h', w') by stride."""
        ...


class OnBackbone(nn.Module):
    """A decoder on the backbone that it was made for.

    Parameters
    ----------
    backbone : Backbone
        Feature maps by stride.
    decoder : Decoder
        From these to scores.
    normalization : nn.Module
        From images in [0, 1] to what the backbone expects.

    Attributes
    ----------
    geometry : Geometry
        Grid of the coarsest feature level on the image, with the receptive field of a score; its
        ``margin()`` is what a tile needs.
    stride, num_classes : int
        Of that grid, and K.

    Raises
    ------
    GeometryError
        The grids of backbone and decoder cannot be aligned with the image.

    Examples
    --------
    >>> import torch
    >>> from upscore.models.fcn import FCN
    >>> from upscore.models.normalization import Normalization
    >>> from upscore.models.vgg16 import VGG16
    >>> backbone = VGG16(width=1 / 32)
    >>> model = OnBackbone(backbone, FCN(backbone, num_classes=21, finest=8), Normalization.imagenet())
    >>> tuple(model(torch.zeros(1, 3, 50, 40)).shape), model.geometry.margin(), model.crop
    ((1, 21, 50, 40), 256, (31, 31))
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, normalization: nn.Module) -> None:
        super().__init__()
        coarsest = backbone.levels[decoder.stride].geometry
        self.num_classes, self.stride = decoder.num_classes, decoder.stride
        self.padding = Padding.of(coarsest, backbone.padding, getattr(backbone, "multiple", 1))
        self.normalization = normalization
        self.backbone: Any = backbone
        self.decoder: Any = decoder
        self.upscore, self.crop = self.padding.upsample_to_image(decoder.geometry, decoder.channels)
        # Geometry.margin() allows for one bilinear step, which reaches less than one cell; several
        # in a row can reach further, by half a kernel each.
        stride, reach = coarsest.stride, Fraction(0)
        for step in (*decoder.upsamplings, self.upscore):
            stride /= step.factor
            reach += Fraction(step.kernel - 1, 2) * stride
        beyond = max(Fraction(0), reach - coarsest.stride)
        receptive_field = coarsest.receptive_field + 2 * beyond + decoder.context
        self.geometry = Geometry(coarsest.stride, coarsest.offset - self.padding.before, receptive_field)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) float in [0, 1], any H and W from 1."""
        levels = self.backbone(self.padding.pad(self.normalization(images)))
        scores = self.upscore(self.decoder(levels), offset=self.crop, size=size_of(images))
        return cast(Tensor, self.decoder.head(scores))
