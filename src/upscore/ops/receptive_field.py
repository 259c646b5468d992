"""Measure where the cells of a feature map lie and what they see, by the support of a gradient.

The network is run once with every layer replaced by its footprint. All numbers are positive,
so nothing cancels, and the pixels where one cell's gradient is not zero are exactly those
that the cell sees::

    pixels    0 0 0 + + + + + + + + + 0 0 0 0        cell i       field = number of +
              0 0 0 0 0 + + + + + + + + + 0 0        cell i + 1   jump  = distance of the middles
                      └─┘ jump

No weight is read, so the network may live on the meta device and cost no memory. Images
are long and thin, one axis at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry
from upscore.ops.receptive_field_mode import ReceptiveFieldMode

__all__ = ["Measured", "measure"]

THIN = (64, 384, 768)
"""Pixels across; the later ones for networks that pad nothing and leave no cell of the first."""

LENGTHS = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Measured:
    """What was found about a feature map.

    Parameters
    ----------
    channels : int
        C.
    geometry : Geometry
        Where its cells lie and what they see, gates and normalisations left aside.
    looks_everywhere : bool
        A gate or a normalisation before it averages over the whole image.
    """

    channels: int
    geometry: Geometry
    looks_everywhere: bool


@torch.inference_mode(False)
@torch.enable_grad()
def measure(features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3, least: int = 1, axis: int | None = None) -> list[Measured]:
    """Return the channels and the geometry of each feature map.

    Parameters
    ----------
    features : callable
        A network in eval mode, on the CPU or the meta device: (N, C, H, W) to a list of
        (N, C', h, w) maps.
    in_channels : int
        Its C.
    least : int
        Pixels that an image must have along each axis for the network to work as it is meant to.
    axis : {-2, -1}, optional
        Measure along this one alone; by default along both, which must agree.

    Returns
    -------
    list of Measured
        In the order of the maps.

    Raises
    ------
    GeometryError
        Cells do not lie on a regular grid, or not on the same one for every image size and
        along both axes.
    """
    widths = [max(thin, least) for thin in THIN]
    thin = next(thin for thin in widths if thin == widths[-1] or _fits(features, in_channels, thin))
    for length in LENGTHS:
        rows = _along_axis(features, in_channels, (thin, length) if axis == -1 else (length, thin))
        if rows is not None:
            break
    else:
        raise GeometryError(f"its cells see about {LENGTHS[-1]} pixels or more")
    columns = _along_axis(features, in_channels, (length + 1, thin) if axis == -2 else (thin, length + 1))
    for row, column in zip(rows, columns or [], strict=True):
        one, two = row.geometry, column.geometry
        if (one.stride, one.offset) != (two.stride, two.offset) or (
            one.receptive_field != two.receptive_field and not row.looks_everywhere
        ):
            raise GeometryError(
                f"its cells start at {float(one.offset):g}, {float(one.stride):g} apart, on images of {length} pixels and at "
                f"{float(two.offset):g}, {float(two.stride):g} apart, on {length + 1}: its padding depends on the size"
            )
    return rows


def _fits(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: int) -> bool:
    """Say whether an image of ``size`` is large enough for the network."""
    try:
        with torch.device("cpu"), ReceptiveFieldMode():
            features(torch.ones(1, in_channels, size, size, dtype=torch.float64, requires_grad=True))
    except RuntimeError:
        return False
    return True


def _along_axis(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: tuple[int, int]) -> list[Measured] | None:
    """Measure along the longer axis of an image of ``size``; None where a cell sees past its ends."""
    axis, length = (-2, size[0]) if size[0] > size[1] else (-1, size[1])
    image = torch.ones(1, in_channels, *size, dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.device("cpu"), ReceptiveFieldMode() as footprints:
        maps = features(image)
    found = []
    for cells in maps:
        if cells.ndim != 4:
            raise GeometryError(f"its feature maps have {cells.ndim} axes, expected 4")
        middle = cells.shape[axis] // 2
        places = (middle, middle + 1, middle + 2)
        if places[-1] >= cells.shape[axis]:
            raise GeometryError(f"its cells lie more than {length // 4} pixels apart")
        firsts, lasts = zip(*(_support(cells.select(axis, i).sum(), image, axis) for i in places), strict=True)
        if firsts[0] == 0 or lasts[-1] == length - 1:
            return None
        jump, field = firsts[1] - firsts[0], lasts[0] - firsts[0] + 1
        for i in (1, 2):
            if firsts[i] != firsts[0] + i * jump or lasts[i] != lasts[0] + i * jump or not jump:
                raise GeometryError("its neighbouring cells do not see equal stretches at equal distances")
        start = Fraction(firsts[0] + lasts[0], 2) - middle * jump
        found.append(Measured(cells.shape[1], Geometry(Fraction(jump), start, Fraction(field)), footprints.looks_everywhere))
    return found


def _support(cell: Tensor, image: Tensor, axis: int) -> tuple[int, int]:
    """Return the first and last place along ``axis`` where the gradient of ``cell`` is not zero."""
    (gradient,) = torch.autograd.grad(cell, image, retain_graph=True)
    profile = gradient.sum(dim=(0, 1, -1 if axis == -2 else -2))
    seen = profile.nonzero().flatten()
    if not len(seen):
        raise GeometryError("one of its cells sees nothing of the image")
    return int(seen[0]), int(seen[-1])
