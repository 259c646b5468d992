"""Layer 0 of every network: from images in [0, 1] to what the backbone was trained on.

Normalisation is part of the model so that training, prediction and an exported file
cannot disagree about channel order, range, mean or deviation: a wrong
normalisation is the most frequent reason for a network that predicts background everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from upscore.errors import ModelError, nearest_name
from upscore.input_spec import InputSpec

__all__ = ["CAFFE_MEAN", "IMAGENET_MEAN", "IMAGENET_STD", "NORMALIZATIONS", "Normalization", "NormalizationName"]

NormalizationName = Literal["imagenet", "caffe", "raw"]
NORMALIZATIONS: tuple[NormalizationName, ...] = get_args(NormalizationName)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's images, RGB in [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's images, RGB in [0, 1]."""

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, Rec. 601."""

CAFFE_MEAN = (104.00699, 116.66877, 122.67892)
"""Mean of ImageNet's images in the FCN release, BGR from 0 to 255."""


class Normalization(nn.Module):
    """Return ``(images * span - mean) / std``, in RGB or BGR order.

    Parameters
    ----------
    mean, std : sequence of float
        One per channel, in the order and range that the backbone expects. Stored as buffers, so they
        are saved with the weights.
    span : float
        1 for backbones trained on [0, 1], 255 for those trained on 0 to 255.
    bgr : bool
        Reverse the first three channels, which are red, green and blue, first; any others stay in their order.
    has_gaps : bool
        Values that are no number (NaN) are no data, and become the mean; elsewhere they would spread over the whole result.

    Raises
    ------
    ModelError
        The numbers are not one positive deviation per mean.

    Examples
    --------
    >>> Normalization.raw()(torch.ones(1, 3, 1, 1)).flatten().tolist()
    [255.0, 255.0, 255.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, span: float = 1.0, bgr: bool = False, has_gaps: bool = False
    ) -> None:
        super().__init__()
        self.has_gaps = has_gaps
        if len(mean) != len(std) or not mean or not all(value > 0 for value in std):
            raise ModelError(f"found {len(mean)} means and {len(std)} deviations, expected one of each per channel, deviations above 0")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.span, self.bgr = span, bgr

    @classmethod
    def named(cls, name: str, in_channels: int) -> Normalization:
        """Return one of :data:`NORMALIZATIONS`; ModelError where the name is unknown, or "caffe" is asked for other than three channels."""
        if name not in NORMALIZATIONS:
            near = nearest_name(str(name), NORMALIZATIONS)
            raise ModelError(f"unknown normalization '{str(name)[:80]}'{near}: expected one of {', '.join(NORMALIZATIONS)}")
        if name == "caffe":
            if in_channels != 3:
                raise ModelError(f"found {in_channels} input channels with normalization 'caffe', expected 3: it is made for BGR")
            return cls.caffe()
        return cls.raw(in_channels) if name == "raw" else cls.imagenet(in_channels)

    @classmethod
    def imagenet(cls, in_channels: int = 3) -> Normalization:
        """Return the normalisation of weights trained by PyTorch's own recipe: RGB, ImageNet's mean and deviation."""
        return cls.for_channels(IMAGENET_MEAN, IMAGENET_STD, in_channels)

    @classmethod
    def caffe(cls) -> Normalization:
        """Return that of the Caffe models of the papers: BGR, 0 to 255, minus the mean, deviation 1."""
        return cls(CAFFE_MEAN, (1.0, 1.0, 1.0), span=255.0, bgr=True)

    @classmethod
    def caffe_of(cls, images: InputSpec) -> Normalization:
        """Return Caffe's for images of other bands, as FCN's release feeds NYUDv2: stored values minus each band's mean, colours as BGR.

        ``images`` have their statistics. ModelError where their values are of 16 bits, or their colours are not the first bands.

        >>> hha = InputSpec(("red", "green", "blue", "disparity"), mean=(0.5, 0.4, 0.3, 0.2), std=(0.1,) * 4)
        >>> Normalization.caffe_of(hha)(torch.zeros(1, 4, 1, 1)).flatten().tolist()
        [-76.5, -102.0, -127.5, -51.0]
        """
        if images.dtype == "uint16" or images.colours not in ((), (0, 1, 2)):
            raise ModelError(
                f"found normalization 'caffe' for {images}, expected values from 0 to 255, or floats, and red, green and blue first: "
                "leave normalization out, and give weights trained on images from 0 to 1, or none"
            )
        mean, bgr = [value * images.unit for value in images.mean], bool(images.colours)
        if bgr:
            mean[:3] = mean[2::-1]
        return cls(mean, (1.0,) * len(mean), span=images.unit, bgr=bgr, has_gaps=images.dtype == "float32")

    @classmethod
    def raw(cls, in_channels: int = 3) -> Normalization:
        """Return that of SegNet's release: 0 to 255, BGR where there are three channels, nothing subtracted."""
        return cls((0.0,) * in_channels, (1.0,) * in_channels, span=255.0, bgr=in_channels == 3)

    @classmethod
    def for_channels(cls, mean: Sequence[float], std: Sequence[float], in_channels: int) -> Normalization:
        """Return a normalisation by RGB statistics (3,) in [0, 1] for images of any number of channels.

        3 uses them as they are; 1 (grey) uses their averages; for any other number nothing is known about the channels, and all of
        them get 0.5 and 0.25.
        """
        if in_channels == 3:
            return cls(mean, std)
        if in_channels == 1:
            return cls([sum(mean) / len(mean)], [sum(std) / len(std)])
        return cls([0.5] * in_channels, [0.25] * in_channels)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"{self.mean.numel()}, span={self.span:g}, bgr={self.bgr}"

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) normalised images, of the same dtype.

        Parameters
        ----------
        images : (N, C, H, W) float in [0, 1], or of any range where the statistics are those of such images
            RGB where C is 3. A network for grey images, C = 1, also takes RGB and uses its
            luminance (Rec. 601), which for a grey image is its grey value. Any other C is a ModelError.
        """
        if images.ndim == 4 and images.shape[1] == 3 and self.mean.shape[0] == 1:
            images = (images * images.new_tensor(LUMINANCE).view(-1, 1, 1)).sum(1, keepdim=True)
        if images.ndim != 4 or images.shape[1] != self.mean.shape[0]:
            raise ModelError(f"found images of shape {tuple(images.shape)}, expected (N, {self.mean.shape[0]}, H, W)")
        x = images
        if self.bgr:
            x = images.flip(1) if images.shape[1] == 3 else torch.cat([images[:, :3].flip(1), images[:, 3:]], dim=1)
        normalized = (x * self.span - self.mean.to(x.dtype)) / self.std.to(x.dtype)
        return normalized.nan_to_num(nan=0.0) if self.has_gaps else normalized
