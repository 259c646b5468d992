"""Mean field on NumPy arrays, for any filter: the algorithm as the paper writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary

__all__ = ["NumpyEngine", "NumpyFilter", "NumpyMeanField", "NumpyPairwise", "sum_divergence"]

NumpyFilter: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Multiplies values (N, C) by a kernel matrix, diagonal included."""


@dataclass(frozen=True)
class NumpyEngine:
    """The engine for a class of filters."""

    filter_factory: Callable[[npt.NDArray[Any]], NumpyFilter]  #: features (N, d) -> filter
    dtype: type[np.floating[Any]]  #: what the filter computes in

    def pairwise(self, features: npt.NDArray[Any], compatibility: npt.NDArray[np.float64], normalization: str) -> NumpyPairwise:
        """Build the filter and its row sums."""
        kernel = self.filter_factory(features)
        rows = kernel(np.ones((len(features), 1), self.dtype)) + self.dtype(1e-20)
        return NumpyPairwise(kernel, *normalizing_factors(rows, normalization), compatibility.astype(self.dtype))

    def mean_field(self, unary: Unary, pairwise: Sequence[NumpyPairwise], *, self_message: bool) -> NumpyMeanField:
        """Return the mean field."""
        return NumpyMeanField(unary.energy(self.dtype), pairwise, self_message=self_message)


@dataclass(frozen=True)
class NumpyPairwise:
    """One kernel: its filter, the factors (N, 1) before and after it or None, and the compatibility (K,) or (K, K)."""

    kernel: NumpyFilter
    before: npt.NDArray[Any] | None
    after: npt.NDArray[Any] | None
    compatibility: npt.NDArray[Any]

    def energy(self, marginals: npt.NDArray[Any], *, self_message: bool) -> npt.NDArray[Any]:
        """Return the expected pairwise energy of each label at each pixel, (N, K)."""
        scaled = marginals if self.before is None else marginals * self.before
        messages = self.kernel(scaled)
        if not self_message:
            messages = messages - scaled  # k(f, f) = 1
        if self.after is not None:
            messages = messages * self.after
        return np.asarray(messages * self.compatibility if self.compatibility.ndim == 1 else messages @ self.compatibility)


class NumpyMeanField:
    """Algorithm 1 on arrays (N, K)."""

    def __init__(self, energy: npt.NDArray[Any], pairwise: Sequence[NumpyPairwise], *, self_message: bool) -> None:
        self.energy, self.pairwise, self.self_message = energy, pairwise, self_message

    def advance(self, marginals: npt.NDArray[Any] | None, steps: int) -> npt.NDArray[Any]:
        """Return the marginals after ``steps`` more steps."""
        marginals = _softmax(-self.energy) if marginals is None else marginals
        for _ in range(steps):
            logits = -self.energy
            for term in self.pairwise:
                logits -= term.energy(marginals, self_message=self.self_message)
            marginals = _softmax(logits)
        return marginals

    def from_array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array in the engine's type."""
        return np.ascontiguousarray(array, self.energy.dtype)

    def to_array(self, marginals: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the marginals unchanged."""
        return marginals

    def divergence(self, marginals: npt.NDArray[Any]) -> tuple[float, float]:
        """Return the unary and the pairwise part of the divergence."""
        return sum_divergence(marginals, self.energy, (term.energy(marginals, self_message=self.self_message) for term in self.pairwise))


def sum_divergence(
    marginals: npt.NDArray[Any], unary_energy: npt.NDArray[Any], pairwise_energies: Iterable[npt.NDArray[Any]]
) -> tuple[float, float]:
    """Return ``Σ Q log Q + Σ Q U`` and ``Σ_m Σ Q E_m``, summed in double precision; all arrays are (N, K)."""
    q = marginals.astype(np.float64)
    unary = float((q * np.log(np.maximum(q, 1e-20))).sum() + (q * unary_energy).sum())
    return unary, sum(float((energy * q).sum()) for energy in pairwise_energies)


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    logits = logits - logits.max(1, keepdims=True)
    weights = np.exp(logits, out=logits)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights)
