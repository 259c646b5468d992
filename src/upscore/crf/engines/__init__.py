"""Engines: how mean field filters the marginals, and on which back end.

::

    engine ── pairwise(features, compatibility, normalization) ──┐     built once for each kernel
       └───── mean_field(unary, pairwise) ───────────────────────┴──► MeanField ── advance(marginals, steps) ──► marginals

=================  =============================================  =====================
"lattice"          "native_lattice" if compiled, else the next    float32
"native_lattice"   permutohedral lattice in C++                   float32
"numpy_lattice"    permutohedral lattice in NumPy and SciPy       float32
"torch_lattice"    permutohedral lattice in PyTorch, any device   float32
"numpy_exact"      all pairs of pixels, in NumPy                  float64
"torch_exact"      all pairs of pixels, in PyTorch, any device    float32
=================  =============================================  =====================

Each engine is a module of this package, imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.crf.unary import Unary
from upscore.errors import CRFError

__all__ = ["Engine", "EngineName", "MeanField", "check_engine", "make_engine"]

EngineName: TypeAlias = Literal["lattice", "native_lattice", "numpy_lattice", "torch_lattice", "numpy_exact", "torch_exact"]

MAX_THREADS = 64
"""Each thread of the compiled lattice has a splat buffer of its own, which costs memory."""


class Engine(Protocol):
    """Builds pairwise terms and mean fields; holds no state of its own."""

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What it computes in."""

    def pairwise(self, features: npt.NDArray[Any], compatibility: npt.NDArray[np.float64], normalization: str) -> Any:
        """Build one kernel's pairwise term, which any unary may use.

        ``features`` are (N, d), finite and divided by their sigmas; filtered marginals (N, K) are multiplied by ``compatibility``,
        (K,) elementwise or (K, K) as matrices; ``normalization`` is that of :mod:`upscore.crf.kernels`.
        """

    def mean_field(self, unary: Unary, pairwise: Sequence[Any], *, self_message: bool) -> MeanField:
        """Return the mean field of N pixels and K labels."""


class MeanField(Protocol):
    """Mean-field inference over N pixels. The marginals Q are the engine's own kind of array."""

    def advance(self, marginals: Any, steps: int) -> Any:
        """Return the marginals after ``steps`` more steps; None starts from the softmax of the unary."""

    def from_array(self, array: npt.NDArray[Any]) -> Any:
        """Return probabilities (N, K) as the engine's marginals."""

    def to_array(self, marginals: Any) -> npt.NDArray[Any]:
        """Return the marginals as an array (N, K)."""

    def divergence(self, marginals: Any) -> tuple[float, float]:
        """Return ``Σ Q log Q + Σ Q U`` and ``Σ_m Σ Q μ_m Q̃_m``, in which every pair counts twice."""


def check_engine(name: str, *, threads: int | None = None, device: str | None = None) -> None:
    """Check an engine's name, number of threads and device without importing the engine; CRFError where one does not fit.

    >>> check_engine("numpy_exact", device="cuda")
    Traceback (most recent call last):
    upscore.errors.CRFError: found device 'cuda' for engine 'numpy_exact', expected none: only torch_lattice and torch_exact take one
    """
    if name not in get_args(EngineName):
        raise CRFError(f"found engine '{name}', expected {', '.join(get_args(EngineName))}")
    if threads is not None and not (isinstance(threads, int | np.integer) and 1 <= threads <= MAX_THREADS):
        raise CRFError(f"found {threads} threads, expected 1 to {MAX_THREADS}")
    if device is not None and not name.startswith("torch"):
        raise CRFError(f"found device '{device}' for engine '{name}', expected none: only torch_lattice and torch_exact take one")


def make_engine(name: EngineName, *, threads: int | None = None, device: str | None = None) -> Engine:
    """Return the engine of this name in the module's table, with ``threads`` and ``device`` as for :class:`upscore.crf.DenseCRF`.

    A CRFError is raised where an argument is invalid, or what the engine needs (PyTorch, SciPy, the compiled module, the device)
    is missing.

    >>> make_engine("numpy_exact").dtype.__name__
    'float64'
    """
    check_engine(name, threads=threads, device=device)
    if name in ("lattice", "native_lattice"):
        from upscore.crf.engines import native_lattice

        if native_lattice.is_compiled():
            return native_lattice.NativeEngine(min(threads or native_lattice.count_cores(), MAX_THREADS))
        if name == "native_lattice":
            raise CRFError(
                "engine 'native_lattice' was not compiled: install upscore again where there is a C++ compiler, or use 'lattice'"
            )
    if name in ("torch_lattice", "torch_exact"):
        try:
            from upscore.crf.engines.torch_meanfield import TorchEngine
        except ModuleNotFoundError as error:
            raise CRFError(f"engine '{name}' needs PyTorch, which is not installed: pip install torch") from error

        if name == "torch_exact":
            from upscore.crf.engines.torch_exact import TorchExactFilter

            return TorchEngine(device or "cpu", TorchExactFilter)
        return TorchEngine(device or "cpu")
    from upscore.crf.engines.numpy_meanfield import NumpyEngine

    if name == "numpy_exact":
        from upscore.crf.engines.numpy_exact import NumpyExactFilter

        return NumpyEngine(NumpyExactFilter, np.float64)
    from upscore.crf.engines.numpy_lattice import NumpyLattice

    return NumpyEngine(NumpyLattice, np.float32)
