"""The kernel by the permutohedral lattice, in NumPy and SciPy: linear in the number of pixels.

Adams, Baek, Davis (2010), "Fast High-Dimensional Filtering Using the Permutohedral Lattice"::

    pixels ── splat ──► vertices ── blur along d + 1 axes ──► vertices ── slice ──► pixels
    (N, C)              (V, C)      ½ · ½ of the neighbours    (V, C)               (N, C)

A pixel lies in a simplex of d + 1 vertices and is splatted to them by its barycentric weights. The
features are scaled so that splat, blur and slice together blur by about ``exp(-|Δ|²/2)``: a close
approximation in two dimensions, a coarse one in five. Published dense CRFs use this lattice;
:mod:`upscore.crf.engines.numpy_exact` computes the kernel itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["NumpyLattice"]

_FARTHEST = 2.0**50
"""Beyond it, double precision no longer distinguishes vertices."""


class NumpyLattice:
    """Multiply by the lattice's approximation of ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) floating
        Divided by their sigmas.

    Raises
    ------
    CRFError
        SciPy is not installed, or the features spread beyond 2^50.

    Examples
    --------
    >>> kernel = NumpyLattice(np.array([[0.0], [1.0], [9.0]]))
    >>> kernel(np.array([[1.0], [0.0], [0.0]], np.float32)).ravel().astype(float).round(2).tolist()
    [0.83, 0.59, 0.0]
    """

    def __init__(self, features: npt.NDArray[Any]) -> None:
        try:
            from scipy import sparse
        except ModuleNotFoundError as error:
            raise CRFError("engine 'numpy_lattice' needs SciPy, which is not installed: pip install scipy") from error

        vertices, weights, self.neighbours = _build(np.asarray(features, np.float64))
        points, corners = vertices.shape
        count = self.neighbours.shape[2]
        starts = np.arange(0, points * corners + 1, corners)
        self.slicing = sparse.csr_matrix((weights.ravel(), vertices.ravel(), starts), shape=(points, count))
        self.splatting = self.slicing.T.tocsr()
        self.scale = np.float32(1 / (1 + 2.0 ** -(corners - 1)))

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the kernel times ``values`` (N, C) float32."""
        count = self.neighbours.shape[2]
        vertices = np.zeros((count + 1, values.shape[1]), np.float32)  # the last row stands for missing neighbours
        vertices[:count] = self.splatting @ values
        for before, after in self.neighbours:
            around = vertices.take(before, 0)
            around += vertices.take(after, 0)
            around *= np.float32(0.5)
            vertices[:count] += around
        sliced: npt.NDArray[np.float32] = self.slicing @ vertices[:count]
        sliced *= self.scale
        return sliced


def _build(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return each pixel's vertices (N, d + 1), its weights for them, and the neighbours (d + 1, 2, V) of every vertex."""
    d = features.shape[1]
    corner, rank, weights = _locate(features)
    # canonical[r, k]: what the vertex of remainder r of the canonical simplex adds to the coordinate of rank k
    canonical = np.arange(d + 1)[:, None] - (d + 1) * (np.arange(d + 1) > d - np.arange(d + 1)[:, None])
    keys = corner[:, None, :d] + canonical[:, rank[:, :d]].transpose(1, 0, 2)  # (N, d + 1, d); the last coordinate follows from the others
    flat = keys.reshape(-1, d)
    # Code each key as one integer, with a margin for a step to every neighbour: a step is then an addition.
    low = flat.min(0) - (d + 1)
    span = flat.max(0) + (d + 1) - low + 1
    radices = np.append(np.cumprod(span[:0:-1].astype(object))[::-1], 1)
    overflows = int(radices[0]) * int(span[0]) >= 2**63
    radix = np.array(radices, object if overflows else np.int64)
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
    """Return each point's remainder-0 corner, the ranks of its coordinates, and its barycentric weights, each (N, d + 1)."""
    n, d = features.shape
    # Scale so that the blur has unit variance (Adams and others, §3.1), and embed in the plane of zero sum.
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
    # Round to the nearest point whose coordinates are multiples of d + 1. Residuals are in single precision, as in the compiled lattice,
    # so that points on the border of two simplices fall into the same one.
    elevated *= 1 / (d + 1)
    nearest = np.rint(elevated)
    multiple = nearest.astype(np.int64)
    residual = (elevated - nearest).astype(np.float32)
    rank = np.repeat(multiple.sum(1)[:, None], d + 1, 1)
    for a in range(d + 1):
        for b in range(a + 1, d + 1):
            behind = residual[:, a] < residual[:, b]
            rank[:, a] += behind
            rank[:, b] += ~behind
    # The rounded point may lie off the plane: step back along the coordinates that were rounded most.
    step = (rank < 0).astype(np.int64) - (rank > d)
    rank += step * (d + 1)
    multiple += step
    residual -= step
    weights = np.zeros((n, d + 2), np.float32)
    rows = np.arange(n)
    for j in range(d + 1):
        weights[rows, d - rank[:, j]] += residual[:, j]
        weights[rows, d + 1 - rank[:, j]] -= residual[:, j]
    weights[:, 0] += 1 + weights[:, d + 1]
    return multiple * (d + 1), rank, np.ascontiguousarray(weights[:, : d + 1])
