"""What a decoder needs of a backbone: feature levels by stride, and where their cells lie.

Any ``nn.Module`` with the attributes of :class:`Backbone` will do; that is the whole interface.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from torch import Tensor

from upscore.errors import ModelError
from upscore.ops.geometry import Geometry
from upscore.ops.receptive_field import measure_receptive_fields

__all__ = [
    "INPUT_PADDING",
    "Backbone",
    "FeatureLevel",
    "PaddingMode",
    "Skips",
    "check_skips",
    "measure_levels",
    "padding_mode",
    "select_levels",
]

PaddingMode = Literal["input_padding", "external"]
"""Who pads the image. "input_padding": the backbone's first layer, so much that the cells reach beyond the image, as the papers' VGG16
does. "external": :class:`~upscore.models.on_backbone.OnBackbone`, until the cells lie symmetrically on the image."""

Skips = Literal["pooling", "convolution"]
"""Where the feature levels above the coarsest are read: "pooling", after the pooling that gives their stride, as the FCN paper's pool3 and
pool4; or "convolution", after the last convolution of that stride, before the next pooling, conv4_3 and conv5_3 in VGG16."""

INPUT_PADDING = 100
"""Zeros that the papers' first layers put around the image, so that every layer fits into any."""


@dataclass(frozen=True)
class FeatureLevel:
    """A feature map that a decoder may read."""

    channels: int  #: C of the map
    geometry: Geometry  #: where its cells lie on the image that the backbone was given, and what they see


class Backbone(Protocol):
    """A classifier without its head."""

    levels: dict[int, FeatureLevel]  #: by stride; decoders read 8, 16 and 32, and possibly 2 and 4
    padding: PaddingMode
    mean: tuple[float, ...]  #: with ``std``, RGB statistics in [0, 1] of the images it was trained on
    std: tuple[float, ...]
    # Also, where it needs it, ``multiple: int``: the sides of the images that it takes are multiples of this number of pixels.

    def __call__(self, x: Tensor) -> dict[int, Tensor]:
        """Return the map of each level, (N, C, h, w) by stride, of normalised images (N, C, H, W)."""
        ...


def select_levels(backbone: Backbone, *strides: int) -> list[FeatureLevel]:
    """Return a backbone's feature levels of the given strides; ModelError where it lacks one."""
    missing = [stride for stride in strides if stride not in backbone.levels]
    if missing:
        raise ModelError(f"the backbone has no feature map of stride {missing[0]}, only {sorted(backbone.levels)}: choose another backbone")
    return [backbone.levels[stride] for stride in strides]


def padding_mode(padding: int) -> PaddingMode:
    """Return who pads the image for a first layer with ``padding`` zeros on each side; ModelError where they are not from 0 to 200."""
    if not isinstance(padding, int) or not 0 <= padding <= 2 * INPUT_PADDING:
        raise ModelError(f"found padding {padding}, expected 0 to {2 * INPUT_PADDING}: the paper's is {INPUT_PADDING}")
    return "input_padding" if padding >= INPUT_PADDING else "external"


def check_skips(skips: str) -> bool:
    """Return whether feature levels are read after the last convolution of their stride; ModelError where ``skips`` is no :data:`Skips`."""
    if skips not in ("pooling", "convolution"):
        raise ModelError(f"found skips {skips!r:.80}, expected 'pooling' (as the FCN paper) or 'convolution'")
    return skips == "convolution"


def measure_levels(features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3, multiple: int = 1) -> list[FeatureLevel]:
    """Return the channels and the geometry of each feature map of a network that does not declare them.

    ``features`` is a network in eval mode, on the CPU or the meta device: (N, C, H, W) to a list of (N, C', h, w) maps. The
    receptive field is ``math.inf`` where a gate or a normalisation averages over the whole image; stride and offset are those
    of the other layers. GeometryError where the cells do not lie on a regular grid, the same for every image size and along
    both axes. ``multiple`` is what the images' sides are multiples of.

    >>> from torch import nn
    >>> (level,) = measure_levels(lambda x: [nn.Conv2d(3, 8, 3, stride=2, padding=1)(x)])
    >>> level.channels, int(level.geometry.stride), int(level.geometry.offset), int(level.geometry.receptive_field)
    (8, 2, 0, 3)
    """
    found = measure_receptive_fields(features, in_channels=in_channels, multiple=multiple)
    return [FeatureLevel(m.channels, replace(m.geometry, receptive_field=math.inf) if m.has_global_average else m.geometry) for m in found]
