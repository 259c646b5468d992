"""How messages are summed, and where.

::

    engine ── message(features, cost, normalization) ──┐      made once: a lattice, say
       └───── field(unary, messages) ──────────────────┴──► Field ── advance(belief, steps) ──► belief

===========  ==================================================  ==========================
"lattice"    permutohedral lattice: compiled, or "numpy"         float32
"numpy"      the same lattice in NumPy and SciPy                 float32
"torch"      the same lattice on tensors, on a device            float32
"exact"      every pixel with every other                        float64
===========  ==================================================  ==========================

With a device, "exact" computes there, by tiles, in float32. Each engine is imported when it is
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.crf.unary import Unary
from upscore.errors import CRFError

__all__ = ["Engine", "EngineName", "Field", "check_engine", "engine_of"]

EngineName: TypeAlias = Literal["lattice", "numpy", "torch", "exact"]

MOST_THREADS = 64
"""Each thread of the compiled lattice keeps sums of its own, which costs memory."""

_WITH_DEVICES = ("torch", "exact")


class Engine(Protocol):
    """Makes fields; holds no state of its own."""

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What it computes in."""
        ...

    def message(self, features: npt.NDArray[Any], cost: npt.NDArray[np.float64], normalization: str) -> Any:
        """Return what is worth keeping of one kernel, whatever the unary is.

        Parameters
        ----------
        features : (N, d) floating
            Finite, divided by their sigmas.
        cost : (K,) or (K, K) float64
            What messages (N, K) are multiplied by, elementwise or as matrices.
        normalization : {"symmetric", "before", "after", "none"}
            Where messages are divided by the kernel's row sums.
        """
        ...

    def field(self, unary: Unary, messages: Sequence[Any], *, self_message: bool) -> Field:
        """Return the mean field of N pixels and K labels."""
        ...


class Field(Protocol):
    """Mean field over N pixels. What pixels believe, Q, is the engine's own kind of array."""

    def advance(self, belief: Any, steps: int) -> Any:
        """Return what is believed ``steps`` later; None is what is believed before any message."""
        ...

    def believe(self, array: npt.NDArray[Any]) -> Any:
        """Return (N, K) probabilities as this engine keeps them."""
        ...

    def array(self, belief: Any) -> npt.NDArray[Any]:
        """Return a belief as an array (N, K)."""
        ...

    def divergence(self, belief: Any) -> tuple[float, float]:
        """Return ``Σ Q log Q + Σ Q U`` and ``Σ_m Σ Q μ_m Q̃_m``, in which every pair counts twice."""
        ...


def check_engine(name: str, *, threads: int | None = None, device: str | None = None) -> None:
    """Refuse a name that no engine has, an impossible number of threads, and a device for an engine that has none.

    Raises
    ------
    CRFError
        Always, then.
    """
    if name not in get_args(EngineName):
        raise CRFError(f"found engine '{name}', expected {', '.join(get_args(EngineName))}")
    if threads is not None and not (isinstance(threads, int | np.integer) and 1 <= threads <= MOST_THREADS):
        raise CRFError(f"found {threads} threads, expected 1 to {MOST_THREADS}")
    if device is not None and name not in _WITH_DEVICES:
        raise CRFError(f"found device '{device}' for engine '{name}', expected none: only {' and '.join(_WITH_DEVICES)} take one")


def engine_of(name: EngineName, *, threads: int | None = None, device: str | None = None) -> Engine:
    """Return an engine by name.

    Parameters
    ----------
    name : {"lattice", "numpy", "torch", "exact"}
        See the module.
    threads : int, optional
        For the compiled lattice: as many as the process may use, when not given.
    device : str, optional
        For "torch" and "exact", by torch's name.

    Raises
    ------
    CRFError
        There is no such engine, no such number of threads, or no such device.
    """
    check_engine(name, threads=threads, device=device)
    if name == "lattice":
        from upscore.crf.engines import native

        if native.available():
            return native.NativeEngine(min(threads or native.processors(), MOST_THREADS))
    if name == "torch" or device is not None:
        try:
            from upscore.crf.engines.tensors import TorchEngine
        except ModuleNotFoundError as error:
            raise CRFError(f"engine '{name}' computes with PyTorch here, which is not installed: pip install torch") from error

        if name == "exact":
            from upscore.crf.engines.tiles import TiledFilter

            return TorchEngine(device or "cpu", TiledFilter)
        return TorchEngine(device or "cpu")
    from upscore.crf.engines.arrays import ArrayEngine

    if name == "exact":
        from upscore.crf.engines.exact import ExactFilter

        return ArrayEngine(ExactFilter, np.float64)
    from upscore.crf.engines.portable import LatticeFilter

    return ArrayEngine(LatticeFilter, np.float32)
