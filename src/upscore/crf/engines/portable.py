"""The kernel by the permutohedral lattice: linear in the number of pixels.

Adams, Baek, Davis (2010), "Fast High-Dimensional Filtering Using the Permutohedral Lattice"::

    pixels ── splat ──► vertices ── blur along d + 1 axes ──► vertices ── slice ──► pixels
    (N, C)              (V, C)      ½ · ½ of the neighbours    (V, C)               (N, C)

A pixel lies in a simplex of d + 1 vertices and gives each its barycentric weight. The
features are scaled so that splat, blur and slice together blur by about exp(-|Δ|²/2): near
enough in two dimensions, a coarse likeness in five. What the field calls a dense CRF is this
one; :mod:`upscore.crf.engines.exact` is the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["LatticeFilter"]

_FARTHEST = 2.0**50
"""Beyond it, double precision no longer tells vertices apart."""


class LatticeFilter:
    """Multiply by the lattice's approximation of ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) floating
        Divided by their sigmas.
    """

    def __init__(self, features: npt.NDArray[Any]) -> None:
        try:
            from scipy import sparse
        except ModuleNotFoundError as error:
            raise CRFError("the lattice in NumPy needs SciPy, which is not installed: pip install scipy") from error

        vertices, weights, self.neighbours = _build(np.asarray(features, np.float64))
        points, corners = vertices.shape
        count = self.neighbours.shape[2]
        starts = np.arange(0, points * corners + 1, corners)
        self.slicing = sparse.csr_matrix((weights.ravel(), vertices.ravel(), starts), shape=(points, count))
        self.splatting = self.slicing.T.tocsr()
        self.scale = np.float32(1 / (1 + 2.0 ** -(corners - 1)))

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the kernel times ``values`` (N, C) float32; each pixel's message to itself is in it."""
        count = self.neighbours.shape[2]
        at = np.zeros((count + 1, values.shape[1]), np.float32)  # the last row stands for neighbours that are not there
        at[:count] = self.splatting @ values
        for before, after in self.neighbours:
            around = at.take(before, 0)
            around += at.take(after, 0)
            around *= np.float32(0.5)
            at[:count] += around
        sliced: npt.NDArray[np.float32] = self.slicing @ at[:count]
        sliced *= self.scale
        return sliced


def _build(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return each pixel's vertices (N, d + 1), its weights for them, and the neighbours (d + 1, 2, V) of every vertex."""
    d = features.shape[1]
    corner, rank, weights = _locate(features)
    # canonical[r, k]: what the r-th vertex of the canonical simplex adds to the coordinate of rank k
    canonical = np.arange(d + 1)[:, None] - (d + 1) * (np.arange(d + 1) > d - np.arange(d + 1)[:, None])
    keys = corner[:, None, :d] + canonical[:, rank[:, :d]].transpose(1, 0, 2)  # (N, d + 1, d); the last coordinate follows
    flat = keys.reshape(-1, d)
    # One integer for each key, with room for a step to every neighbour, so that a step is an addition.
    low = flat.min(0) - (d + 1)
    span = flat.max(0) + (d + 1) - low + 1
    place = np.append(np.cumprod(span[:0:-1].astype(object))[::-1], 1)
    wide = int(place[0]) * int(span[0]) >= 2**63
    radix = np.array(place, object if wide else np.int64)
    codes, vertices = np.unique((flat - low).astype(radix.dtype) @ radix, return_inverse=True)
    neighbours = np.empty((d + 1, 2, len(codes)), np.int64)
    for axis in range(d + 1):
        step = -radix.sum() + ((d + 1) * radix[axis] if axis < d else 0)
        for side, sign in enumerate((1, -1)):
            wanted = codes + sign * step
            found = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
            neighbours[axis, side] = np.where(codes[found] == wanted, found, len(codes))
    return vertices.reshape(len(features), d + 1), weights, neighbours


def _locate(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return, of each point's simplex, the corner of remainder 0 (N, d + 1), the ranks (N, d + 1) and the weights (N, d + 1)."""
    n, d = features.shape
    # Scaled so that the blur has unit variance (Adams and others, §3.1) and laid on the plane of zero sum.
    i = np.arange(d, dtype=np.float64)
    scaled = features * (np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)))
    elevated = np.empty((n, d + 1))
    total = np.zeros(n)
    for j in range(d, 0, -1):
        elevated[:, j] = total - j * scaled[:, j - 1]
        total += scaled[:, j - 1]
    elevated[:, 0] = total
    if not np.abs(elevated).max() < _FARTHEST:
        raise CRFError(f"found features up to {np.abs(features).max():.3g} sigmas, too far apart for a lattice: use larger sigmas")
    # The nearest point whose coordinates are all multiples of d + 1; the rest in single precision, as the compiled lattice has it,
    # so that points on the border of two simplices fall to the same side.
    elevated *= 1 / (d + 1)
    nearest = np.rint(elevated)
    multiple = nearest.astype(np.int64)
    apart = (elevated - nearest).astype(np.float32)
    rank = np.repeat(multiple.sum(1)[:, None], d + 1, 1)
    for a in range(d + 1):
        for b in range(a + 1, d + 1):
            behind = apart[:, a] < apart[:, b]
            rank[:, a] += behind
            rank[:, b] += ~behind
    # It may lie off the plane: step back along the coordinates that moved most.
    step = (rank < 0).astype(np.int64) - (rank > d)
    rank += step * (d + 1)
    multiple += step
    apart -= step
    weights = np.zeros((n, d + 2), np.float32)
    rows = np.arange(n)
    for j in range(d + 1):
        weights[rows, d - rank[:, j]] += apart[:, j]
        weights[rows, d + 1 - rank[:, j]] -= apart[:, j]
    weights[:, 0] += 1 + weights[:, d + 1]
    return multiple * (d + 1), rank, np.ascontiguousarray(weights[:, : d + 1])
