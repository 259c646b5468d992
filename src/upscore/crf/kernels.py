"""Pairwise kernels: the features that pixels are compared by, and what disagreement costs.

The weight of the message between two pixels i and j is::

    k(f_i, f_j) = exp(-|f_i - f_j|² / 2)          f: features, each divided by its sigma

    Gaussian     f = (position / sigma)                              nearby pixels agree
    Bilateral    f = (position / sigma, colour / sigma_colour)       nearby pixels of similar colour agree
    Features     f = (position / sigma, values / sigma_values)       likewise for any measurement

Krähenbühl, Koltun (2011), "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", eq. 3: Gaussian is its smoothness kernel, Bilateral its appearance kernel.

**One sign convention.** A compatibility is the cost of a disagreement. A number w is the Potts
model: w for two different labels, 0 for equal ones. A vector (K,) has a cost for each label. A
matrix (K, K) is the cost mu(l, l') itself, symmetric; zeros on its diagonal and positive numbers
elsewhere smooth. So 10, a vector of tens and ``10 * (1 - eye(K))`` mean the same.
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
"""The cost of disagreement: a number, (K,) or (K, K)."""

Normalization: TypeAlias = Literal["symmetric", "before", "after", "none"]
"""Where messages are divided by the kernel's row sums n: by n^1/2 before and after the filter, by n before or after it, or nowhere."""

NORMALIZATIONS = ("symmetric", "before", "after", "none")


def normalizing_factors(rows: Any, normalization: str) -> tuple[Any, Any]:
    """Return the factors before and after the filter from its row sums (any kind of array); None for no factor."""
    if normalization == "none":
        return None, None
    factors = rows**-0.5 if normalization == "symmetric" else 1 / rows
    return factors if normalization != "after" else None, factors if normalization != "before" else None


class Kernel(Protocol):
    """The protocol of a kernel; any object with these attributes is one."""

    @property
    def compatibility(self) -> Compatibility:
        """The cost of disagreement."""

    @property
    def normalization(self) -> Normalization:
        """Where messages are divided by the row sums."""

    def features(self, shape: tuple[int, ...], image: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
        """Return the features (pixels, d) of a grid of ``shape``, pixels in C order, divided by their sigmas."""


@dataclass(frozen=True)
class Gaussian:
    """Nearby pixels agree, whatever their colours; removes specks.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in pixels, one for each axis of the grid (rows first) or one for all.
    compatibility : float, (K,) or (K, K)
        The cost of disagreement; see the module.
    normalization : {"symmetric", "before", "after", "none"}
        Where messages are divided by the row sums of the kernel.

    Examples
    --------
    >>> Gaussian(sigma=2.0).features((1, 3)).tolist()
    [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """

    sigma: float | Sequence[float] = 3.0
    compatibility: Compatibility = 3.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], image: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes) float64."""
        return _stack_features(shape, self.sigma)


@dataclass(frozen=True)
class Bilateral:
    """Nearby pixels of similar colour agree; label boundaries move to the image's edges.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in pixels, for each axis or for all.
    sigma_colour : float or sequence of float
        Standard deviation of colours, in the image's own units (0 to 255), for each channel
        or for all.
    compatibility, normalization
        As for :class:`Gaussian`.

    Examples
    --------
    >>> image = np.array([[[0], [26]]], np.uint8)
    >>> Bilateral(sigma=10.0).features((1, 2), image).tolist()
    [[0.0, 0.0, 0.0], [0.1, 0.0, 2.0]]
    """

    sigma: float | Sequence[float] = 80.0
    sigma_colour: float | Sequence[float] = 13.0
    compatibility: Compatibility = 10.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], image: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes + channels) float64; CRFError where there is no image."""
        if image is None:
            raise CRFError("a bilateral kernel compares colours, and no image was given: pass image=, or use a Gaussian alone")
        return _stack_features(shape, self.sigma, *_divide_channels(image, self.sigma_colour))


@dataclass(frozen=True, eq=False)
class Features:
    """Pixels of similar depth, temperature or any other measurement agree.

    Parameters
    ----------
    values : (...) or (..., C) array
        The measurement of each pixel.
    sigma_values : float or sequence of float
        Standard deviation of the values, for each channel or for all.
    sigma : float or sequence of float, optional
        Standard deviation in pixels; without it distances in the image do not count.
    compatibility, normalization
        As for :class:`Gaussian`.

    Examples
    --------
    >>> depth = np.array([[1.0, 4.0]])
    >>> Features(depth, sigma_values=0.5).features((1, 2)).tolist()
    [[2.0], [8.0]]
    """

    values: npt.NDArray[Any]
    sigma_values: float | Sequence[float]
    sigma: float | Sequence[float] | None = None
    compatibility: Compatibility = 10.0
    normalization: Normalization = "symmetric"

    def features(self, shape: tuple[int, ...], image: npt.NDArray[Any] | None = None) -> npt.NDArray[np.float64]:
        """Return (pixels, axes + C) float64, or (pixels, C) without ``sigma``; CRFError where the values are on another grid."""
        values = np.asarray(self.values)
        if values.shape[: len(shape)] != shape or values.ndim > len(shape) + 1:
            raise CRFError(
                f"found features of shape {values.shape}, expected {shape} or {(*shape, 'C')}: one value or vector for each pixel"
            )
        channels = values[..., None] if values.ndim == len(shape) else values
        return _stack_features(shape, self.sigma, *_divide_channels(channels, self.sigma_values))


def _stack_features(
    shape: tuple[int, ...], sigma: Sequence[float] | float | None, *channels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (pixels, features), each feature contiguous: positions, last axis first (x before y, as in the authors' code), then values."""
    sigmas = [] if sigma is None else _broadcast_sigma(sigma, len(shape), "axis")
    features = np.empty((len(sigmas) + len(channels), *shape))
    for row, axis in enumerate(reversed(range(len(sigmas)))):
        with np.errstate(over="ignore"):  # features that overflow are refused later
            features[row] = (np.arange(shape[axis]) / sigmas[axis]).reshape(-1, *[1] * (len(shape) - 1 - axis))
    for row, values in enumerate(channels, len(sigmas)):
        features[row] = values
    return features.reshape(len(features), math.prod(shape)).T


def _divide_channels(values: npt.NDArray[Any], sigma: float | Sequence[float]) -> list[npt.NDArray[np.float64]]:
    """Return each channel of (*shape, C) divided by its sigma."""
    sigmas = _broadcast_sigma(sigma, values.shape[-1], "channel")
    if values.dtype.kind not in "biuf":
        raise CRFError(f"found values of type {values.dtype}, expected numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        return [np.divide(values[..., channel], s, dtype=np.float64) for channel, s in enumerate(sigmas)]


def as_numbers(given: Any, what: str) -> npt.NDArray[np.float64]:
    """Return numbers as a float64 array; where they are none, a CRFError calls them ``what``."""
    array = np.asarray(given) if not isinstance(given, np.ndarray) else given
    if array.dtype.kind not in "iuf":
        raise CRFError(f"found {what} {given!r}, expected numbers")
    return np.asarray(array, np.float64)


def _broadcast_sigma(sigma: float | Sequence[float], count: int, what: str) -> list[float]:
    sigmas = [float(s) for s in np.atleast_1d(as_numbers(sigma, "sigma")).ravel()]
    sigmas = sigmas * count if len(sigmas) == 1 else sigmas
    if len(sigmas) != count:
        raise CRFError(f"found {len(sigmas)} sigmas, expected 1, or {count}: one for each {what}")
    if not all(0 < s < np.inf for s in sigmas):
        raise CRFError(f"found sigma {sigma}, expected a finite number above 0")
    return sigmas
