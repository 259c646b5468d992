"""The geometry of a backbone that does not declare it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from upscore.models.backbone import FeatureLevel
from upscore.ops.receptive_field import measure_receptive_fields

__all__ = ["measure_levels"]


def measure_levels(features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3) -> list[FeatureLevel]:
    """Return the channels and the geometry of each feature map.

    Parameters
    ----------
    features : callable
        A network in eval mode, on the CPU or the meta device: (N, C, H, W) to a list of
        (N, C', h, w) maps.
    in_channels : int
        Its C.

    Returns
    -------
    list of FeatureLevel
        In the order of the maps. ``field`` is ``math.inf`` where a gate or a normalisation
        looks at the whole image; ``jump`` and ``start`` are those of the rest.

    Raises
    ------
    GeometryError
        Cells do not lie on a regular grid, or not on the same one for every image size and
        along both axes.
    """
    found = measure_receptive_fields(features, in_channels=in_channels)
    return [FeatureLevel(m.channels, replace(m.geometry, receptive_field=math.inf) if m.has_global_average else m.geometry) for m in found]
