"""Every pixel with every other, on tensors: the kernel is made tile by tile, used and forgotten.

::

    pixels ──halved and halved──► tiles of near ones       K_ij = exp(f_i·f_j - |f_i|²/2 - |f_j|²/2)
                                                                = exp([f_i, -|f_i|²/2, 1] · [f_j, 1, -|f_j|²/2])
                 columns
             ┌───┬───┬───┬───┐
        rows │ K │ K │   │   │     a tile of K times its values (C) is added to the rows' sums
             ├───┼───┼───┼───┤
             │ K │ K │ K │   │     left blank: tiles so far apart that all of what is left out
             └───┴───┴───┴───┘     is below the rounding of the sum

K V is attention without its softmax's division, with queries and keys f (Vaswani and others,
2017, eq. 1); the row sums are what softmax would divide by. A fused attention in half precision
is not used: even with f split in high and low parts it was off by up to 1e-3 where it was
emulated, and this one promises 1e-4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from upscore.crf.engines.permutohedral import check_values
from upscore.crf.engines.tensors import full_precision
from upscore.errors import CRFError

__all__ = ["TiledFilter"]

_TILE = {"cpu": 128}
"""Pixels of a tile: the more, the fewer steps; the fewer, the closer together they are."""

_LARGE_TILE = 1024

_ENTRIES = {"cpu": 1 << 18}
"""Entries of the kernel computed at a time: on a processor they stay in its cache."""

_MANY_ENTRIES = 1 << 26

_NARROW, _WIDE = 8.0, 1000.0
"""How far a pixel of a tile may be from its middle for exponents by products in float32, and in float64.

Terms of (8 + 5)² / 2 cancel in the exponent of a pair 5 apart, each rounded by 2⁻²⁴ of itself:
a few 1e-5 of an entry that is 4e-6. Terms of 1000² / 2, rounded by 2⁻⁵³, leave some 1e-10.
Wider tiles take the differences.
"""


class TiledFilter:
    """Multiply by the matrix ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) float64
        Divided by their sigmas, on the device to compute on. They are not differentiated.
    dtype : {torch.float32, torch.float64}
        Of the values and sums. A pixel's answer is off by less than 1e-4 in float32 and 1e-9 in
        float64, in units of the largest value times its row sum.
    tile : int, optional
        Pixels of a tile at most; does not change the result beyond rounding.
    entries : int, optional
        Entries of the kernel in memory at once, at least those of one tile.

    Raises
    ------
    CRFError
        A tile of no pixel, or features that are not numbers.
    """

    def __init__(
        self, features: Tensor, dtype: torch.dtype = torch.float32, *, tile: int | None = None, entries: int | None = None
    ) -> None:
        kind = features.device.type
        tile = _TILE.get(kind, _LARGE_TILE) if tile is None else tile
        if tile < 1:
            raise CRFError(f"found tiles of {tile} pixels, expected at least 1")
        if not bool(torch.isfinite(features).all()):
            raise CRFError("found features that are not numbers: check the picture and the sigmas")
        self.dtype, self.count = dtype, len(features)
        with torch.no_grad():
            centred = features - features.mean(0)
            padded = torch.cat([centred, centred[-1:]])  # pixels that fill the tiles up: of no value, so that they say nothing
            self.order = _in_tiles(padded, tile)
            self.points = padded[self.order]
            self.at_once = max(1, (_ENTRIES.get(kind, _MANY_ENTRIES) if entries is None else entries) // self.order.shape[1] ** 2)
            low, high = self.points.amin(1), self.points.amax(1)
            self.centres = (low + high) / 2
            self.radii = (self.points - self.centres[:, None]).norm(dim=2).amax(1).tolist()
            # N entries below eps / N each.
            reach = 2 * math.log(self.count / torch.finfo(dtype).eps) + 1
            gaps = ((low[i] - high).clamp_min_(0).add_((low - high[i]).clamp_min_(0)).square_().sum(1) for i in range(len(low)))
            self.near = [(gap <= reach).nonzero()[:, 0] for gap in gaps]

    def multiply(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the kernel times ``values`` (N, C), which is its own transpose; a pixel's message to itself is in it.

        Raises
        ------
        CRFError
            The values are of another number of pixels, type or device.
        """
        check_values(values, self.count, self.points.new_empty(0, dtype=self.dtype))
        given = torch.cat([values, values.new_zeros((1, values.shape[1]))])[self.order]
        sums = torch.zeros_like(given)
        with full_precision():  # on the way back too, where the caller's settings hold
            for row, (centre, near, radius) in enumerate(zip(self.centres, self.near, self.radii, strict=True)):
                asking = self.points[row] - centre
                for some in torch.split(near, self.at_once):
                    answering = (self.points[some] - centre).flatten(0, 1)
                    entries = _exponents(asking, answering, radius, self.dtype).exp_().to(self.dtype)
                    sums[row].addmm_(entries, given[some].flatten(0, 1))
        result = values.new_empty((self.count + 1, values.shape[1]))
        result[self.order.flatten()] = sums.flatten(0, 1)
        return result[:-1]


def _exponents(asking: Tensor, answering: Tensor, radius: float, dtype: torch.dtype) -> Tensor:
    """Return ``-|a - b|²/2`` of all rows and columns, where rows are within ``radius`` of zero: good enough for ``dtype``, or finer."""
    if radius <= _WIDE:
        precision = dtype if radius <= _NARROW else torch.float64
        return (_extended(asking, -2, -1).to(precision) @ _extended(answering, -1, -2).to(precision).T).clamp_(max=0)
    squares = asking.new_zeros((len(asking), len(answering)))
    for a, b in zip(asking.T, answering.T, strict=True):
        squares += (a[:, None] - b).square_()
    return squares.mul_(-0.5)


def _extended(features: Tensor, square: int, one: int) -> Tensor:
    """Return features (n, d) with ``-|f|²/2`` and 1 as two more columns, at these places from the end."""
    n, d = features.shape
    wide = features.new_ones((n, d + 2))
    wide[:, :d] = features
    wide[:, square] = features.square().sum(1) / -2
    return wide


def _in_tiles(features: Tensor, tile: int) -> Tensor:
    """Return which pixels each tile holds (tiles, at most ``tile``), the last of ``features`` as often as it takes to fill them.

    All pixels are cut in two halves where they are spread most, and those again, until they are
    few enough: the leaves of a k-d tree (Bentley, 1975).
    """
    last = len(features) - 1
    halvings = max(0, math.ceil(math.log2(last / tile)))
    size = -(-last // 2**halvings)
    order = torch.arange(size * 2**halvings, device=features.device).clamp_(max=last)[None]
    for _ in range(halvings):
        points = features[order]
        widest = (points.amax(1) - points.amin(1)).argmax(1)
        along = points.gather(2, widest[:, None, None].expand(-1, points.shape[1], 1))[..., 0]
        order = order.gather(1, along.argsort(dim=1, stable=True)).reshape(2 * len(order), -1)
    return order
