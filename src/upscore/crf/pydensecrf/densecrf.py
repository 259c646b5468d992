"""pydensecrf.densecrf: the CRF built call by call; arrays are (labels, pixels).

Signs are pydensecrf's own: a compatibility that is a number rewards agreement (10 is Potts'),
but a vector or a matrix is added to the energy as it is, so that ``np.array([-10, -10])`` and
``-10 * np.eye(2)`` say the same as 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.crf.dense import bounded_memory, check_labels, check_size, check_steps, message_of
from upscore.crf.engines import Field, engine_of
from upscore.crf.kernels import Bilateral, Gaussian, numbers_of
from upscore.crf.unary import Unary
from upscore.errors import CRFError

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "LogisticUnary",
]

CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = 0, 1, 2
"""How a kernel could be trained; none is here, so that all three are the same, as they are in pydensecrf."""

NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = 0, 1, 2, 3

_NORMALIZATIONS = ("none", "before", "after", "symmetric")

Matrix = npt.NDArray[np.float32]


class ConstUnary:
    """Energies (labels, pixels) as they are."""

    def __init__(self, u: npt.ArrayLike) -> None:
        self.energy = np.asarray(u)


class LogisticUnary:
    """Energies linear in features: ``u`` (labels, D) times ``f`` (D, pixels)."""

    def __init__(self, u: npt.ArrayLike, f: npt.ArrayLike) -> None:
        weights, features = numbers_of(u, "weights"), numbers_of(f, "features")
        if weights.ndim != 2 or features.ndim != 2 or weights.shape[1] != features.shape[0]:
            raise CRFError(f"found weights of shape {weights.shape} and features of {features.shape}, expected (labels, D) and (D, pixels)")
        self.energy = weights @ features


class DenseCRF:
    """A CRF over ``nvar`` pixels of any arrangement.

    Parameters
    ----------
    nvar : int
        Pixels.
    nlabels : int
        Labels.
    """

    def __init__(self, nvar: int, nlabels: int) -> None:
        if not isinstance(nvar, int | np.integer) or isinstance(nvar, bool) or nvar < 1:
            raise CRFError(f"found {nvar} pixels, expected a whole number, at least one")
        check_labels(nlabels)
        check_size(int(nvar))
        self._pixels, self._labels = int(nvar), int(nlabels)
        self._engine = engine_of("lattice")
        self._unary: Unary | None = None
        self._messages: list[Any] = []

    def setUnary(self, u: ConstUnary | LogisticUnary) -> None:
        """Set the energies."""
        self.setUnaryEnergy(u.energy)

    def setUnaryEnergy(self, u: npt.ArrayLike, f: npt.ArrayLike | None = None) -> None:
        """Set the energies, ``-log`` of probabilities.

        Parameters
        ----------
        u : (labels, pixels) floating, or (labels, H, W)
            Of any float type and memory order; with ``f``, (labels, D).
        f : (D, pixels) floating, optional
            Features that the energies are linear in.

        Raises
        ------
        CRFError
            The shape is another, values are not numbers, or they are probabilities.
        """
        energy = np.asarray(u) if f is None else LogisticUnary(u, f).energy
        if energy.dtype.kind not in "iuf" or not energy.size:
            raise CRFError(f"found energies of shape {energy.shape} and type {energy.dtype}, expected numbers (labels, pixels)")
        expected = (self._labels, self._pixels)
        flat = energy.reshape(len(energy), -1) if energy.ndim > 1 else energy
        if flat.shape != expected:
            turned = (flat.ndim == 2 and flat.shape[::-1] == expected) or (energy.ndim == 3 and energy.shape[-1] == self._labels)
            hint = ": labels come first; transpose it, do not reshape it" if turned else ""
            raise CRFError(f"found energies of shape {energy.shape}, expected {expected}{hint}")
        with np.errstate(over="ignore"):
            single = np.array(flat, np.float32, order="C")
        if not np.isfinite(single).all():
            raise CRFError(
                "found energies that are not numbers: clip probabilities before taking the logarithm (utils.unary_from_softmax does)"
            )
        if self._labels > 1 and flat.min() >= 0 and np.allclose(flat.sum(0), 1, atol=1e-3):
            raise CRFError("found probabilities where energies are expected: pass them through utils.unary_from_softmax")
        self._unary = Unary(single.T, "energies")

    def addPairwiseEnergy(
        self, features: npt.ArrayLike, compat: Any, kernel: int = DIAG_KERNEL, normalization: int = NORMALIZE_SYMMETRIC
    ) -> None:
        """Add a kernel over features that are divided by their sigmas already.

        Parameters
        ----------
        features : (D, pixels) floating, or (D, H, W)
            Such as :func:`upscore.crf.pydensecrf.utils.create_pairwise_bilateral` makes.
        compat : number, (labels,) or (labels, labels)
            See the module for the sign.
        kernel, normalization : int
            Constants of the module.

        Raises
        ------
        CRFError
            A shape or constant is impossible.
        """
        given = np.asarray(features)
        if not given.size:
            raise CRFError(f"found features of shape {given.shape}, expected (D, {self._pixels}): one column for each pixel")
        flat = given.reshape(len(given), -1) if given.ndim > 1 else given
        if flat.ndim != 2 or flat.shape[1] != self._pixels:
            raise CRFError(f"found features of shape {given.shape}, expected (D, {self._pixels}): one column for each pixel")
        self._add(flat.T, compat, kernel, normalization)

    def inference(self, niter: int) -> Matrix:
        """Return probabilities (labels, pixels) after ``niter`` steps."""
        check_steps(niter)
        field = self._field()
        with bounded_memory(self._pixels):
            return _as_matrix(field.array(field.advance(None, niter)))

    def startInference(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return Q and two arrays to pass on to :meth:`stepInference`."""
        q = self.inference(0)
        return q, np.empty_like(q), np.empty_like(q)

    def stepInference(self, Q: Matrix, tmp1: Matrix | None = None, tmp2: Matrix | None = None) -> None:
        """Take one step; ``Q`` is changed in place."""
        field = self._field()
        believed = self._checked(Q)
        with bounded_memory(self._pixels):
            Q[...] = field.array(field.advance(field.believe(believed.T), 1)).T

    def klDivergence(self, Q: npt.ArrayLike) -> float:
        """Return the divergence of ``Q`` as pydensecrf counts it: every pair of pixels twice."""
        field = self._field()
        with bounded_memory(self._pixels):
            alone, pairs = field.divergence(field.believe(self._checked(Q).T))
        return alone + pairs

    def _checked(self, Q: npt.ArrayLike) -> Matrix:
        given = np.asarray(Q)
        if given.shape != (self._labels, self._pixels) or given.dtype.kind != "f" or not np.isfinite(given).all():
            raise CRFError(
                f"found Q of shape {given.shape} and type {given.dtype}, expected {(self._labels, self._pixels)} finite floats: "
                "what startInference returns"
            )
        return given.astype(np.float32, copy=False)

    def _add(self, features: npt.NDArray[Any], compat: Any, kernel: int, normalization: int) -> None:
        if kernel not in (CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL):
            raise CRFError(f"found kernel {kernel!r}, expected CONST_KERNEL, DIAG_KERNEL or FULL_KERNEL")
        if normalization not in range(len(_NORMALIZATIONS)):
            raise CRFError(f"found normalization {normalization!r}, expected NORMALIZE_SYMMETRIC or another of the module's constants")
        cost = numbers_of(compat, "compat")
        if cost.ndim == 1:
            cost = -cost
        elif cost.ndim == 2 and cost.shape[0] == cost.shape[1]:
            cost = (cost + cost.T) / 2
        with bounded_memory(self._pixels):
            self._messages.append(message_of(self._engine, features, cost, _NORMALIZATIONS[normalization], self._labels))

    def _field(self) -> Field:
        if self._unary is None:
            raise CRFError("no energies are set: call setUnaryEnergy first")
        return self._engine.field(self._unary, self._messages, self_message=True)


class DenseCRF2D(DenseCRF):
    """A CRF over a picture.

    Parameters
    ----------
    w, h : int
        Width, then height.
    nlabels : int
        Labels.
    """

    def __init__(self, w: int, h: int, nlabels: int) -> None:
        for side in (w, h):
            if not isinstance(side, int | np.integer) or isinstance(side, bool) or side < 1:
                raise CRFError(f"found a width of {w} and a height of {h}, expected whole numbers, at least one")
        super().__init__(int(w) * int(h), nlabels)
        self._width, self._height = int(w), int(h)

    def addPairwiseGaussian(
        self, sxy: float | Sequence[float], compat: Any, kernel: int = DIAG_KERNEL, normalization: int = NORMALIZE_SYMMETRIC
    ) -> None:
        """Add a kernel over positions.

        Parameters
        ----------
        sxy : float or (float, float)
            Reach in pixels along x and y.
        compat, kernel, normalization
            As for :meth:`DenseCRF.addPairwiseEnergy`.
        """
        self._add(Gaussian(_rows_first(sxy)).features((self._height, self._width)), compat, kernel, normalization)

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: npt.ArrayLike,
        compat: Any,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a kernel over positions and colours.

        Parameters
        ----------
        sxy : float or (float, float)
            Reach in pixels along x and y.
        srgb : float or (float, float, float)
            Reach in each colour, 0 to 255.
        rgbim : (H, W, 3) uint8
            The picture, of any memory order.
        compat, kernel, normalization
            As for :meth:`DenseCRF.addPairwiseEnergy`.

        Raises
        ------
        CRFError
            The picture is of another size or type.
        """
        picture = np.asarray(rgbim)
        if picture.shape != (self._height, self._width, 3):
            turned = picture.shape[:2] == (self._width, self._height)
            hint = ": DenseCRF2D takes the width first, DenseCRF2D(w, h, nlabels)" if turned else ""
            raise CRFError(f"found a picture of shape {picture.shape}, expected {(self._height, self._width, 3)}{hint}")
        if picture.dtype != np.uint8:
            raise CRFError(f"found a picture of type {picture.dtype}, expected uint8, 0 to 255, which srgb counts in")
        features = Bilateral(_rows_first(sxy), srgb).features((self._height, self._width), picture)
        self._add(features, compat, kernel, normalization)


def _rows_first(sxy: float | Sequence[float]) -> list[float]:
    """Return sigmas for rows and columns from pydensecrf's x and y."""
    return [float(s) for s in np.atleast_1d(numbers_of(sxy, "sxy")).ravel()[::-1]]


def _as_matrix(pixels: npt.NDArray[Any]) -> Matrix:
    """Return (labels, pixels) of (N, K)."""
    return np.ascontiguousarray(pixels.T, np.float32)
