"""Shift-and-stitch: a dense grid out of a coarse network, by running it on shifted images.

Long, Shelhamer and Darrell (2015), §3.2, after OverFeat (Sermanet et al. 2014). A network of
stride f answers at every f-th pixel. Shift the image by x and y pixels for all x and y below
f, run it f² times, and interlace the answers so that each lies where its window is centred::

    f = 2        shifted by 0    by 1        stitched
                 a   b   c       d   e       a d b e c …
    pixels       o o o o o o     o o o o o

The papers move the image right and down; here its first rows and columns are left out,
which differs in how shifts are counted and in nothing else.
:func:`upscore.ops.rarefaction.rarefy` computes the same numbers in one run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry
from upscore.ops.rarefaction import follow

__all__ = ["shift_and_stitch"]


def shift_and_stitch(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    factor: int | None = None,
    geometry: Geometry | None = None,
    shifts_at_once: int = 1,
) -> tuple[Tensor, Geometry]:
    """Run a network of stride f on f² shifted images, and interlace what it says.

    Parameters
    ----------
    network : nn.Module or callable
        (N, C, h, w) to (N, K, h', w'), without padding; a module in eval mode where it normalises
        batches or drops out.
    images : (N, C, H, W) floating
        Any H and W that hold one field of view.
    factor : int, optional
        How much finer the grid becomes along each axis, a divisor of f; f itself when not
        given, which gives a cell for each pixel.
    geometry : Geometry, optional
        Of the network's grid. When not given, the network is followed layer by layer, as
        :func:`upscore.ops.rarefaction.follow` can.
    shifts_at_once : int
        Shifted batches in one run; more need more memory.

    Returns
    -------
    scores : (N, K, h, w)
        With ``step = f / factor``: every cell whose field of view lies on the image and begins
        at a multiple of ``step``.
    geometry : Geometry
        Where they lie: jump ``step``, and the start and field of the network's own grid.
        Dense scores, of jump 1, belong to the pixels from ``start`` on where the field is odd,
        and between two pixels where it is even.

    Raises
    ------
    GeometryError
        The image is smaller than one field, the network pads, rows and columns differ, the
        factor is not a divisor, or the geometry is not the network's.
    ModelError
        The network cannot be followed; give its geometry.

    Notes
    -----
    Images are continued at the end by zeros, so that all shifted ones are of one size;
    cells that would see a zero are left out, as are those that ``ceil_mode`` adds.
    """
    geometry, lost = _ground(network) if geometry is None else (geometry, _lost_of(geometry))
    stride = int(geometry.stride)
    factor = stride if factor is None else factor
    if not isinstance(factor, int) or factor < 1 or stride % factor or stride != geometry.stride:
        raise GeometryError(f"found factor {factor} for a network of stride {geometry.stride}, expected a whole divisor of it")
    if shifts_at_once < 1:
        raise GeometryError(f"found {shifts_at_once} shifts at once, expected at least 1")
    height, width = images.shape[-2:]
    if min(height, width) <= lost:
        raise GeometryError(f"found images of {height}×{width}, expected at least {lost + 1}×{lost + 1}: one field of view")
    step = stride // factor
    reach = (factor - 1) * step
    padded = F.pad(images, (0, reach, 0, reach))
    shifted = [padded[..., y : y + height, x : x + width] for y in range(0, reach + 1, step) for x in range(0, reach + 1, step)]
    runs: list[Tensor] = []
    for first in range(0, len(shifted), shifts_at_once):
        together = shifted[first : first + shifts_at_once]
        runs.extend(network(torch.cat(together)).chunk(len(together)))
    rows, columns = ((size - lost - 1) // stride + 1 for size in (height, width))
    if runs[0].ndim != 4 or runs[0].shape[-2] < rows or runs[0].shape[-1] < columns:
        raise GeometryError(
            f"found scores of shape {tuple(runs[0].shape)} on images of {height}×{width}, expected at least {rows}×{columns} cells "
            f"by a stride of {stride} and a field of {lost + 1}: give the network's own geometry"
        )
    runs = [run[..., :rows, :columns] for run in runs]
    stitched = F.pixel_shuffle(torch.stack(runs, 2).flatten(1, 2), factor)  # cell (y, x) of each block is shift (y, x)
    dense = stitched[..., : (height - lost - 1) // step + 1, : (width - lost - 1) // step + 1]
    return dense, Geometry(geometry.stride / factor, geometry.offset, geometry.receptive_field)


def _ground(network: Callable[[Tensor], Tensor]) -> tuple[Geometry, int]:
    """Return the grid of a network that can be followed, and the pixels that it loses along each axis."""
    if not isinstance(network, nn.Module):
        raise GeometryError(f"found a {type(network).__name__} to shift and stitch, expected a network, or its geometry beside it")
    rows, columns = follow(network)
    if rows != columns:
        raise GeometryError(
            f"found a network whose rows have stride {rows.geometry.stride} and field {rows.geometry.receptive_field}, and columns "
            f"{columns.geometry.stride} and {columns.geometry.receptive_field}: expected the same; 'rarefy' takes both"
        )
    return rows.geometry, rows.lost


def _lost_of(geometry: Geometry) -> int:
    """Return the pixels that a symmetric network loses along each axis: half of them before its first cell."""
    lost = 2 * geometry.offset
    if lost.denominator != 1 or lost < geometry.receptive_field - 1:
        raise GeometryError(
            f"found a grid that starts at {float(geometry.offset):g} with a field of {float(geometry.receptive_field):g}, "
            "expected a start of "
            f"{(float(geometry.receptive_field) - 1) / 2:g} or more: the network pads; give it padding 0 and pad the image once"
        )
    return int(lost)
