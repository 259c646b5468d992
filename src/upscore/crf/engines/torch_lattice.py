"""The permutohedral lattice on tensors of any device: :mod:`upscore.crf.engines.numpy_lattice` in PyTorch.

Adams, Baek, Davis (2010), "Fast High-Dimensional Filtering Using the Permutohedral Lattice"::

    filter      s · Sᵀ B_d … B_1 B_0 S       S: splat (V, N), from each pixel to the d + 1 corners of its simplex
    transpose   s · Sᵀ B_0 B_1 … B_d S       B_a: blur along axis a, which is symmetric

The two differ, since blurs along different axes do not commute where vertices are missing.
Splat, blur and slice are each a sum over a few rows (``embedding_bag``) in a fixed order: the
result is deterministic, on a GPU too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import CRFError

__all__ = ["TorchLattice"]

_ROWS = {"cpu": 1 << 14}
"""Pixels located at a time: on a CPU they stay in its cache."""

_MANY_ROWS = 1 << 20

_FAR = 2.0**52
"""Beyond it, a float64 has no digits left for the position inside a simplex."""


class TorchLattice:
    """Multiply by the lattice's approximation of ``exp(-|f_i - f_j|² / 2)``.

    It takes some 20 bytes for each corner of each pixel, and 16 (d + 1) for each vertex, and as much again while it is built.

    Parameters
    ----------
    features : (N, d) float64
        Divided by their sigmas, on the device to compute on. They get no gradient: which vertices
        exist is a discontinuous function of them.
    dtype : torch.dtype
        Of the values.

    Raises
    ------
    CRFError
        A feature is not finite, or they spread too far for 64 bits.

    Examples
    --------
    >>> kernel = TorchLattice(torch.tensor([[0.0], [1.0], [9.0]]).double())
    >>> [round(value, 2) for value in kernel.multiply(torch.tensor([[1.0], [0.0], [0.0]])).ravel().tolist()]
    [0.83, 0.59, 0.0]
    """

    def __init__(self, features: Tensor, dtype: torch.dtype = torch.float32) -> None:
        with torch.no_grad():
            codes, weights = _Codes.of(features), []
            for rows in _blocks(features):
                corner, rank, weight = _locate(rows)
                codes.add(corner, rank)
                weights.append(weight.to(dtype))
            self.weights = torch.cat(weights)  # (N, d + 1)
            self.vertices, order, starts, neighbours = codes.number()
        corners = features.shape[1] + 1
        count = neighbours.shape[2]
        missing = torch.full((1,), count, dtype=torch.int32, device=features.device)  # a last vertex that stays zero
        self.pixels = (order // corners).int()
        self.splat_weights = self.weights.reshape(-1)[order]
        self.starts = torch.cat([starts, torch.full_like(missing, order.numel())])
        # Blur is a vertex's value plus half of each neighbour's: summed as twice its own plus theirs, and halved at the end.
        own = torch.cat([torch.arange(count, dtype=torch.int32, device=features.device), missing])
        self.blurs = [
            torch.stack([own, own, torch.cat([before, missing]), torch.cat([after, missing])], 1) for before, after in neighbours.unbind()
        ]
        self.scale = 0.5**corners / (1 + 2.0 ** -(corners - 1))

    def multiply(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the kernel, or its transpose, times ``values`` (N, C); CRFError where their number, dtype or device is another."""
        check_values(values, len(self.weights), self.weights)
        vertices = F.embedding_bag(self.pixels, values.contiguous(), self.starts, per_sample_weights=self.splat_weights, mode="sum")
        for around in reversed(self.blurs) if transposed else self.blurs:
            vertices = F.embedding_bag(around, vertices, mode="sum")
        return F.embedding_bag(self.vertices, vertices, per_sample_weights=self.weights, mode="sum").mul_(self.scale)


def check_values(values: Tensor, pixels: int, like: Tensor) -> None:
    """Raise a CRFError where values are not (pixels, C), or not of the dtype and on the device of ``like``."""
    if values.ndim != 2 or len(values) != pixels:
        raise CRFError(f"found values of shape {tuple(values.shape)}, expected ({pixels}, C): one row for each pixel")
    if values.device != like.device or values.dtype != like.dtype:
        raise CRFError(
            f"found {values.dtype} values on {values.device} for a filter of {like.dtype} on {like.device}: give it what it was built for"
        )


class _Codes:
    """The vertices' keys as integers, in which a step to a neighbour is an addition.

    The first d coordinates of a key (the last follows from them) are the digits of a number, with
    a margin for a step on each side. If 63 bits cannot hold it, the digits are split into groups:
    the codes of the first group are numbered in order, and that number is the leading digit of the
    next group. So distinct keys have distinct codes.
    """

    def __init__(self, low: list[int], groups: list[list[tuple[int, int]]], spans: list[int], pixels: int, device: torch.device) -> None:
        self.low, self.groups, self.spans = low, groups, spans
        corners = len(low) + 1
        self.parts = [torch.empty((pixels, corners), dtype=torch.int64, device=device) for _ in groups]
        self.filled = 0
        # canonical[k, r]: what the vertex of remainder r of the canonical simplex adds to the coordinate of rank k
        k = np.arange(corners)[:, None]
        self.canonical = torch.from_numpy((k.T - corners * (k > corners - 1 - k.T)).copy()).to(device)

    @classmethod
    def of(cls, features: Tensor) -> _Codes:
        """Return empty codes for the keys of these features (N, d)."""
        n, d = features.shape
        ends = [(elevated.amin(1), elevated.amax(1)) for elevated in map(_elevate, _blocks(features))]
        lowest = torch.stack([low for low, _ in ends]).amin(0).tolist()[:d]
        highest = torch.stack([high for _, high in ends]).amax(0).tolist()[:d]
        if not all(abs(end) < _FAR for end in (*lowest, *highest)):  # false for NaN too
            raise CRFError("found features beyond 2^52 sigmas, or that are not numbers: check the image and the sigmas")
        # The corner of remainder 0 is within 3/2 (d + 1) of the point, a vertex within d of it, a neighbour within d of that.
        margin = 4 * (d + 1)
        low = [int(np.floor(end)) - margin for end in lowest]
        spans = [int(np.ceil(end)) + margin - start + 1 for end, start in zip(highest, low, strict=True)]
        groups: list[list[tuple[int, int]]] = []  # of (coordinate, radix)
        sizes: list[int] = []
        coordinates = list(range(d))
        while coordinates:
            size = n * (d + 1) if groups else 1
            taken = 0
            while taken < len(coordinates) and size * spans[coordinates[taken]] < 2**63:
                size *= spans[coordinates[taken]]
                taken += 1
            if not taken:
                raise CRFError(f"found features that spread over {spans[coordinates[0]]:.1g} cells, too many for 64 bits: raise the sigmas")
            group, coordinates = coordinates[:taken], coordinates[taken:]
            radices = [int(np.prod([spans[later] for later in group[index + 1 :]], dtype=object)) for index in range(taken)]
            groups.append(list(zip(group, radices, strict=True)))
            sizes.append(radices[0] * spans[group[0]])
        return cls(low, groups, sizes, n, features.device)

    def add(self, corner: Tensor, rank: Tensor) -> None:
        """Add the vertices of the next pixels, from their remainder-0 corners and ranks, each (d + 1, n)."""
        rows = slice(self.filled, self.filled + corner.shape[1])
        for part, group in zip(self.parts, self.groups, strict=True):
            codes = part[rows].zero_()
            for k, radix in group:
                codes += ((corner[k] - self.low[k]) * radix)[:, None]
                codes += (self.canonical * radix)[rank[k]]
        self.filled = rows.stop

    def number(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Number the vertices in the order of their keys, and find their neighbours; frees the codes.

        Returns the vertices (N, d + 1) of each pixel; the corners (N (d + 1)) of pixels, sorted by vertex, then by pixel; where each
        vertex's corners start (V) among these; and the previous and next vertex (d + 1, 2, V) along each axis, V if missing.
        """
        shape, tables = self.parts[0].shape, []
        numbers = order = starts = self.parts[0].new_empty(0)
        for level, span in enumerate(self.spans):
            codes = self.parts.pop(0).reshape(-1)
            if level:
                codes += numbers * span
            ordered, order = codes.sort(stable=True)
            new = torch.ones_like(ordered, dtype=torch.bool)
            torch.ne(ordered[1:], ordered[:-1], out=new[1:])
            starts = new.nonzero()[:, 0]
            tables.append(ordered[starts])
            numbers = torch.empty_like(codes).scatter_(0, order, new.cumsum(0) - 1)
        return numbers.reshape(shape).int(), order, starts.int(), self._neighbours(tables)

    def _neighbours(self, tables: list[Tensor]) -> Tensor:
        corners, count = len(self.low) + 1, len(tables[-1])
        found = torch.full((corners, 2, count), count, dtype=torch.int32, device=tables[0].device)
        for axis in range(corners):
            near = tables[0].new_empty(0)
            for level, (table, group, span) in enumerate(zip(tables, self.groups, self.spans, strict=True)):
                step = sum(radix * (corners - 1 if k == axis else -1) for k, radix in group)
                wanted = table + step
                if level:  # if no vertex has the leading digits, near is -1 and the wanted code negative, which no vertex has
                    wanted = near[table // span] * span + table % span + step
                index = torch.searchsorted(table, wanted).clamp_(max=len(table) - 1)
                near = torch.where(table[index] == wanted, index, -1)
            vertex = (near >= 0).nonzero()[:, 0]
            found[axis, 0, vertex] = near[vertex].int()
            found[axis, 1, near[vertex]] = vertex.int()  # the relation is symmetric
        return found


def _blocks(features: Tensor) -> Iterator[Tensor]:
    return iter(torch.split(features, _ROWS.get(features.device.type, _MANY_ROWS)))


def _elevate(features: Tensor) -> Tensor:
    """Embed features (n, d) in the plane of zero sum; returns (d + 1, n).

    They are scaled so that the blur has unit variance (Adams and others, §3.1). The order of
    operations is the NumPy lattice's, so that every pixel falls into the same simplex.
    """
    n, d = features.shape
    i = np.arange(d, dtype=np.float64)
    scaled = (features * torch.from_numpy(np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))).to(features.device)).T.contiguous()
    elevated = features.new_empty((d + 1, n))
    total = features.new_zeros(n)
    for j in range(d, 0, -1):
        along = scaled[j - 1]
        elevated[j] = total - along * j
        total = total + along
    elevated[0] = total
    return elevated


def _locate(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each point's remainder-0 corner (d + 1, n), the ranks of its coordinates (d + 1, n) and its weights (n, d + 1)."""
    elevated = _elevate(features)
    corners = len(elevated)
    d = corners - 1
    elevated *= 1 / corners
    nearest = elevated.round()
    multiple = nearest.long()
    residual = elevated - nearest
    # Compared in single precision, as in the other lattices, so that points on the border of two simplices fall into the same one.
    rounded = residual.float()
    rank = multiple.sum(0).repeat(corners, 1)
    for a in range(corners):
        for b in range(a + 1, corners):
            behind = rounded[a] < rounded[b]
            rank[a] += behind
            rank[b] += ~behind
    # The rounded point may lie off the plane: step back along the coordinates that were rounded most.
    back = (rank < 0).long() - (rank > d).long()
    rank += back * corners
    multiple += back
    residual -= back
    by_rank = torch.empty_like(residual).scatter_(0, rank, residual)
    weights = torch.empty_like(residual)
    weights[0] = by_rank[d] + (1 - by_rank[0])
    for r in range(1, corners):
        weights[r] = by_rank[d - r] - by_rank[corners - r]
    return multiple * corners, rank, weights.T.contiguous()
