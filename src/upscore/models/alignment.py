"""How a network's grids are laid on the image and on one another: padding, crops, kernels.

Nothing is measured in bare numbers here; every one follows from the backbone's ``Geometry``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.models.backbone import Padding
from upscore.ops.geometry import Geometry
from upscore.ops.upsample import BilinearUpsample

__all__ = ["Frame", "Fusion", "align_with_image", "size_of", "with_upsampling_field"]


@dataclass(frozen=True)
class Frame:
    """The zeros around a normalised image that make a grid lie symmetrically on it.

    Parameters
    ----------
    geometry : Geometry
        The coarsest grid, on the padded image.
    lead : int
        Zeros before the image; 0 but for backbones that do not pad at all.
    covers : bool
        The backbone pads by itself; nothing is added here.
    """

    geometry: Geometry
    lead: int
    covers: bool

    @classmethod
    def around(cls, geometry: Geometry, padding: Padding) -> Frame:
        """Return the frame for a backbone whose coarsest grid is ``geometry``."""
        if padding == "wide":
            return cls(geometry, 0, True)
        return cls(geometry, max(0, math.ceil(geometry.offset - (geometry.stride - 1) / 2)), False)

    @property
    def image(self) -> Geometry:
        """The image's own pixels, on the padded image."""
        return Geometry(offset=Fraction(self.lead))

    def pad(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) with zeros before and after.

        At least two cells along each axis are covered, so that batch normalisation has
        something to average even where the image is one pixel.
        """
        if self.covers:
            return x
        least = math.ceil(2 * self.geometry.offset + 1 + self.geometry.stride)
        height, width = (self.geometry.covering_size(torch.sym_max(n + 2 * self.lead, least)) for n in x.shape[-2:])  # type: ignore[no-untyped-call]
        return F.pad(x, (self.lead, width - x.shape[-1] - self.lead, self.lead, height - x.shape[-2] - self.lead))


@dataclass(frozen=True)
class Fusion:
    """Where doubled scores meet those of a finer tap.

    A wide backbone's finer map begins before the doubled scores and is cropped to them, as in
    the paper; a covering backbone's doubled scores are cut (or continued) to the finer map.

    Parameters
    ----------
    geometry : Geometry
        Grid of the sum.
    kernel : int
        Size of the ×2 kernel that lands on the finer grid.
    crop : int
        Leading cells of the finer map to leave out.
    offset : int, optional
        Leading cells of the doubled scores to leave out; none where they are kept whole.
    scale : float
        What the finer features are multiplied by.
    """

    geometry: Geometry
    kernel: int
    crop: int
    offset: int | None
    scale: float = 1.0

    @classmethod
    def of(cls, coarse: Geometry, fine: Geometry, padding: Padding, *, scale: float = 1.0) -> Fusion:
        """Return how ``coarse`` scores, doubled, and ``fine`` ones align."""
        kernel = coarse.bilinear_kernel(2, fine)
        doubled = coarse.deconv(kernel, 2)
        if padding == "wide":
            return cls(doubled, kernel, fine.crop_offset(doubled), None, scale)
        return cls(replace(doubled, offset=fine.offset), kernel, 0, doubled.crop_offset(fine), scale)

    def upsample(self, channels: int, *, learned: bool = False) -> BilinearUpsample:
        """Return the layer that doubles the coarse map, whose channels are the classes in an FCN."""
        border = "zeros" if self.offset is None else "replicate"
        return BilinearUpsample(channels, factor=2, kernel=self.kernel, learned=learned, border=border)

    def align(self, scores: Tensor, upscore: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``upscore(scores)`` and the features, cell on cell, where both are defined."""
        window = {} if self.offset is None else {"offset": (self.offset, self.offset), "size": size_of(features)}
        doubled = cast(Tensor, upscore(scores, **window))
        rows, columns = size_of(doubled)
        return doubled, features[..., self.crop : self.crop + rows, self.crop : self.crop + columns]

    def __call__(self, scores: Tensor, upscore: nn.Module, features: Tensor, score: nn.Module) -> Tensor:
        """Return ``upscore(scores) + score(features)`` where both are defined."""
        doubled, features = self.align(scores, upscore, features)
        return cast(Tensor, doubled + score(features if self.scale == 1 else features * self.scale))


def size_of(x: Tensor) -> tuple[int, int]:
    """Return H and W of (…, H, W)."""
    return x.shape[-2], x.shape[-1]


def align_with_image(scores: Geometry, factor: int, frame: Frame, channels: int) -> tuple[BilinearUpsample, tuple[int, int]]:
    """Return the layer that brings ``scores`` to pixels, and the row and column where the image begins in it."""
    kernel = scores.bilinear_kernel(factor, frame.image)
    crop = scores.deconv(kernel, factor).crop_offset(frame.image)
    border = "zeros" if frame.covers else "replicate"
    return BilinearUpsample(channels, factor=factor, kernel=kernel, border=border), (crop, crop)


def with_upsampling_field(frame: Frame, coarsest: Geometry, *steps: BilinearUpsample) -> Geometry:
    """Return the coarsest grid on the image, its field widened by what several upsampling steps mix in.

    :meth:`Geometry.margin` allows for one bilinear step, which reaches less than one cell;
    two or three in a row can reach further, by halves of a kernel each.
    """
    jump, reach = coarsest.stride, Fraction(0)
    for step in steps:
        jump /= step.factor
        reach += Fraction(step.kernel - 1, 2) * jump
    beyond = max(Fraction(0), reach - coarsest.stride)
    return Geometry(coarsest.stride, coarsest.offset - frame.lead, coarsest.receptive_field + 2 * beyond)
