"""Shift-and-stitch: a dense grid from a coarse network, run on shifted images.

Long, Shelhamer and Darrell (2015), §3.2, after OverFeat (Sermanet et al. 2014). A network of
stride f gives scores at every f-th pixel. Shift the image by x and y pixels for all x and y
below f, run the network on all f² shifts, and interlace the outputs so that each cell lies at
the centre of its receptive field::

    f = 2        shifted by 0    by 1        stitched
                 a   b   c       d   e       a d b e c …
    pixels       o o o o o o     o o o o o

The papers shift the image right and down; here its first rows and columns are left out, which
only numbers the shifts differently. :func:`~upscore.dense_classifiers.rarefaction.rarefy`
computes the same numbers in one run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.dense_classifiers.rarefaction import output_grid
from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry

__all__ = ["shift_and_stitch"]


def shift_and_stitch(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    factor: int | None = None,
    geometry: Geometry | None = None,
    shifts_at_once: int = 1,
) -> tuple[Tensor, Geometry]:
    """Run a network of stride f on f² shifted images, and interlace the outputs.

    Parameters
    ----------
    network : nn.Module or callable
        (N, C, h, w) to (N, K, h', w'), without padding; in eval mode if it has batch
        normalisation or dropout.
    images : (N, C, H, W) floating
        Any H and W that hold one receptive field.
    factor : int, optional
        How much finer the grid becomes along each axis, a divisor of f; f itself when not
        given, which gives a cell for each pixel.
    geometry : Geometry, optional
        Of the network's grid; by default found by
        :func:`~upscore.dense_classifiers.rarefaction.output_grid`.
    shifts_at_once : int
        Shifts in one batch; more need more memory.

    Returns
    -------
    scores : (N, K, h, w)
        With ``step = f / factor``: every cell whose receptive field lies on the image and begins
        at a multiple of ``step``.
    geometry : Geometry
        Stride ``step``, with the offset and receptive field of the network's grid. Dense
        scores, of stride 1, lie on pixels where the receptive field is odd, and between two
        pixels where it is even.

    Raises
    ------
    GeometryError
        The image is smaller than one receptive field, the network pads, rows and columns differ,
        the factor is not a divisor, or the geometry is not the network's.
    ModelError
        The network cannot be traced; give its geometry.

    Notes
    -----
    Images are padded by zeros at the end, so that all shifted ones have one size; cells that
    would see a zero are left out, as are those that ``ceil_mode`` adds.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.MaxPool2d(2), nn.Conv2d(8, 5, 3))
    >>> scores, geometry = shift_and_stitch(network, torch.zeros(1, 3, 31, 31))
    >>> scores.shape, geometry.stride
    (torch.Size([1, 5, 19, 19]), Fraction(1, 1))
    """
    geometry, shrinkage = _traced_geometry(network) if geometry is None else (geometry, _shrinkage_of(geometry))
    stride = int(geometry.stride)
    factor = stride if factor is None else factor
    if not isinstance(factor, int) or factor < 1 or stride % factor or stride != geometry.stride:
        raise GeometryError(f"found factor {factor} for a network of stride {geometry.stride}, expected a whole divisor of it")
    if shifts_at_once < 1:
        raise GeometryError(f"found {shifts_at_once} shifts at once, expected at least 1")
    height, width = images.shape[-2:]
    if min(height, width) <= shrinkage:
        raise GeometryError(f"found images of {height}×{width}, expected at least {shrinkage + 1}×{shrinkage + 1}: one receptive field")
    step = stride // factor
    reach = (factor - 1) * step
    padded = F.pad(images, (0, reach, 0, reach))
    shifted = [padded[..., y : y + height, x : x + width] for y in range(0, reach + 1, step) for x in range(0, reach + 1, step)]
    runs: list[Tensor] = []
    for first in range(0, len(shifted), shifts_at_once):
        together = shifted[first : first + shifts_at_once]
        runs.extend(network(torch.cat(together)).chunk(len(together)))
    rows, columns = ((size - shrinkage - 1) // stride + 1 for size in (height, width))
    if runs[0].ndim != 4 or runs[0].shape[-2] < rows or runs[0].shape[-1] < columns:
        raise GeometryError(
            f"found scores of shape {tuple(runs[0].shape)} on images of {height}×{width}, expected at least {rows}×{columns} cells "
            f"by a stride of {stride} and a receptive field of {shrinkage + 1}: give the network's own geometry"
        )
    runs = [run[..., :rows, :columns] for run in runs]
    stitched = F.pixel_shuffle(torch.stack(runs, 2).flatten(1, 2), factor)  # cell (y, x) of each block is shift (y, x)
    dense = stitched[..., : (height - shrinkage - 1) // step + 1, : (width - shrinkage - 1) // step + 1]
    return dense, Geometry(geometry.stride / factor, geometry.offset, geometry.receptive_field)


def _traced_geometry(network: Callable[[Tensor], Tensor]) -> tuple[Geometry, int]:
    """Return the geometry of a network that can be traced, and by how many pixels its dense output is smaller than the image."""
    if not isinstance(network, nn.Module):
        raise GeometryError(f"found a {type(network).__name__} to shift and stitch, expected an nn.Module, or its geometry as an argument")
    rows, columns = output_grid(network)
    if rows != columns:
        raise GeometryError(
            f"found a network whose rows have stride {rows.geometry.stride} and receptive field {rows.geometry.receptive_field}, "
            f"and columns {columns.geometry.stride} and {columns.geometry.receptive_field}: expected the same; rarefy() takes both"
        )
    return rows.geometry, rows.shrinkage


def _shrinkage_of(geometry: Geometry) -> int:
    """Return by how many pixels the dense output of a symmetric network is smaller than the image: half of them before its first cell."""
    shrinkage = 2 * geometry.offset
    if shrinkage.denominator != 1 or shrinkage < geometry.receptive_field - 1:
        raise GeometryError(
            f"found a grid of offset {float(geometry.offset):g} and receptive field {float(geometry.receptive_field):g}, expected an "
            f"offset of {(float(geometry.receptive_field) - 1) / 2:g} or more: the network pads; give it padding 0 and pad the image once"
        )
    return int(shrinkage)
