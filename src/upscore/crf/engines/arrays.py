"""Mean field on NumPy arrays, for any filter: the algorithm as it is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary

__all__ = ["ArrayEngine", "ArrayField", "Filter"]

Filter: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Multiplies values (N, C) by a kernel; each pixel's message to itself is in it."""


@dataclass(frozen=True)
class ArrayEngine:
    """An engine for a class of filters.

    Parameters
    ----------
    filter_of : callable
        features (N, d) -> Filter.
    dtype : type
        What the filter computes in.
    """

    filter_of: Callable[[npt.NDArray[Any]], Filter]
    dtype: type[np.floating[Any]]

    def message(self, features: npt.NDArray[Any], cost: npt.NDArray[np.float64], normalization: str) -> _Message:
        """Return the kernel's filter and its row sums."""
        kernel = self.filter_of(features)
        rows = kernel(np.ones((len(features), 1), self.dtype)) + self.dtype(1e-20)
        return _Message(kernel, *normalizing_factors(rows, normalization), cost.astype(self.dtype))

    def field(self, unary: Unary, messages: Sequence[_Message], *, self_message: bool) -> ArrayField:
        """Return the mean field."""
        return ArrayField(unary.energy(self.dtype), messages, self_message=self_message)


@dataclass(frozen=True)
class _Message:
    kernel: Filter
    before: npt.NDArray[Any] | None
    after: npt.NDArray[Any] | None
    cost: npt.NDArray[Any]

    def costs(self, belief: npt.NDArray[Any], *, with_self: bool) -> npt.NDArray[Any]:
        """Return what each label costs at each pixel, (N, K)."""
        sent = belief if self.before is None else belief * self.before
        received = self.kernel(sent)
        if not with_self:
            received = received - sent  # k(f, f) = 1
        if self.after is not None:
            received = received * self.after
        return np.asarray(received * self.cost if self.cost.ndim == 1 else received @ self.cost)


class ArrayField:
    """Algorithm 1 on arrays (N, K)."""

    def __init__(self, energy: npt.NDArray[Any], messages: Sequence[_Message], *, self_message: bool) -> None:
        self.energy, self.messages, self.self_message = energy, messages, self_message

    def advance(self, belief: npt.NDArray[Any] | None, steps: int) -> npt.NDArray[Any]:
        """Return what is believed ``steps`` later."""
        belief = _softmax(-self.energy) if belief is None else belief
        for _ in range(steps):
            scores = -self.energy
            for message in self.messages:
                scores -= message.costs(belief, with_self=self.self_message)
            belief = _softmax(scores)
        return belief

    def believe(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return it in the field's type."""
        return np.ascontiguousarray(array, self.energy.dtype)

    def array(self, belief: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return it as it is."""
        return belief

    def divergence(self, belief: npt.NDArray[Any]) -> tuple[float, float]:
        """Return what the pixels pay by themselves and what all pairs pay."""
        wide = belief.astype(np.float64)
        alone = float((wide * np.log(np.maximum(wide, 1e-20))).sum() + (wide * self.energy).sum())
        return alone, sum(float((message.costs(belief, with_self=self.self_message) * wide).sum()) for message in self.messages)


def _softmax(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    scores = scores - scores.max(1, keepdims=True)
    weights = np.exp(scores, out=scores)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights)
