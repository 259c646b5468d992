"""The kernel as it is written down: every pixel with every other, in double precision.

N² exponentials: the oracle that the lattice is judged by, and good for pictures of a few
thousand pixels. Memory is that of a block of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ExactFilter"]

_BLOCK = 1 << 22
"""Entries of the kernel computed at a time."""


_FAR = 1e4
"""Sigmas beyond which squares have too few digits to cancel, and differences are taken instead."""


class ExactFilter:
    """Multiply by the matrix ``exp(-|f_i - f_j|² / 2)``.

    Parameters
    ----------
    features : (N, d) floating
        Divided by their sigmas.
    """

    def __init__(self, features: npt.NDArray[Any]) -> None:
        # Centred, so that the squares below cancel little.
        self.features = np.asarray(features, np.float64) - np.mean(features, 0, dtype=np.float64)
        self.far = bool(self.features.size) and float(np.abs(self.features).max()) > _FAR

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the kernel times ``values`` (N, C), float64; each pixel's message to itself is in it."""
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
