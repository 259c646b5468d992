"""How messages are summed: ``values ↦ K values`` with ``K_ij = exp(-|f_i - f_j|² / 2)``.

================  ====================================================  ==================
``"lattice"``     permutohedral lattice                                 float32
``"exact"``       every pixel with every other                          float64
================  ====================================================  ==================

An engine is a class of filters: made once from features, called with values as often as there
are steps. Each is imported when it is asked for.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["Engine", "Filter", "filter_of"]

Engine: TypeAlias = Literal["lattice", "exact"]


class Filter(Protocol):
    """A kernel that values can be multiplied by."""

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What it computes in."""
        ...

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the kernel times ``values`` (N, C); each pixel's message to itself is in it."""
        ...


def filter_of(engine: Engine, features: npt.NDArray[Any]) -> Filter:
    """Return the filter of ``features`` (N, d), divided by their sigmas.

    Raises
    ------
    CRFError
        There is no such engine.
    """
    if engine == "exact":
        from upscore.crf.engines.exact import ExactFilter

        return ExactFilter(features)
    if engine == "lattice":
        from upscore.crf.engines.portable import LatticeFilter

        return LatticeFilter(features)
    raise CRFError(f"found engine '{engine}', expected {', '.join(get_args(Engine))}")
