"""pydensecrf.densecrf: a CRF built call by call; arrays are (labels, pixels).

Signs are pydensecrf's own: a compatibility that is a number rewards agreement (10 is the Potts
model), but a vector or a matrix is added to the energy unchanged, so that ``np.array([-10, -10])``
and ``-10 * np.eye(2)`` mean the same as 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.crf.engines import MeanField, make_engine
from upscore.crf.kernels import Bilateral, Gaussian, as_numbers
from upscore.crf.limits import bounded_memory, check_labels, check_size, check_steps
from upscore.crf.pairwise import build_pairwise
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
"""Kinds of trainable kernels. Nothing is trained here, so that all three are the same, as in pydensecrf."""

NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = 0, 1, 2, 3

_NORMALIZATIONS = ("none", "before", "after", "symmetric")

Matrix = npt.NDArray[np.float32]


class ConstUnary:
    """Given energies (labels, pixels).

    >>> ConstUnary([[0.1], [0.2]]).energy.shape
    (2, 1)
    """

    def __init__(self, u: npt.ArrayLike) -> None:
        self.energy = np.asarray(u)


class LogisticUnary:
    """Energies linear in features: ``u`` (labels, D) times ``f`` (D, pixels).

    >>> LogisticUnary(np.ones((3, 2)), np.ones((2, 4))).energy.shape
    (3, 4)
    """

    def __init__(self, u: npt.ArrayLike, f: npt.ArrayLike) -> None:
        weights, features = as_numbers(u, "weights"), as_numbers(f, "features")
        if weights.ndim != 2 or features.ndim != 2 or weights.shape[1] != features.shape[0]:
            raise CRFError(f"found weights of shape {weights.shape} and features of {features.shape}, expected (labels, D) and (D, pixels)")
        self.energy = weights @ features


class DenseCRF:
    """A CRF over ``nvar`` pixels in any arrangement.

    Parameters
    ----------
    nvar : int
        Number of pixels.
    nlabels : int
        Number of labels.

    Raises
    ------
    CRFError
        A number is not a positive integer, there is one label, or too many pixels.

    Examples
    --------
    >>> crf = DenseCRF(4, 2)
    >>> crf.setUnaryEnergy(-np.log([[0.9, 0.8, 0.4, 0.9], [0.1, 0.2, 0.6, 0.1]]))
    >>> crf.addPairwiseEnergy(np.zeros((1, 4)), compat=3)
    >>> crf.inference(5).argmax(0).tolist()
    [0, 0, 0, 0]
    """

    def __init__(self, nvar: int, nlabels: int) -> None:
        if not isinstance(nvar, int | np.integer) or isinstance(nvar, bool) or nvar < 1:
            raise CRFError(f"found {nvar} pixels, expected a whole number, at least one")
        check_labels(nlabels)
        check_size(int(nvar))
        self._pixels, self._labels = int(nvar), int(nlabels)
        self._engine = make_engine("lattice")
        self._unary: Unary | None = None
        self._pairwise: list[Any] = []

    def setUnary(self, u: ConstUnary | LogisticUnary) -> None:
        """Set the energies."""
        self.setUnaryEnergy(u.energy)

    def setUnaryEnergy(self, u: npt.ArrayLike, f: npt.ArrayLike | None = None) -> None:
        """Set the energies, ``-log`` of probabilities.

        Parameters
        ----------
        u : (labels, pixels) floating, or (labels, H, W)
            Any float type and memory order; with ``f``, (labels, D).
        f : (D, pixels) floating, optional
            Features in which the energies are linear.

        Raises
        ------
        CRFError
            The shape is wrong, values are not finite, or they are probabilities.
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
            See the module docstring for its sign.
        kernel, normalization : int
            Constants of this module.

        Raises
        ------
        CRFError
            A shape or constant is invalid.
        """
        given = np.asarray(features)
        flat = given.reshape(len(given), -1) if given.ndim > 1 and given.size else given
        if not given.size or flat.ndim != 2 or flat.shape[1] != self._pixels:
            raise CRFError(f"found features of shape {given.shape}, expected (D, {self._pixels}): one column for each pixel")
        self._add(flat.T, compat, kernel, normalization)

    def inference(self, niter: int) -> Matrix:
        """Return probabilities (labels, pixels) after ``niter`` mean-field steps."""
        check_steps(niter)
        mean_field = self._mean_field()
        with bounded_memory(self._pixels):
            return np.ascontiguousarray(mean_field.to_array(mean_field.advance(None, niter)).T, np.float32)

    def startInference(self) -> tuple[Matrix, Matrix, Matrix]:
        """Return the marginals Q and two arrays that :meth:`stepInference` takes and ignores."""
        q = self.inference(0)
        return q, np.empty_like(q), np.empty_like(q)

    def stepInference(self, Q: Matrix, tmp1: Matrix | None = None, tmp2: Matrix | None = None) -> None:
        """Take one mean-field step; changes ``Q`` in place."""
        mean_field = self._mean_field()
        marginals = self._check_marginals(Q)
        with bounded_memory(self._pixels):
            Q[...] = mean_field.to_array(mean_field.advance(mean_field.from_array(marginals.T), 1)).T

    def klDivergence(self, Q: npt.ArrayLike) -> float:
        """Return the divergence of ``Q`` as pydensecrf computes it, with every pair of pixels counted twice."""
        mean_field = self._mean_field()
        with bounded_memory(self._pixels):
            unary, pairwise = mean_field.divergence(mean_field.from_array(self._check_marginals(Q).T))
        return unary + pairwise

    def _check_marginals(self, Q: npt.ArrayLike) -> Matrix:
        given = np.asarray(Q)
        if given.shape != (self._labels, self._pixels) or given.dtype.kind != "f" or not np.isfinite(given).all():
            raise CRFError(
                f"found Q of shape {given.shape} and type {given.dtype}, expected {(self._labels, self._pixels)} finite floats, "
                "as startInference returns"
            )
        return given.astype(np.float32, copy=False)

    def _add(self, features: npt.NDArray[Any], compat: Any, kernel: int, normalization: int) -> None:
        if kernel not in (CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL):
            raise CRFError(f"found kernel {kernel!r}, expected CONST_KERNEL, DIAG_KERNEL or FULL_KERNEL")
        if normalization not in range(len(_NORMALIZATIONS)):
            raise CRFError(f"found normalization {normalization!r}, expected NORMALIZE_SYMMETRIC or another of the module's constants")
        compatibility = as_numbers(compat, "compat")
        if compatibility.ndim == 1:
            compatibility = -compatibility
        elif compatibility.ndim == 2 and compatibility.shape[0] == compatibility.shape[1]:
            compatibility = (compatibility + compatibility.T) / 2
        with bounded_memory(self._pixels):
            term = build_pairwise(self._engine, features, compatibility, _NORMALIZATIONS[normalization], self._labels)
            self._pairwise.append(term)

    def _mean_field(self) -> MeanField:
        if self._unary is None:
            raise CRFError("no energies are set: call setUnaryEnergy first")
        return self._engine.mean_field(self._unary, self._pairwise, self_message=True)


class DenseCRF2D(DenseCRF):
    """A CRF over an image.

    Parameters
    ----------
    w, h : int
        Width, then height.
    nlabels : int
        Number of labels.

    Examples
    --------
    >>> crf = DenseCRF2D(3, 2, 2)
    >>> crf.setUnaryEnergy(-np.log(np.full((2, 6), 0.5)))
    >>> crf.addPairwiseGaussian(sxy=3, compat=3)
    >>> crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.zeros((2, 3, 3), np.uint8), compat=10)
    >>> crf.inference(5).shape
    (2, 6)
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
        """Add a kernel over positions; ``sxy`` is the standard deviation in pixels along x and y.

        All else is as for :meth:`DenseCRF.addPairwiseEnergy`.
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
            Standard deviation in pixels along x and y.
        srgb : float or (float, float, float)
            Standard deviation of each colour, 0 to 255.
        rgbim : (H, W, 3) uint8
            In any memory order.
        compat, kernel, normalization
            As for :meth:`DenseCRF.addPairwiseEnergy`.

        Raises
        ------
        CRFError
            The image has another size or type.
        """
        image = np.asarray(rgbim)
        if image.shape != (self._height, self._width, 3):
            turned = image.shape[:2] == (self._width, self._height)
            hint = ": DenseCRF2D takes the width first, DenseCRF2D(w, h, nlabels)" if turned else ""
            raise CRFError(f"found an image of shape {image.shape}, expected {(self._height, self._width, 3)}{hint}")
        if image.dtype != np.uint8:
            raise CRFError(f"found an image of type {image.dtype}, expected uint8, 0 to 255, the unit of srgb")
        features = Bilateral(_rows_first(sxy), srgb).features((self._height, self._width), image)
        self._add(features, compat, kernel, normalization)


def _rows_first(sxy: float | Sequence[float]) -> list[float]:
    """Return the sigmas of rows and columns from pydensecrf's x and y."""
    return [float(s) for s in np.atleast_1d(as_numbers(sxy, "sxy")).ravel()[::-1]]
