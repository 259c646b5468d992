"""What a network says about each pixel, whatever form it comes in, as an energy.

::

    probabilities p     energy = -log max(p, 1e-5)
    logits z            energy = -z                      (the softmax of -energy is the network's answer)
    labels              energy = -log of how sure they are: `confidence` for the label, the rest shared out
    energies            as they are

Inside, pixels come first and labels last, (N, K), contiguous: one pixel's labels are
neighbours in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["LEAST_PROBABILITY", "Layout", "energy_of_labels", "energy_of_logits", "energy_of_probabilities", "find_layout"]

LEAST_PROBABILITY = 1e-5
"""A probability below this is taken for it: no network is surer than that."""

SUM_TOLERANCE = 1e-2
"""By how much the probabilities of a pixel may miss 1 (half precision does)."""


@dataclass(frozen=True)
class Layout:
    """Where the labels are in an array of scores.

    Parameters
    ----------
    shape : tuple of int
        Of the grid: (H, W), or any number of axes.
    classes : int
        K.
    last : bool
        Labels are the last axis, not the first.
    """

    shape: tuple[int, ...]
    classes: int
    last: bool

    def to_pixels(self, scores: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return (N, K) of ``dtype``, contiguous: a copy."""
        ordered = scores if self.last else np.moveaxis(scores, 0, -1)
        return np.array(ordered.reshape(-1, self.classes), dtype, order="C")

    def from_pixels(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 in the layout the scores came in, contiguous."""
        grid = pixels.reshape(*self.shape, self.classes)
        return np.ascontiguousarray(grid if self.last else np.moveaxis(grid, -1, 0), np.float32)


def find_layout(scores: npt.NDArray[Any], picture: npt.NDArray[Any] | None, *, channels: str | None = None) -> Layout:
    """Say which axis of ``scores`` holds the labels.

    Parameters
    ----------
    scores : array
        (K, *shape) or (*shape, K).
    picture : (*shape) or (*shape, C) array, optional
        Tells the layouts apart. Where both fit it, labels are taken to come first.
    channels : {"first", "last"}, optional
        Decides, in place of the picture.

    Raises
    ------
    CRFError
        They are no scores, or neither layout fits the picture.
    """
    if scores.ndim < 2 or not np.issubdtype(scores.dtype, np.floating):
        raise CRFError(f"found scores of shape {scores.shape} and type {scores.dtype}, expected floats (K, H, W) or (H, W, K)")
    if 0 in scores.shape:
        raise CRFError(f"found scores of shape {scores.shape}: nothing to refine")
    if channels not in (None, "first", "last"):
        raise CRFError(f"found channels '{channels}', expected 'first' or 'last'")
    axes = scores.ndim - 1
    if picture is not None and picture.ndim not in (axes, axes + 1):
        raise CRFError(
            f"found a picture of shape {picture.shape} and scores of {scores.shape}, expected (H, W, 3) and (K, H, W), or the like"
        )
    first, last = Layout(scores.shape[1:], scores.shape[0], False), Layout(scores.shape[:-1], scores.shape[-1], True)
    candidates = {None: (first, last), "first": (first,), "last": (last,)}[channels]
    fitting = [layout for layout in candidates if picture is None or layout.shape == picture.shape[:axes]]
    if not fitting:
        assert picture is not None
        raise CRFError(f"found scores of shape {scores.shape} and a picture of {picture.shape}, expected one grid, labels first or last")
    return fitting[0]


def energy_of_probabilities(probs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``-log p`` of (N, K) probabilities.

    Raises
    ------
    CRFError
        A value is not a number, is negative or above 1, or a pixel's do not sum to 1: logits, most
        often.
    """
    if not np.isfinite(probs).all():
        raise CRFError("found probabilities that are not numbers: the network diverged, or divided by zero")
    low, high = float(probs.min()), float(probs.max())
    sums = probs.sum(1)
    if low < -SUM_TOLERANCE or high > 1 + SUM_TOLERANCE or np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise CRFError(
            f"found values from {low:g} to {high:g} whose sums over the labels go from {sums.min():g} to {sums.max():g}, "
            "expected probabilities: pass logits with kind='logits'"
        )
    return np.asarray(-np.log(np.clip(probs, LEAST_PROBABILITY, 1)))


def energy_of_logits(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``-z`` of (N, K) logits, less each pixel's greatest.

    Raises
    ------
    CRFError
        A value is not a number.
    """
    if not np.isfinite(logits).all():
        raise CRFError("found logits that are not numbers: the network diverged, or divided by zero")
    return np.asarray(logits.max(1, keepdims=True) - logits)


def energy_of_labels(
    labels: npt.NDArray[Any], classes: int, *, confidence: float = 0.7, unknown: int | None = 255
) -> npt.NDArray[np.float32]:
    """Return the energy of a label map that is believed with ``confidence``.

    Parameters
    ----------
    labels : (*shape) integer
        Class of each pixel.
    classes : int
        K.
    confidence : float in (0, 1)
        Probability of the label; the others share the rest.
    unknown : int, optional
        A value that says nothing: all labels are equally probable there.

    Returns
    -------
    (N, K) float32

    Raises
    ------
    CRFError
        A label is no class, or the confidence out of range.
    """
    flat = np.asarray(labels).ravel()
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
