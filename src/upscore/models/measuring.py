"""Measure where the cells of a feature map lie and what they see, by the support of a gradient.

The network is run once with every layer replaced by its footprint. All numbers are positive,
so nothing cancels, and the pixels where one cell's gradient is not zero are exactly those
that the cell sees::

    pixels    0 0 0 + + + + + + + + + 0 0 0 0        cell i       field = number of +
              0 0 0 0 0 + + + + + + + + + 0 0        cell i + 1   jump  = distance of the middles
                      └─┘ jump

No weight is read, so the network may live on the meta device and cost no memory. Pictures
are long and thin, one axis at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from upscore.errors import GeometryError
from upscore.models.footprints import Footprints
from upscore.models.trunk import Tap
from upscore.ops.geometry import Geometry

__all__ = ["measure_taps"]

THIN = (64, 384)
"""Pixels across; the second for networks that pad nothing and leave no cell of the first."""

LENGTHS = (1024, 2048, 4096, 8192)


@torch.inference_mode(False)
@torch.enable_grad()
def measure_taps(features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3) -> list[Tap]:
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
    list of Tap
        In the order of the maps. ``field`` is ``math.inf`` where a gate or a normalisation
        looks at the whole picture; ``jump`` and ``start`` are those of the rest.

    Raises
    ------
    GeometryError
        Cells do not lie on a regular grid, or not on the same one for every picture size and
        along both axes.
    """
    thin = next(thin for thin in THIN if thin == THIN[-1] or _fits(features, in_channels, thin))
    for length in LENGTHS:
        rows = _along_axis(features, in_channels, (length, thin))
        if rows is not None:
            break
    else:
        raise GeometryError(f"its cells see about {LENGTHS[-1]} pixels or more")
    columns = _along_axis(features, in_channels, (thin, length + 1))
    for tap, other in zip(rows, columns or [], strict=True):
        if tap != other:
            one, two = tap.geometry, other.geometry
            raise GeometryError(
                f"its cells start at {float(one.start):g}, {float(one.jump):g} apart, on pictures of {length} pixels and at "
                f"{float(two.start):g}, {float(two.jump):g} apart, on {length + 1}: its padding depends on the size"
            )
    return rows


def _fits(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: int) -> bool:
    """Say whether a picture of ``size`` is large enough for the network."""
    try:
        with torch.device("cpu"), Footprints():
            features(torch.ones(1, in_channels, size, size, dtype=torch.float64, requires_grad=True))
    except RuntimeError:
        return False
    return True


def _along_axis(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: tuple[int, int]) -> list[Tap] | None:
    """Measure along the longer axis of a picture of ``size``; None where a cell sees past its ends."""
    axis, length = (-2, size[0]) if size[0] > size[1] else (-1, size[1])
    picture = torch.ones(1, in_channels, *size, dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.device("cpu"), Footprints() as footprints:
        maps = features(picture)
    taps = []
    for cells in maps:
        if cells.ndim != 4:
            raise GeometryError(f"its feature maps have {cells.ndim} axes, expected 4")
        middle = cells.shape[axis] // 2
        places = (middle, middle + 1, middle + 2)
        if places[-1] >= cells.shape[axis]:
            raise GeometryError(f"its cells lie more than {length // 4} pixels apart")
        firsts, lasts = zip(*(_support(cells.select(axis, i).sum(), picture, axis) for i in places), strict=True)
        if firsts[0] == 0 or lasts[-1] == length - 1:
            return None
        jump, field = firsts[1] - firsts[0], lasts[0] - firsts[0] + 1
        for i in (1, 2):
            if firsts[i] != firsts[0] + i * jump or lasts[i] != lasts[0] + i * jump or not jump:
                raise GeometryError("its neighbouring cells do not see equal stretches at equal distances")
        start = Fraction(firsts[0] + lasts[0], 2) - middle * jump
        geometry = Geometry(Fraction(jump), start, math.inf if footprints.looks_everywhere else Fraction(field))
        taps.append(Tap(cells.shape[1], geometry))
    return taps


def _support(cell: Tensor, picture: Tensor, axis: int) -> tuple[int, int]:
    """Return the first and last place along ``axis`` where the gradient of ``cell`` is not zero."""
    (gradient,) = torch.autograd.grad(cell, picture, retain_graph=True)
    profile = gradient.sum(dim=(0, 1, -1 if axis == -2 else -2))
    seen = profile.nonzero().flatten()
    if not len(seen):
        raise GeometryError("one of its cells sees nothing of the picture")
    return int(seen[0]), int(seen[-1])
