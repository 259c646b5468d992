"""The unary term: a network's output for each pixel, in any form, as an energy.

::

    probabilities p     energy = -log max(p, 1e-5)
    logits z            energy = -z                      (softmax of -energy is the network's prediction)
    label map           energy = -log of a confidence for the given label, of the rest for the others
    energies            unchanged

Inside, arrays are (N, K), pixels by labels, in any memory order: values (K, H, W) are read in
place and never copied as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["MIN_PROBABILITY", "Layout", "Unary", "UnaryKind", "energy_from_labels", "find_layout"]

MIN_PROBABILITY = 1e-5
"""Smaller probabilities are raised to it, so that every energy is finite."""

SUM_TOLERANCE = 1e-2
"""By how much the probabilities of a pixel may miss 1 (half precision does)."""

UnaryKind: TypeAlias = Literal["probabilities", "logits", "energies"]
"""What the values of a unary are."""

_BLOCK = 1 << 18
"""Values processed at a time: with their intermediates they stay in the CPU's cache."""


class Unary:
    """A value for each pixel and label: checked when it is made, read in place.

    Parameters
    ----------
    values : (N, K) floating
        In any memory order; not copied, so do not change it.
    kind : {"probabilities", "logits", "energies"}
        What the values are.

    Raises
    ------
    CRFError
        A value is not finite; or probabilities are below 0, above 1, or do not sum to 1 (most often
        because they are logits).

    Examples
    --------
    >>> unary = Unary(np.array([[0.75, 0.25]]), "probabilities")
    >>> unary.energy(np.float64).round(3).tolist()
    [[0.288, 1.386]]
    """

    def __init__(self, values: npt.NDArray[Any], kind: UnaryKind) -> None:
        if kind not in get_args(UnaryKind):
            raise CRFError(f"found kind '{kind}', expected {', '.join(get_args(UnaryKind))}")
        self.values, self.kind = values, kind
        if kind == "probabilities":
            self._check_probabilities()
        elif not all(np.isfinite(self.values[rows]).all() for rows in self._blocks()):
            raise CRFError(f"found {kind} that are not numbers: the network diverged, or divided by zero")

    def energy(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return the energies (N, K), C-contiguous: a copy. Those of logits are at least 0 at each pixel."""
        energy = np.empty(self.values.shape, dtype)
        for rows in self._blocks():
            part = self.values[rows].astype(dtype, copy=False)
            if self.kind == "probabilities":
                energy[rows] = -np.log(np.clip(part, MIN_PROBABILITY, 1))
            elif self.kind == "logits":
                energy[rows] = part.max(1, keepdims=True) - part
            else:
                energy[rows] = part
        return energy

    def take(self, pixels: npt.NDArray[np.intp]) -> Unary:
        """Return the unary of these pixels: a copy."""
        return Unary(self.values[pixels], self.kind)

    def _check_probabilities(self) -> None:
        low, high, min_sum, max_sum = np.inf, -np.inf, np.inf, -np.inf
        for rows in self._blocks():
            part = self.values[rows]
            with np.errstate(over="ignore", invalid="ignore"):  # values that are no probabilities may be of any size
                sums = part.sum(1, dtype=np.result_type(part.dtype, np.float32))
            if not np.isfinite(sums).all() and not np.isfinite(part).all():
                raise CRFError("found probabilities that are not numbers: the network diverged, or divided by zero")
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            min_sum, max_sum = min(min_sum, float(sums.min())), max(max_sum, float(sums.max()))
        if low < -SUM_TOLERANCE or high > 1 + SUM_TOLERANCE or min_sum < 1 - SUM_TOLERANCE or max_sum > 1 + SUM_TOLERANCE:
            raise CRFError(
                f"found values from {low:g} to {high:g} whose sums over the labels go from {min_sum:g} to {max_sum:g}, "
                "expected probabilities: pass logits with kind='logits'"
            )

    def _blocks(self) -> Iterator[slice]:
        pixels, labels = self.values.shape
        step = max(1, _BLOCK // max(1, labels))
        return (slice(first, first + step) for first in range(0, pixels, step))


@dataclass(frozen=True)
class Layout:
    """Which axis of a unary holds the labels.

    >>> Layout((2, 5), classes=3, last=False).to_pixels(np.zeros((3, 2, 5))).shape
    (10, 3)
    """

    shape: tuple[int, ...]  #: of the grid: (H, W), or any number of axes
    classes: int
    last: bool  #: labels are the last axis, not the first

    def to_pixels(self, unary: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the unary as (N, K): a view if its memory order allows."""
        ordered = unary if self.last else np.moveaxis(unary, 0, -1)
        return ordered.reshape(-1, self.classes)

    def from_pixels(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return (N, K) as contiguous float32 in the unary's layout."""
        grid = pixels.reshape(*self.shape, self.classes)
        return np.ascontiguousarray(grid if self.last else np.moveaxis(grid, -1, 0), np.float32)


def find_layout(unary: npt.NDArray[Any], image: npt.NDArray[Any] | None, *, channels: str | None = None) -> Layout:
    """Find which axis of ``unary`` holds the labels.

    Parameters
    ----------
    unary : array
        (K, ...) or (..., K).
    image : (...) or (..., C) array, optional
        Decides between the layouts. Where both fit, labels are taken to come first.
    channels : {"first", "last"}, optional
        Decides instead of the image.

    Raises
    ------
    CRFError
        The unary is not floating or empty, or neither layout fits the image.

    Examples
    --------
    >>> find_layout(np.zeros((4, 6, 21)), np.zeros((4, 6, 3))).last
    True
    """
    if unary.ndim < 2 or not np.issubdtype(unary.dtype, np.floating):
        raise CRFError(f"found a unary of shape {unary.shape} and type {unary.dtype}, expected floats (K, H, W) or (H, W, K)")
    if 0 in unary.shape:
        raise CRFError(f"found a unary of shape {unary.shape}: nothing to refine")
    if channels not in (None, "first", "last"):
        raise CRFError(f"found channels '{channels}', expected 'first' or 'last'")
    axes = unary.ndim - 1
    if image is not None and image.ndim not in (axes, axes + 1):
        raise CRFError(f"found an image of shape {image.shape} and a unary of {unary.shape}, expected (H, W, 3) and (K, H, W), or the like")
    first, last = Layout(unary.shape[1:], unary.shape[0], False), Layout(unary.shape[:-1], unary.shape[-1], True)
    candidates = {None: (first, last), "first": (first,), "last": (last,)}[channels]
    fitting = [layout for layout in candidates if image is None or layout.shape == image.shape[:axes]]
    if not fitting:
        assert image is not None
        raise CRFError(f"found a unary of shape {unary.shape} and an image of {image.shape}, expected one grid, labels first or last")
    return fitting[0]


def energy_from_labels(
    label_map: npt.NDArray[Any], classes: int, *, confidence: float = 0.7, unknown: int | None = 255
) -> npt.NDArray[np.float32]:
    """Return the energy of a label map.

    Parameters
    ----------
    label_map : (...) integer
        Class of each pixel.
    classes : int
        K.
    confidence : float in (0, 1)
        Probability of the given label; the others have the rest in equal parts.
    unknown : int, optional
        The value of unlabelled pixels, at which all labels are equally probable.

    Returns
    -------
    (N, K) float32

    Raises
    ------
    CRFError
        A label is not a class, or the confidence is out of range.

    Examples
    --------
    >>> np.exp(-energy_from_labels(np.array([1, 255]), 2).astype(float)).round(2).tolist()
    [[0.3, 0.7], [0.5, 0.5]]
    """
    flat = np.asarray(label_map).ravel()
    if not np.issubdtype(flat.dtype, np.integer):
        raise CRFError(f"found labels of type {flat.dtype}, expected whole numbers")
    if not 0 < confidence < 1:
        raise CRFError(f"found confidence {confidence:g}, expected above 0 and below 1")
    known = np.ones(flat.size, bool) if unknown is None else flat != unknown
    if known.any() and not (flat[known].min() >= 0 and flat[known].max() < classes):
        raise CRFError(f"found labels from {flat[known].min()} to {flat[known].max()}, expected 0 to {classes - 1}")
    rest = (1 - confidence) / max(1, classes - 1)
    energy = np.full((flat.size, classes), -np.log(rest), np.float32)
    energy[np.flatnonzero(known), flat[known]] = -np.log(confidence)
    energy[~known] = np.log(classes)
    return energy
