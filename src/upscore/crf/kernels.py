"""What pixels have in common: features, the distance between them, and what disagreement costs.

A kernel says how much two pixels i and j speak to each other::

    k(f_i, f_j) = exp(-|f_i - f_j|² / 2)          f: features, each divided by its sigma

    Gaussian     f = (position / sigma)                              neighbours agree
    Bilateral    f = (position / sigma, colour / sigma_colour)       neighbours of one colour agree
    Features     f = (position / sigma, whatever you measured / its sigma)

Krähenbühl, Koltun (2011), "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", eq. 3, whose appearance and smoothness kernels the first two are.

**One sign convention.** A compatibility is what a disagreement costs. A number w is Potts': w
for two different labels, nothing for equal ones. A vector (K,) is the same with a cost of its
own for each label. A matrix (K, K) is the cost mu(l, l') itself, symmetric: zeros on its
diagonal and positive numbers beside it smooth. So 10, a vector of tens and
``10 * (1 - eye(K))`` mean one and the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["Bilateral", "Compatibility", "Features", "Gaussian", "Kernel", "Normalization"]

Compatibility: TypeAlias = float | Sequence[float] | npt.NDArray[Any]
"""A number, (K,) or (K, K): what disagreement costs."""

Normalization: TypeAlias = Literal["symmetric", "before", "after", "none"]
"""Where messages are divided by the kernel's row sums n: n^-1/2 on both sides, n^-1 on either, or nowhere."""

NORMALIZATIONS = ("symmetric", "before", "after", "none")


def normalizing_factors(rows: Any, normalization: str) -> tuple[Any, Any]:
    """Return what values are multiplied by before the kernel and after it, of its row sums (any kind of array); None for nothing."""
    if normalization == "none":
        return None, None
    factors = rows**-0.5 if normalization == "symmetric" else 1 / rows
    return factors if normalization != "after" else None, factors if normalization != "before" else None


class Kernel(Protocol):
    """What the CRF asks of a kernel; any object with these will do."""

    @property
    def compatibility(self) -> Compatibility:
        """What disagreement costs."""
        ...

    @property
    def normalization(self) -> Normalization:
        """How messages are normalised."""
        ...

    def features(self, shape: tuple[int, ...], picture: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
        """Return (pixels, d) features of a grid of ``shape``, pixels in C order."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Neighbours agree, whatever they look like; removes specks.

    Parameters
    ----------
    sigma : float or sequence of float
        Reach in pixels, one for each axis of the grid (rows first) or one for all.
    compatibility : float, (K,) or (K, K)
        What disagreement costs; see the module.
    normalization : {"symmetric", "before", "after", "none"}
        Where messages are divided by the row sums of the kernel.
    """

    sigma: float | Sequence[float] = 3.0
    compatibility: Compatibility = 3.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], picture: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes) float64."""
        return _joined(shape, self.sigma)


@dataclass(frozen=True)
class Bilateral:
    """Neighbours of one colour agree; borders move to the picture's edges.

    Parameters
    ----------
    sigma : float or sequence of float
        Reach in pixels, for each axis or for all.
    sigma_colour : float or sequence of float
        How different two colours may be, in the picture's own numbers (0 to 255 for a
        photograph), for each channel or for all.
    compatibility, normalization
        As for :class:`Gaussian`.
    """

    sigma: float | Sequence[float] = 80.0
    sigma_colour: float | Sequence[float] = 13.0
    compatibility: Compatibility = 10.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], picture: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes + channels) float64.

        Raises
        ------
        CRFError
            There is no picture.
        """
        if picture is None:
            raise CRFError("a bilateral kernel compares colours, and no picture was given: pass picture=, or use a Gaussian alone")
        return _joined(shape, self.sigma, *_scaled(picture, self.sigma_colour))


@dataclass(frozen=True, eq=False)
class Features:
    """Pixels of one depth, temperature, colour space or anything else agree.

    Parameters
    ----------
    values : (*shape,) or (*shape, C) array
        What was measured at each pixel.
    sigma_values : float or sequence of float
        How different two values may be, for each channel or for all.
    sigma : float or sequence of float, optional
        Reach in pixels; without it pixels speak to each other however far apart they are.
    compatibility, normalization
        As for :class:`Gaussian`.
    """

    values: npt.NDArray[Any]
    sigma_values: float | Sequence[float]
    sigma: float | Sequence[float] | None = None
    compatibility: Compatibility = 10.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], picture: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes + C) float64, or (pixels, C) without ``sigma``.

        Raises
        ------
        CRFError
            The values are not of the grid's shape.
        """
        values = np.asarray(self.values)
        if values.shape[: len(shape)] != shape or values.ndim > len(shape) + 1:
            raise CRFError(
                f"found features of shape {values.shape}, expected {shape} or {(*shape, 'C')}: one value or vector for each pixel"
            )
        measured = values[..., None] if values.ndim == len(shape) else values
        return _joined(shape, self.sigma, *_scaled(measured, self.sigma_values))


def _joined(shape: tuple[int, ...], sigma: Sequence[float] | float | None, *measured: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (pixels, features), each feature contiguous: the last axis first (x before y, as the authors' code has them), then values."""
    sigmas = [] if sigma is None else _one_each(sigma, len(shape), "axis")
    features = np.empty((len(sigmas) + len(measured), *shape))
    for row, axis in enumerate(reversed(range(len(sigmas)))):
        with np.errstate(over="ignore"):  # what lies too far apart is refused with the features
            features[row] = (np.arange(shape[axis]) / sigmas[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis))
    for row, values in enumerate(measured, len(sigmas)):
        features[row] = values
    return features.reshape(len(features), math.prod(shape)).T


def _scaled(values: npt.NDArray[Any], sigma: float | Sequence[float]) -> list[npt.NDArray[np.float64]]:
    """Return each channel of (*shape, C) divided by its sigma."""
    sigmas = _one_each(sigma, values.shape[-1], "channel")
    if values.dtype.kind not in "biuf":
        raise CRFError(f"found measured values of type {values.dtype}, expected numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        return [np.divide(values[..., channel], s, dtype=np.float64) for channel, s in enumerate(sigmas)]


def numbers_of(given: Any, what: str) -> npt.NDArray[np.float64]:
    """Return numbers as an array.

    Raises
    ------
    CRFError
        They are none.
    """
    array = np.asarray(given) if not isinstance(given, np.ndarray) else given
    if array.dtype.kind not in "iuf":
        raise CRFError(f"found {what} {given!r}, expected numbers")
    return np.asarray(array, np.float64)


def _one_each(sigma: float | Sequence[float], count: int, what: str) -> list[float]:
    sigmas = [float(s) for s in np.atleast_1d(numbers_of(sigma, "sigma")).ravel()]
    sigmas = sigmas * count if len(sigmas) == 1 else sigmas
    if len(sigmas) != count:
        raise CRFError(f"found {len(sigmas)} sigmas, expected 1, or {count}: one for each {what}")
    if not all(0 < s < np.inf for s in sigmas):
        raise CRFError(f"found sigma {sigma}, expected a finite number above 0")
    return sigmas
