"""The kernel as the paper defines it, all pairs of pixels, in NumPy and double precision.

It computes N² exponentials: an oracle for the lattices, and good for images of a few thousand
pixels. It holds one block of the kernel's rows in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NumpyExactFilter"]

_BLOCK = 1 << 22
"""Entries of the kernel computed at a time."""

_FAR = 1e4
"""Sigmas beyond which squares cancel too many digits, and differences are taken instead."""


class NumpyExactFilter:
    """Multiply by the matrix ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) floating
        Divided by their sigmas.

    Examples
    --------
    >>> kernel = NumpyExactFilter(np.array([[0.0], [1.0]]))
    >>> kernel(np.array([[1.0], [0.0]])).ravel().round(4).tolist()
    [1.0, 0.6065]
    """

    def __init__(self, features: npt.NDArray[Any]) -> None:
        # Centred, so that the squares below cancel few digits.
        self.features = np.asarray(features, np.float64) - np.mean(features, 0, dtype=np.float64)
        self.far = bool(self.features.size) and float(np.abs(self.features).max()) > _FAR

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the kernel times ``values`` (N, C), float64."""
        f = self.features
        squares = (f * f).sum(1)
        out = np.empty(values.shape, np.float64)
        rows = max(1, _BLOCK // len(f))
        for first in range(0, len(f), rows):
            part = slice(first, first + rows)
            if self.far:
                exponent = np.zeros((len(f[part]), len(f)))
                for column in f.T:
                    exponent -= (column[part, None] - column) ** 2 / 2
            else:
                exponent = f[part] @ f.T - (squares[part, None] + squares) / 2
            out[part] = np.exp(np.minimum(exponent, 0, out=exponent), out=exponent) @ values
        return out
