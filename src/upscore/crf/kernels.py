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
        """Return (pixels, axes) float32."""
        return _positions(shape, self.sigma)


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
        return np.concatenate([_positions(shape, self.sigma), _scaled(picture.reshape(-1, picture.shape[-1]), self.sigma_colour)], 1)


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
        measured = _scaled(values.reshape(int(np.prod(shape)), -1), self.sigma_values)
        return measured if self.sigma is None else np.concatenate([_positions(shape, self.sigma), measured], 1)


def _positions(shape: tuple[int, ...], sigma: float | Sequence[float]) -> npt.NDArray[np.float64]:
    # The last axis first: x before y, as the authors' code has them.
    axes = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    sigmas = _one_each(sigma, len(shape), "axis")
    return np.stack([axis.ravel() / s for axis, s in zip(axes[::-1], sigmas[::-1], strict=True)], 1)


def _scaled(values: npt.NDArray[Any], sigma: float | Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray(np.asarray(values, np.float64) / np.array(_one_each(sigma, values.shape[1], "channel")))


def _one_each(sigma: float | Sequence[float], count: int, what: str) -> list[float]:
    sigmas = [float(s) for s in np.atleast_1d(np.asarray(sigma, np.float64))]
    sigmas = sigmas * count if len(sigmas) == 1 else sigmas
    if len(sigmas) != count:
        raise CRFError(f"found {len(sigmas)} sigmas, expected 1, or {count}: one for each {what}")
    if not all(0 < s < np.inf for s in sigmas):
        raise CRFError(f"found sigma {sigma}, expected a finite number above 0")
    return sigmas
