"""Measure the stride, offset and receptive field of any feature map, from the support of gradients.

The network is run once in :class:`~upscore.ops.receptive_field_mode.ReceptiveFieldMode`. All
numbers are positive, so nothing cancels, and a cell's gradient is non-zero at exactly the pixels
of its receptive field::

    pixels    0 0 0 + + + + + + + + + 0 0 0 0        cell i       receptive field = number of +
              0 0 0 0 0 + + + + + + + + + 0 0        cell i + 1   stride = distance of the centres
                      └─┘ stride

No weight is read, so the network may be on the meta device and use no memory. Each axis is
measured on long, thin images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry
from upscore.ops.receptive_field_mode import ReceptiveFieldMode

__all__ = ["MeasuredMap", "locate_cells", "measure_receptive_fields"]

WIDTHS = (64, 384, 768)
"""Pixels across; the larger ones for networks without padding, which leave no cell of the first."""

LENGTHS = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class MeasuredMap:
    """The channels and the geometry of a feature map."""

    channels: int
    geometry: Geometry  #: without regard to global averages
    has_global_average: bool  #: a gate or a normalisation before it averages over the whole image


@torch.inference_mode(False)
@torch.enable_grad()
def measure_receptive_fields(
    features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3, min_size: int = 1, axis: int | None = None, multiple: int = 1
) -> list[MeasuredMap]:
    """Return the channels and the geometry of each feature map.

    Parameters
    ----------
    features : callable
        A network in eval mode, on the CPU or the meta device: (N, C, H, W) to a list of
        (N, C', h, w) maps.
    in_channels : int
        Its C.
    min_size : int
        Smallest height and width of the network's images.
    axis : {-2, -1}, optional
        Measure along this axis only; by default along both, which must agree.
    multiple : int
        Images have sides that are multiples of it, a power of two up to 64.

    Raises
    ------
    GeometryError
        Cells do not lie on a regular grid, or the grid depends on the image size or the axis.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.MaxPool2d(2)).eval()
    >>> measure_receptive_fields(lambda images: [network(images)])[0].geometry
    Geometry(stride=Fraction(2, 1), offset=Fraction(1, 2), receptive_field=Fraction(4, 1))
    """
    widths = [max(width, min_size) for width in WIDTHS]
    width = next(width for width in widths if width == widths[-1] or _fits(features, in_channels, width))
    for length in LENGTHS:
        rows = _along_axis(features, in_channels, (width, length) if axis == -1 else (length, width))
        if rows is not None:
            break
    else:
        raise GeometryError(f"its receptive field is about {LENGTHS[-1]} pixels or more")
    columns = _along_axis(features, in_channels, (length + multiple, width) if axis == -2 else (width, length + multiple))
    for row, column in zip(rows, columns or [], strict=True):
        of_row, of_column = row.geometry, column.geometry
        if (of_row.stride, of_row.offset) != (of_column.stride, of_column.offset) or (
            of_row.receptive_field != of_column.receptive_field and not row.has_global_average
        ):
            raise GeometryError(
                f"its cells have offset {float(of_row.offset):g} and stride {float(of_row.stride):g} on images of {length} pixels, and "
                f"{float(of_column.offset):g} and {float(of_column.stride):g} on {length + multiple}: its padding depends on the size"
            )
    return rows


@torch.inference_mode(False)
@torch.enable_grad()
def locate_cells(
    features: Callable[[Tensor], list[Tensor]], *, in_channels: int = 3, length: int = 256, width: int = 256
) -> list[Geometry]:
    """Return the grid of each feature map of a network whose cells see the whole image, or unequal parts of it.

    Attention and maps that are upsampled are detached: what remains of the network says where a cell lies. It takes a
    fraction of the time of :func:`measure_receptive_fields`, since no receptive field has to fit.

    Parameters
    ----------
    features : callable
        As for :func:`measure_receptive_fields`.
    in_channels : int
        Its C.
    length, width : int
        Of the images that are given to it, one along each axis; the length is the larger.

    Raises
    ------
    GeometryError
        The cells do not divide the image evenly, the axes differ, or a middle cell sees the image's edge.

    Examples
    --------
    >>> network = torch.nn.Conv2d(3, 8, 16, stride=16).eval()
    >>> locate_cells(lambda images: [network(images)])
    [Geometry(stride=Fraction(16, 1), offset=Fraction(15, 2), receptive_field=inf)]
    """
    rows = _locate_along(features, in_channels, -2, length, width)
    if rows != _locate_along(features, in_channels, -1, length, width):
        raise GeometryError("its cells lie otherwise along rows than along columns")
    return rows


def _locate_along(features: Callable[[Tensor], list[Tensor]], in_channels: int, axis: int, length: int, width: int) -> list[Geometry]:
    size = (length, width) if axis == -2 else (width, length)
    image = torch.ones(1, in_channels, *size, dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.device("cpu"), ReceptiveFieldMode(detach_mixing=True):
        maps = features(image)
    found = []
    for cells in maps:
        count = cells.shape[axis]
        if length % count:
            raise GeometryError(f"its {count} cells do not divide an image of {length} pixels")
        stride, middle = length // count, count // 2
        first, last = _support(cells.select(axis, middle).sum(), image, axis)
        if first == 0 or last == length - 1:
            raise GeometryError(f"its cells see more than {length} pixels without attention")
        found.append(Geometry(Fraction(stride), Fraction(first + last, 2) - middle * stride, math.inf))
    return found


def _fits(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: int) -> bool:
    """Return whether an image of ``size`` is large enough for the network."""
    try:
        with torch.device("cpu"), ReceptiveFieldMode():
            features(torch.ones(1, in_channels, size, size, dtype=torch.float64, requires_grad=True))
    except RuntimeError:
        return False
    return True


def _along_axis(features: Callable[[Tensor], list[Tensor]], in_channels: int, size: tuple[int, int]) -> list[MeasuredMap] | None:
    """Measure along the longer axis of an image of ``size``; None if a receptive field exceeds it."""
    axis, length = (-2, size[0]) if size[0] > size[1] else (-1, size[1])
    image = torch.ones(1, in_channels, *size, dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.device("cpu"), ReceptiveFieldMode() as mode:
        maps = features(image)
    found = []
    for cells in maps:
        if cells.ndim != 4:
            raise GeometryError(f"its feature maps have {cells.ndim} axes, expected 4")
        middle = cells.shape[axis] // 2
        if middle + 2 >= cells.shape[axis]:
            raise GeometryError(f"its stride is more than {length // 4} pixels")
        firsts, lasts = zip(*(_support(cells.select(axis, i).sum(), image, axis) for i in range(middle, middle + 3)), strict=True)
        if firsts[0] == 0 or lasts[-1] == length - 1:
            return None
        stride, receptive_field = firsts[1] - firsts[0], lasts[0] - firsts[0] + 1
        for i in (1, 2):
            if firsts[i] != firsts[0] + i * stride or lasts[i] != lasts[0] + i * stride or not stride:
                raise GeometryError("its neighbouring cells have unequal receptive fields or distances")
        geometry = Geometry(Fraction(stride), Fraction(firsts[0] + lasts[0], 2) - middle * stride, Fraction(receptive_field))
        found.append(MeasuredMap(cells.shape[1], geometry, mode.has_global_average))
    return found


def _support(cell: Tensor, image: Tensor, axis: int) -> tuple[int, int]:
    """Return the first and last position along ``axis`` at which the gradient of ``cell`` is not zero."""
    if not cell.requires_grad:
        raise GeometryError("one of its cells depends on the image by attention alone, which shows no position")
    (gradient,) = torch.autograd.grad(cell, image, retain_graph=True)
    profile = gradient.sum(dim=(0, 1, -1 if axis == -2 else -2))
    support = profile.nonzero().flatten()
    if not len(support):
        raise GeometryError("one of its cells does not depend on the image")
    return int(support[0]), int(support[-1])
