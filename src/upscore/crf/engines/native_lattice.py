"""The permutohedral lattice in C++: slice, softmax and splat in one pass, so that the marginals stay in the cache.

The code is in ``native/crf/``. If it was not compiled (:func:`is_compiled`), the same lattice runs
in NumPy (:mod:`upscore.crf.engines.numpy_lattice`), slower and with equal results.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from upscore.crf.engines.numpy_lattice import NumpyLattice
from upscore.crf.engines.numpy_meanfield import NumpyEngine, NumpyMeanField, sum_divergence
from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary
from upscore.errors import CRFError

if TYPE_CHECKING:
    from upscore._native import Lattice
    from upscore.crf.engines import MeanField

__all__ = ["NativeEngine", "NativeMeanField", "NativePairwise", "count_cores", "is_compiled"]


def is_compiled() -> bool:
    """Return whether the compiled module exists and can be loaded."""
    try:
        _native()
    except ImportError:
        return False
    return True


def _native() -> ModuleType:
    from upscore import _native

    return _native


@dataclass(frozen=True)
class NativeEngine:
    """The engine of the compiled lattice."""

    threads: int  #: 1 to 64; the same number gives the same bits, another nearly the same (within 1e-5)
    instructions: str = "best"  #: which of the compiled loops run: "best", "avx2" or "portable"

    dtype = np.float32

    def pairwise(self, features: npt.NDArray[Any], compatibility: npt.NDArray[np.float64], normalization: str) -> Any:
        """Build the lattice and its row sums; the NumPy lattice's if the features spread too far for this one."""
        native, threads = _native(), self.threads
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(features.T, np.float32)
        try:
            if not np.isfinite(rows).all():
                raise OverflowError("features beyond single precision")
            lattice = native.lattice(rows, threads, self.instructions)
        except OverflowError:
            return NumpyEngine(NumpyLattice, np.float32).pairwise(features, compatibility, normalization)
        del rows
        rows = np.ones((1, len(features)), np.float32)
        if normalization != "none":
            native.filter(lattice, rows, rows, threads)
            rows += np.float32(1e-20)
        return NativePairwise(lattice, *normalizing_factors(rows[0], normalization), compatibility.astype(np.float32), threads)

    def mean_field(self, unary: Unary, pairwise: Sequence[Any], *, self_message: bool) -> MeanField:
        """Return the mean field; NumPy's if a pairwise term is NumPy's."""
        if not all(isinstance(term, NativePairwise) for term in pairwise):
            return NumpyMeanField(unary.energy(np.float32), pairwise, self_message=self_message)
        return NativeMeanField(unary, pairwise, self_message=self_message, threads=self.threads, instructions=self.instructions)


@dataclass(frozen=True)
class NativePairwise:
    """One kernel: its lattice, the factors (N,) before and after it or None, and the compatibility (K,) or (K, K)."""

    lattice: Lattice
    before: npt.NDArray[np.float32] | None
    after: npt.NDArray[np.float32] | None
    compatibility: npt.NDArray[np.float32]
    threads: int

    def energy(self, marginals: npt.NDArray[Any], *, self_message: bool) -> npt.NDArray[Any]:
        """Return the expected pairwise energy of each label at each pixel, (N, K)."""
        scaled = np.ascontiguousarray(marginals.T if self.before is None else marginals.T * self.before, np.float32)
        messages = np.empty_like(scaled)
        _native().filter(self.lattice, scaled, messages, self.threads)
        if not self_message:
            messages -= scaled
        if self.after is not None:
            messages *= self.after
        return np.asarray(messages.T * self.compatibility if self.compatibility.ndim == 1 else messages.T @ self.compatibility)


class NativeMeanField:
    """Algorithm 1 on compiled lattices; marginals are arrays (N, K) float32 in the memory order of the unary."""

    def __init__(self, unary: Unary, pairwise: Sequence[NativePairwise], *, self_message: bool, threads: int, instructions: str) -> None:
        self.unary, self.pairwise, self.self_message = unary, pairwise, self_message
        self.threads, self.instructions = threads, instructions
        self.values = unary.values.astype(np.float32, copy=False)

    def advance(self, marginals: npt.NDArray[np.float32] | None, steps: int) -> npt.NDArray[np.float32]:
        """Return the marginals after ``steps`` more steps."""
        out = np.empty_like(self.values)
        pairwise = [(term.lattice, term.before, term.after, term.compatibility) for term in self.pairwise]
        arguments = (self.values, self.unary.kind, pairwise, self.self_message)
        try:
            _native().mean_field(*arguments, marginals, out, steps, self.threads, self.instructions)
        except OverflowError as error:
            raise CRFError(f"{error}") from None
        return out

    def from_array(self, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the array in single precision."""
        return np.asarray(array, np.float32)

    def to_array(self, marginals: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the marginals unchanged."""
        return marginals

    def divergence(self, marginals: npt.NDArray[np.float32]) -> tuple[float, float]:
        """Return the unary and the pairwise part of the divergence."""
        energies = (term.energy(marginals, self_message=self.self_message) for term in self.pairwise)
        return sum_divergence(marginals, self.unary.energy(np.float64), energies)


def count_cores() -> int:
    """Return how many CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
