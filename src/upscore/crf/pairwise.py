"""Pairwise terms: a kernel's features and compatibility, checked, and built by an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.crf.engines import Engine
from upscore.crf.kernels import NORMALIZATIONS, as_numbers
from upscore.crf.limits import check_size
from upscore.errors import CRFError

__all__ = ["MAX_SIGMAS", "build_pairwise", "check_compatibility"]

MAX_FEATURES = 16
"""A lattice takes one vertex more than features for each pixel."""

MAX_SIGMAS = 2.0**40
"""The largest feature, in sigmas: beyond it lattices and distances lose their digits."""

MAX_COMPATIBILITY = 1e6
"""Messages stay within single precision; usual compatibilities are below 100."""


def build_pairwise(engine: Engine, features: npt.NDArray[Any], compatibility: Any, normalization: str, classes: int) -> Any:
    """Return an engine's pairwise term of one kernel.

    ``features`` are (N, d), divided by their sigmas; compatibility (a number, (K,) or (K, K)) and normalization are those of
    :mod:`upscore.crf.kernels`. A CRFError is raised where a feature is not finite or too large, there are too many, or a setting
    is invalid.

    >>> from upscore.crf.engines import make_engine
    >>> build_pairwise(make_engine("numpy_exact"), np.zeros((4, 2)), 10, "symmetric", classes=3).compatibility.tolist()
    [-10.0, -10.0, -10.0]
    """
    check_size(len(features))
    if not 1 <= features.shape[1] <= MAX_FEATURES:
        raise CRFError(f"found {features.shape[1]} features of each pixel, expected 1 to {MAX_FEATURES}")
    if features.dtype.kind not in "iuf":
        raise CRFError(f"found features of type {features.dtype}, expected numbers")
    if features.size and not np.isfinite(low_high := (float(features.min()), float(features.max()))).all():
        raise CRFError("found features that are not numbers: check the image and the features given")
    if features.size and max(map(abs, low_high)) > MAX_SIGMAS:
        raise CRFError(f"found features from {low_high[0]:.3g} to {low_high[1]:.3g} sigmas, too far apart: use larger sigmas")
    if normalization not in NORMALIZATIONS:
        raise CRFError(f"found normalization '{normalization}', expected {', '.join(NORMALIZATIONS)}")
    return engine.pairwise(features, _message_factors(compatibility, classes), normalization)


def _message_factors(compatibility: Any, classes: int) -> npt.NDArray[np.float64]:
    """Return what messages are multiplied by: (K,) for costs of disagreement alone, or (K, K).

    A pixel's messages sum to the same constant whatever the marginals, so that a reward for
    agreement and a cost of disagreement differ by a constant, which the softmax cancels.
    """
    given = check_compatibility(compatibility)
    if given.ndim == 0 or given.shape == (1,):
        return np.full(classes, -float(given.reshape(())))
    if given.shape == (classes,):
        return -given
    if given.shape == (classes, classes):
        if not np.allclose(given, given.T):
            raise CRFError("found a compatibility matrix that is not symmetric: what a pays beside b, b pays beside a")
        return given
    raise CRFError(
        f"found a compatibility of shape {given.shape} for {classes} labels, expected a number, ({classes},) or ({classes}, {classes})"
    )


def check_compatibility(compatibility: Any) -> npt.NDArray[np.float64]:
    """Return a compatibility as an array of any shape; CRFError where it is not finite or beyond :data:`MAX_COMPATIBILITY`.

    >>> check_compatibility([3, 10]).tolist()
    [3.0, 10.0]
    """
    given = as_numbers(compatibility, "compatibility")
    if not np.isfinite(given).all():
        raise CRFError("found a compatibility that is not a number")
    if given.size and np.abs(given).max() > MAX_COMPATIBILITY:
        raise CRFError(f"found a compatibility of {np.abs(given).max():g}, expected at most {MAX_COMPATIBILITY:g} to either side of 0")
    return given
