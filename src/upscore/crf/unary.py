"""What a network says about each pixel, whatever form it comes in, as an energy.

::

    probabilities p     energy = -log max(p, 1e-5)
    logits z            energy = -z                      (the softmax of -energy is the network's answer)
    labels              energy = -log of how sure they are: `confidence` for the label, the rest shared out
    energies            as they are

Inside, arrays are (N, K), pixels by labels, whatever their order in memory: scores (K, H, W)
are read where they lie, and never copied whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.errors import CRFError

__all__ = ["LEAST_PROBABILITY", "Layout", "Scores", "Unary", "energy_of_labels", "find_layout"]

LEAST_PROBABILITY = 1e-5
"""A probability below this is taken for it: no network is surer than that."""

SUM_TOLERANCE = 1e-2
"""By how much the probabilities of a pixel may miss 1 (half precision does)."""

Scores: TypeAlias = Literal["probabilities", "logits", "energies"]
"""What the numbers of an array of scores are."""

_BLOCK = 1 << 18
"""Numbers looked at a time: they and what is made of them stay in the processor's cache."""


class Unary:
    """What is said about each pixel alone: checked when it is made, read where it lies.

    Parameters
    ----------
    values : (N, K) floating
        In any memory order; not copied, so do not change it.
    kind : {"probabilities", "logits", "energies"}
        What the values are.

    Raises
    ------
    CRFError
        A value is not a number; or probabilities are below 0, above 1, or do not sum to 1: logits,
        most often.
    """

    def __init__(self, values: npt.NDArray[Any], kind: Scores) -> None:
        if kind not in get_args(Scores):
            raise CRFError(f"found kind '{kind}', expected {', '.join(get_args(Scores))}")
        self.values, self.kind = values, kind
        if kind == "probabilities":
            self._check_probabilities()
        elif not all(np.isfinite(self.values[rows]).all() for rows in self._blocks()):
            raise CRFError(f"found {kind} that are not numbers: the network diverged, or divided by zero")

    def energy(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return the energies (N, K), C-contiguous: a copy. Logits are taken less each pixel's greatest."""
        energy = np.empty(self.values.shape, dtype)
        for rows in self._blocks():
            part = self.values[rows].astype(dtype, copy=False)
            if self.kind == "probabilities":
                energy[rows] = -np.log(np.clip(part, LEAST_PROBABILITY, 1))
            elif self.kind == "logits":
                energy[rows] = part.max(1, keepdims=True) - part
            else:
                energy[rows] = part
        return energy

    def take(self, pixels: npt.NDArray[np.intp]) -> Unary:
        """Return what is said about some of the pixels: a copy."""
        return Unary(self.values[pixels], self.kind)

    def _check_probabilities(self) -> None:
        low, high, least, most = np.inf, -np.inf, np.inf, -np.inf
        for rows in self._blocks():
            part = self.values[rows]
            with np.errstate(over="ignore", invalid="ignore"):  # what is no probability may be of any size
                sums = part.sum(1, dtype=np.result_type(part.dtype, np.float32))
            if not np.isfinite(sums).all() and not np.isfinite(part).all():
                raise CRFError("found probabilities that are not numbers: the network diverged, or divided by zero")
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            least, most = min(least, float(sums.min())), max(most, float(sums.max()))
        if low < -SUM_TOLERANCE or high > 1 + SUM_TOLERANCE or least < 1 - SUM_TOLERANCE or most > 1 + SUM_TOLERANCE:
            raise CRFError(
                f"found values from {low:g} to {high:g} whose sums over the labels go from {least:g} to {most:g}, "
                "expected probabilities: pass logits with kind='logits'"
            )

    def _blocks(self) -> Iterator[slice]:
        pixels, labels = self.values.shape
        step = max(1, _BLOCK // max(1, labels))
        return (slice(first, first + step) for first in range(0, pixels, step))


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

    def to_pixels(self, scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return scores as (N, K): a view where their memory allows."""
        ordered = scores if self.last else np.moveaxis(scores, 0, -1)
        return ordered.reshape(-1, self.classes)

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
