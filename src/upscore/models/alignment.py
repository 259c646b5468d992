"""How the grids of a network lie on the image and on one another: padding, crops, kernels.

No number is written down here; all of them follow from the backbone's ``Geometry``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.models.backbone import PaddingMode
from upscore.ops.geometry import Geometry
from upscore.ops.upsample import BilinearUpsample

__all__ = ["Padding", "SkipFusion", "size_of"]


@dataclass(frozen=True)
class Padding:
    """The zeros around a normalised image that make a grid lie symmetrically on it.

    A coarsest cell every 32 pixels, centred on pixels, the first on pixel 0:

    >>> padding = Padding.of(Geometry(stride=32), "external")
    >>> tuple(padding.pad(torch.zeros(1, 3, 50, 40)).shape)
    (1, 3, 65, 65)
    """

    geometry: Geometry  #: the coarsest grid, on the padded image
    before: int  #: zeros before the image along each axis; 0 but for backbones that do not pad at all
    mode: PaddingMode  #: with "input_padding" nothing is added here
    multiple: int = 1  #: of which height and width are multiples; where it is not 1, all zeros are after the image

    @classmethod
    def of(cls, geometry: Geometry, mode: PaddingMode, multiple: int = 1) -> Padding:
        """Return the padding for a backbone whose coarsest grid is ``geometry``, and that takes images of multiples of ``multiple``."""
        before = math.ceil(geometry.offset - (geometry.stride - 1) / 2) if mode == "external" and multiple == 1 else 0
        return cls(geometry, max(0, before), mode, multiple)

    def pad(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) with zeros before and after.

        There are at least two cells along each axis, so that batch normalisation has something to average even for a single pixel.
        """
        if self.mode == "input_padding":
            return x
        if self.multiple > 1:
            minimum = 2 * int(self.geometry.stride)
            # Of positive numbers: ONNX divides integers towards zero, which is another size for -(-n // multiple).
            above = self.multiple - 1
            height, width = ((torch.sym_max(n, minimum) + above) // self.multiple * self.multiple for n in x.shape[-2:])  # type: ignore[no-untyped-call]
            return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
        minimum = math.ceil(2 * self.geometry.offset + 1 + self.geometry.stride)
        height, width = (self.geometry.covering_size(torch.sym_max(n + 2 * self.before, minimum)) for n in x.shape[-2:])  # type: ignore[no-untyped-call]
        return F.pad(x, (self.before, width - x.shape[-1] - self.before, self.before, height - x.shape[-2] - self.before))

    def upsample_to_image(self, scores: Geometry, channels: int) -> tuple[BilinearUpsample, tuple[int, int]]:
        """Return the layer that upsamples a map to pixels, and the row and column where the image begins in its result.

        ``scores`` is the map's grid on the padded image, ``channels`` its channels, the classes in an FCN.
        """
        factor, image = int(scores.stride), Geometry(offset=Fraction(self.before))
        kernel = scores.bilinear_kernel(factor, image)
        crop = scores.deconv(kernel, factor).crop_offset(image)
        border = "zeros" if self.mode == "input_padding" else "replicate"
        return BilinearUpsample(channels, factor=factor, kernel=kernel, border=border), (crop, crop)


@dataclass(frozen=True)
class SkipFusion:
    """Where doubled scores meet a finer feature level.

    If the backbone pads its input, the finer map begins before the doubled scores and is cropped
    to them, as in the paper. If the image is padded externally, the doubled scores are cropped
    (or continued) to the finer map.
    """

    geometry: Geometry  #: grid of the sum
    kernel: int  #: of the ×2 upsampling that lands on the finer grid
    crop: int  #: leading cells of the finer map to leave out
    offset: int | None  #: leading cells of the doubled scores to leave out; None where all of them are used
    scale: float = 1.0  #: what the finer features are multiplied by

    @classmethod
    def of(cls, coarse: Geometry, fine: Geometry, mode: PaddingMode, *, scale: float = 1.0) -> SkipFusion:
        """Return how ``coarse`` scores, doubled, and ``fine`` ones align.

        GeometryError where no bilinear kernel lands on cells of the finer grid.
        """
        kernel = coarse.bilinear_kernel(2, fine)
        doubled = coarse.deconv(kernel, 2)
        if mode == "input_padding":
            return cls(doubled, kernel, fine.crop_offset(doubled), None, scale)
        return cls(replace(doubled, offset=fine.offset), kernel, 0, doubled.crop_offset(fine), scale)

    def upsample(self, channels: int, *, learned: bool = False, mixed: bool = False, bias: bool = False) -> BilinearUpsample:
        """Return the layer that doubles the coarse map, whose channels are the classes in an FCN."""
        border = "zeros" if self.offset is None else "replicate"
        return BilinearUpsample(channels, factor=2, kernel=self.kernel, learned=learned, mixed=mixed, bias=bias, border=border)

    def __call__(self, scores: Tensor, upscore: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``upscore(scores)`` and the scaled features, cell on cell, where both are defined."""
        window = {} if self.offset is None else {"offset": (self.offset, self.offset), "size": size_of(features)}
        doubled = cast(Tensor, upscore(scores, **window))
        rows, columns = size_of(doubled)
        features = features[..., self.crop : self.crop + rows, self.crop : self.crop + columns]
        return doubled, features if self.scale == 1 else features * self.scale


def size_of(x: Tensor) -> tuple[int, int]:
    """Return H and W of (…, H, W).

    >>> size_of(torch.zeros(2, 3, 40, 50))
    (40, 50)
    """
    return x.shape[-2], x.shape[-1]
