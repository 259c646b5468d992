"""What an architecture asks of a backbone: feature maps keyed by stride, and where their cells lie.

Any ``nn.Module`` with these attributes will do; that is the whole plug-in interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from upscore.errors import ModelError
from upscore.ops.geometry import Geometry

__all__ = ["WIDE", "Backbone", "FeatureLevel", "Padding", "check_settings"]

Padding = Literal["wide", "covering"]

WIDE = 100
"""Zeros that the papers put around the image, so that every layer fits into any."""


@dataclass(frozen=True)
class FeatureLevel:
    """A feature map that an architecture may read.

    Parameters
    ----------
    channels : int
        C of the map.
    geometry : Geometry
        Where its cells lie on the image that the backbone was given, and what they see.
    """

    channels: int
    geometry: Geometry


class Backbone(Protocol):
    """A classifier without its head.

    Attributes
    ----------
    levels : dict of int to FeatureLevel
        By stride; architectures read 8, 16 and 32.
    padding : {"wide", "covering"}
        "wide": the backbone pads its input so much that its cells reach beyond the image, as the
        papers' VGG16 does. "covering": the architecture pads the image until the cells lie
        symmetrically on it.
    mean, std : tuple of float
        RGB statistics in [0, 1] of the images it was trained on.
    """

    levels: dict[int, FeatureLevel]
    padding: Padding
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Tensor) -> dict[int, Tensor]:
        """Return the map of each tap, (N, C, h, w) by stride, of normalised images (N, C, H, W)."""
        ...


def check_settings(network: str, *, width: float, dropout: float, padding: int = WIDE) -> None:
    """Refuse impossible settings of a backbone of our own.

    Raises
    ------
    ModelError
        One is out of range.
    """
    if not 0 < width <= 4:
        raise ModelError(f"found width {width}, expected above 0 and at most 4: 1 is the paper's {network}")
    if not 0 <= dropout < 1:
        raise ModelError(f"found dropout {dropout}, expected at least 0 and below 1")
    if not isinstance(padding, int) or not 0 <= padding <= 2 * WIDE:
        raise ModelError(f"found padding {padding}, expected 0 to {2 * WIDE}: the paper's is {WIDE}")
