"""All pairs of pixels, on tensors of any device: the kernel is computed tile by tile and never stored.

::

    pixels ──k-d tree──► tiles of near pixels              K_ij = exp(f_i·f_j - |f_i|²/2 - |f_j|²/2)
                                                                = exp([f_i, -|f_i|²/2, 1] · [f_j, 1, -|f_j|²/2])
                 columns
             ┌───┬───┬───┬───┐
        rows │ K │ K │   │   │     a tile of K times its values (C) is added to the rows' sums
             ├───┼───┼───┼───┤
             │ K │ K │ K │   │     blank: tiles so far apart that everything omitted is below
             └───┴───┴───┴───┘     the rounding error of the sum

K V is attention with queries and keys f, without the softmax's division by the row sums (Vaswani
and others, 2017, eq. 1). Fused attention in half precision is not used: even with f split into
high and low parts its error reached 1e-3 in an emulation, and this filter promises 1e-4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from upscore.crf.engines.torch_lattice import check_values
from upscore.crf.engines.torch_meanfield import full_precision
from upscore.errors import CRFError

__all__ = ["TorchExactFilter"]

_TILE = {"cpu": 128}
"""Pixels of a tile: large tiles take fewer steps, small ones hold pixels that are closer together."""

_LARGE_TILE = 1024

_ENTRIES = {"cpu": 1 << 18}
"""Entries of the kernel computed at a time: on a CPU they stay in its cache."""

_MANY_ENTRIES = 1 << 26

_NEAR, _FAR = 8.0, 1000.0
"""How far a pixel may be from its tile's centre for exponents computed by products in float32, and in float64.

Terms of (8 + 5)² / 2 cancel in the exponent of a pair 5 apart, each rounded by 2⁻²⁴ of itself:
a few 1e-5 of an entry that is 4e-6. Terms of 1000² / 2, rounded by 2⁻⁵³, leave about 1e-10.
In wider tiles exponents are computed from differences.
"""


class TorchExactFilter:
    """Multiply by the matrix ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) float64
        Divided by their sigmas, on the device to compute on. They get no gradient.
    dtype : {torch.float32, torch.float64}
        Of the values and sums. The error of a pixel is below 1e-4 in float32 and 1e-9 in float64,
        relative to the largest value times its row sum.
    tile : int, optional
        Maximal number of pixels of a tile; changes the result only by rounding.
    entries : int, optional
        Entries of the kernel in memory at once, at least those of one tile.

    Raises
    ------
    CRFError
        ``tile`` is below 1, or a feature is not finite.

    Examples
    --------
    >>> kernel = TorchExactFilter(torch.tensor([[0.0], [1.0]]).double())
    >>> [round(value, 4) for value in kernel.multiply(torch.tensor([[1.0], [0.0]])).ravel().tolist()]
    [1.0, 0.6065]
    """

    def __init__(
        self, features: Tensor, dtype: torch.dtype = torch.float32, *, tile: int | None = None, entries: int | None = None
    ) -> None:
        kind = features.device.type
        tile = _TILE.get(kind, _LARGE_TILE) if tile is None else tile
        if tile < 1:
            raise CRFError(f"found tiles of {tile} pixels, expected at least 1")
        if not bool(torch.isfinite(features).all()):
            raise CRFError("found features that are not numbers: check the image and the sigmas")
        self.dtype, self.count = dtype, len(features)
        with torch.no_grad():
            centred = features - features.mean(0)
            padded = torch.cat([centred, centred[-1:]])  # padding of the tiles, whose values are zero
            self.order = _divide_into_tiles(padded, tile)
            self.points = padded[self.order]
            self.tiles_at_once = max(1, (_ENTRIES.get(kind, _MANY_ENTRIES) if entries is None else entries) // self.order.shape[1] ** 2)
            low, high = self.points.amin(1), self.points.amax(1)
            self.centres = (low + high) / 2
            self.radii = (self.points - self.centres[:, None]).norm(dim=2).amax(1).tolist()
            # The N entries omitted from a row are below eps / N each.
            reach = 2 * math.log(self.count / torch.finfo(dtype).eps) + 1
            gaps = ((low[i] - high).clamp_min_(0).add_((low - high[i]).clamp_min_(0)).square_().sum(1) for i in range(len(low)))
            self.near = [(gap <= reach).nonzero()[:, 0] for gap in gaps]

    def multiply(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the kernel, its own transpose, times ``values`` (N, C); CRFError where their number, dtype or device is another."""
        check_values(values, self.count, self.points.new_empty(0, dtype=self.dtype))
        tile_values = torch.cat([values, values.new_zeros((1, values.shape[1]))])[self.order]
        sums = torch.zeros_like(tile_values)
        with full_precision():  # in the backward pass too, which runs under the caller's settings
            for row, (centre, near, radius) in enumerate(zip(self.centres, self.near, self.radii, strict=True)):
                queries = self.points[row] - centre
                for tiles in torch.split(near, self.tiles_at_once):
                    keys = (self.points[tiles] - centre).flatten(0, 1)
                    entries = _exponents(queries, keys, radius, self.dtype).exp_().to(self.dtype)
                    sums[row].addmm_(entries, tile_values[tiles].flatten(0, 1))
        result = values.new_empty((self.count + 1, values.shape[1]))
        result[self.order.flatten()] = sums.flatten(0, 1)
        return result[:-1]


def _exponents(queries: Tensor, keys: Tensor, radius: float, dtype: torch.dtype) -> Tensor:
    """Return ``-|a - b|²/2`` of all queries and keys to the precision of ``dtype``; queries are within ``radius`` of zero."""
    if radius <= _FAR:
        precision = dtype if radius <= _NEAR else torch.float64
        return (_extended(queries, -2, -1).to(precision) @ _extended(keys, -1, -2).to(precision).T).clamp_(max=0)
    squares = queries.new_zeros((len(queries), len(keys)))
    for a, b in zip(queries.T, keys.T, strict=True):
        squares += (a[:, None] - b).square_()
    return squares.mul_(-0.5)


def _extended(features: Tensor, square: int, unit: int) -> Tensor:
    """Return features (n, d) with two more columns at these indices, ``-|f|²/2`` and 1."""
    n, d = features.shape
    extended = features.new_ones((n, d + 2))
    extended[:, :d] = features
    extended[:, square] = features.square().sum(1) / -2
    return extended


def _divide_into_tiles(features: Tensor, tile: int) -> Tensor:
    """Return the pixels of each tile, (tiles, at most ``tile``), padded by the last row of ``features``.

    Tiles are the leaves of a k-d tree (Bentley, 1975): pixels are halved along the axis of their
    widest spread until a half is small enough.
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
