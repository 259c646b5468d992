"""What an architecture asks of a backbone: feature maps keyed by stride, and where their cells lie.

Any ``nn.Module`` with these attributes will do; that is the whole plug-in interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from upscore.ops.geometry import Geometry

__all__ = ["Padding", "Tap", "Trunk"]

Padding = Literal["wide", "covering"]


@dataclass(frozen=True)
class Tap:
    """A feature map that an architecture may read.

    Parameters
    ----------
    channels : int
        C of the map.
    geometry : Geometry
        Where its cells lie on the picture that the trunk was given, and what they see.
    """

    channels: int
    geometry: Geometry


class Trunk(Protocol):
    """A classifier without its head.

    Attributes
    ----------
    taps : dict of int to Tap
        By stride; architectures read 8, 16 and 32.
    padding : {"wide", "covering"}
        "wide": the trunk pads its input so much that its cells reach beyond the picture, as the
        papers' VGG16 does. "covering": the architecture pads the picture until the cells lie
        symmetrically on it.
    mean, std : tuple of float
        RGB statistics in [0, 1] of the pictures it was trained on.
    """

    taps: dict[int, Tap]
    padding: Padding
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Tensor) -> dict[int, Tensor]:
        """Return the map of each tap, (N, C, h, w) by stride, of normalised pictures (N, C, H, W)."""
        ...
