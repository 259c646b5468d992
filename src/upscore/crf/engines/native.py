"""The lattice compiled: pixels hear, decide and speak in one pass, so that beliefs never leave the cache.

``native/crf/`` holds the code. Where nobody compiled it, :func:`available` says so, and the
same lattice runs in NumPy (:mod:`upscore.crf.engines.portable`), slower and equal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from upscore.crf.engines.arrays import ArrayEngine, ArrayField
from upscore.crf.engines.portable import LatticeFilter
from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary
from upscore.errors import CRFError

if TYPE_CHECKING:
    from upscore._native import Lattice
    from upscore.crf.engines import Field

__all__ = ["NativeEngine", "NativeField", "NativeMessage", "available", "processors"]


def available() -> bool:
    """Return whether the compiled module is here and can be loaded."""
    try:
        _loaded()
    except ImportError:
        return False
    return True


def _loaded() -> ModuleType:
    from upscore import _native

    return _native


@dataclass(frozen=True)
class NativeEngine:
    """The compiled lattice.

    Parameters
    ----------
    threads : int
        The same number gives the same bits, another nearly the same.
    instructions : {"best", "avx2", "portable"}
        Which of the compiled loops run.
    """

    threads: int
    instructions: str = "best"

    dtype = np.float32

    def message(self, features: npt.NDArray[Any], cost: npt.NDArray[np.float64], normalization: str) -> Any:
        """Return the kernel's lattice and its row sums; the portable engine's where features lie too far apart for this one."""
        native, threads = _loaded(), self.threads
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(features.T, np.float32)
        try:
            if not np.isfinite(rows).all():
                raise OverflowError("features beyond single precision")
            lattice = native.lattice(rows, threads, self.instructions)
        except OverflowError:
            return ArrayEngine(LatticeFilter, np.float32).message(features, cost, normalization)
        del rows
        rows = np.ones((1, len(features)), np.float32)
        if normalization != "none":
            native.filter(lattice, rows, rows, threads)
            rows += np.float32(1e-20)
        return NativeMessage(lattice, *normalizing_factors(rows[0], normalization), cost.astype(np.float32), threads)

    def field(self, unary: Unary, messages: Sequence[Any], *, self_message: bool) -> Field:
        """Return the mean field."""
        if not all(isinstance(message, NativeMessage) for message in messages):
            return ArrayField(unary.energy(np.float32), messages, self_message=self_message)
        return NativeField(unary, messages, self_message=self_message, threads=self.threads, instructions=self.instructions)


@dataclass(frozen=True)
class NativeMessage:
    """One kernel: its lattice, the factors (N,) on both sides or None, and the costs (K,) or (K, K)."""

    lattice: Lattice
    before: npt.NDArray[np.float32] | None
    after: npt.NDArray[np.float32] | None
    cost: npt.NDArray[np.float32]
    threads: int

    def costs(self, belief: npt.NDArray[Any], *, with_self: bool) -> npt.NDArray[Any]:
        """Return what each label costs at each pixel, (N, K)."""
        sent = np.ascontiguousarray(belief.T if self.before is None else belief.T * self.before, np.float32)
        received = np.empty_like(sent)
        _loaded().filter(self.lattice, sent, received, self.threads)
        if not with_self:
            received -= sent
        if self.after is not None:
            received *= self.after
        return np.asarray(received.T * self.cost if self.cost.ndim == 1 else received.T @ self.cost)


class NativeField:
    """Algorithm 1 on compiled lattices; beliefs are arrays (N, K) float32 in the memory order of the scores."""

    def __init__(self, unary: Unary, messages: Sequence[NativeMessage], *, self_message: bool, threads: int, instructions: str) -> None:
        self.unary, self.messages, self.self_message = unary, messages, self_message
        self.threads, self.instructions = threads, instructions
        self.scores = unary.values.astype(np.float32, copy=False)

    def advance(self, belief: npt.NDArray[np.float32] | None, steps: int) -> npt.NDArray[np.float32]:
        """Return what is believed ``steps`` later."""
        out = np.empty_like(self.scores)
        messages = [(message.lattice, message.before, message.after, message.cost) for message in self.messages]
        arguments = (self.scores, self.unary.kind, messages, self.self_message)
        try:
            _loaded().mean_field(*arguments, belief, out, steps, self.threads, self.instructions)
        except OverflowError as error:
            raise CRFError(f"{error}") from None
        return out

    def believe(self, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return it in single precision."""
        return np.asarray(array, np.float32)

    def array(self, belief: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return it as it is."""
        return belief

    def divergence(self, belief: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Return what the pixels pay by themselves and what all pairs pay."""
        wide = belief.astype(np.float64)
        alone = float((wide * np.log(np.maximum(wide, 1e-20))).sum() + (wide * self.unary.energy(np.float64)).sum())
        return alone, sum(float((message.costs(belief, with_self=self.self_message) * wide).sum()) for message in self.messages)


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
