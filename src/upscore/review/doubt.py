"""How doubtful a mask is, given the probabilities of a network: three measures of an image, and one number beside other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.inference.sinks import MemorySink
from upscore.inference.tile_grid import Window
from upscore.types import IGNORE

__all__ = ["BORDER", "MIN_PROB", "TEMPERATURE", "Doubt", "GivenSink", "combined_doubt", "measure_doubt"]

TEMPERATURE = 0.05
"""Of the soft minimum over pixels: those whose labels are less probable by this count e times as much."""

BORDER = 2
"""How far from borders disagreement along them is counted, in pixels."""

MIN_PROB = 1e-6
"""Smaller probabilities count as this one: below it they are rounding."""

_MIN_OUTLINE = 8  # pixels by which a region's evidence is divided at least: of specks nearly every pixel is on the outline
_MIDDLE_HALF = 1.349  # standard deviations that hold half of a normal distribution
_MIN_MEASURE = 1e-4  # smaller measures count as this one, so that images without any doubt can be compared


class GivenSink(MemorySink):
    """What a network says of a mask (H, W): the probability of each pixel's label, its most probable class, and the probability of that.

    Attributes
    ----------
    given_probs : (H, W) float32
        NaN where the label is 255.
    predicted : (H, W) uint8
        Of equally probable classes the first.
    predicted_probs : (H, W) float32
    """

    def __init__(self, label: npt.NDArray[np.uint8]) -> None:
        self.label = label
        self.given_probs = np.full(label.shape, np.nan, np.float32)
        self.predicted = np.empty(label.shape, np.uint8)
        self.predicted_probs = np.empty(label.shape, np.float32)

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        greatest, predicted = probs.max(0)
        self.predicted[window.slices] = predicted.to(torch.uint8).cpu().numpy()
        self.predicted_probs[window.slices] = greatest.cpu().numpy()
        label = self.label[window.slices]
        ignored = label == IGNORE
        index = torch.from_numpy(np.where(ignored, 0, label).astype(np.int64)).to(probs.device)
        given = probs.gather(0, index[None])[0].cpu().numpy()
        self.given_probs[window.slices] = np.where(ignored, np.nan, given)


class Doubt(NamedTuple):
    """How doubtful a mask is, measured in three ways; each is larger where labels are less probable."""

    #: the soft minimum over pixels: the mean of 1 - p, weighted by exp((1 - p) / :data:`TEMPERATURE`); from 0 to 1
    pixels: float
    #: -log p within :data:`BORDER` pixels of the mask's borders and of the predicted ones, by pixel of border
    borders: float
    #: -log p of connected pixels that are predicted as others than labelled, by pixel of their outline; of the region with the most
    region: float


def measure_doubt(label: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], given_probs: npt.NDArray[np.floating]) -> Doubt | None:
    """Measure how doubtful a mask is.

    A mean over all pixels is decided by what the network does not know. The soft minimum, cleanlab's score of an image (Lad and Mueller,
    "Estimating label quality and errors in semantic segmentation data via any model", 2023) with another temperature, finds labels that
    are surely wrong. Masks that are shifted, or objects that are drawn too large or too small, differ in a thin strip along borders;
    objects that are missing, added or have a hole, in a region that is thick for its outline.

    Parameters
    ----------
    label, predicted : (H, W) uint8
        Classes; 255 in ``label`` is ignored.
    given_probs : (H, W) floats in [0, 1], or NaN
        The probability of each pixel's label; NaN where it is ignored.

    Returns
    -------
    Doubt, or None where every pixel is ignored

    Examples
    --------
    >>> label, predicted, given_probs = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), np.ones((9, 9))
    >>> predicted[2:7, 2:7], given_probs[2:7, 2:7] = 1, np.exp(-8)
    >>> round(measure_doubt(label, predicted, given_probs).region, 3)  # 25 pixels, 16 of them on the outline
    12.5
    """
    known = label != IGNORE
    probs = given_probs[known].astype(np.float64)
    if probs.size == 0:
        return None
    surprise = np.zeros(label.shape)
    surprise[known] = -np.log(np.clip(probs, MIN_PROB, 1))
    weights = np.exp(-probs / TEMPERATURE)
    pixels = float(((1 - probs) * weights).sum() / weights.sum())
    window = np.ones((2 * BORDER + 1, 2 * BORDER + 1), np.uint8)
    counted, length = 0.0, 0
    for classes in (label, predicted):
        border = _borders(classes, known)
        counted += float(surprise[cv2.dilate(border.view(np.uint8), window) > 0].sum())
        length += int(np.count_nonzero(border))
    return Doubt(pixels, counted / max(1, length), _thickest_region((label != predicted) & known, surprise))


def _borders(classes: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which pixels have a neighbour of another class, above, below or beside, that is not ignored either."""
    border = np.zeros(classes.shape, np.bool_)
    rows = (classes[1:] != classes[:-1]) & known[1:] & known[:-1]
    columns = (classes[:, 1:] != classes[:, :-1]) & known[:, 1:] & known[:, :-1]
    border[1:] |= rows
    border[:-1] |= rows
    border[:, 1:] |= columns
    border[:, :-1] |= columns
    return border


def _thickest_region(differs: npt.NDArray[np.bool_], surprise: npt.NDArray[np.float64]) -> float:
    """Return the largest sum of ``surprise`` over connected pixels, divided by how many of them are on their outline; 0 without any."""
    count, numbers = cv2.connectedComponents(differs.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    if count == 1:
        return 0.0
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(np.pad(differs, 1).view(np.uint8), cross)[1:-1, 1:-1]
    sums = np.bincount(numbers.ravel(), surprise.ravel(), count)[1:]
    outlines = np.bincount(numbers[differs & (inner == 0)], minlength=count)[1:]
    return float((sums / np.maximum(outlines, _MIN_OUTLINE)).max())


def combined_doubt(measured: Sequence[Doubt | None]) -> npt.NDArray[np.float64]:
    """Return one number for each of several images: how many standard deviations its mask is more doubtful than usual.

    Of the logarithm of each measure the median over the images becomes 0 and the standard deviation 1, by the range of the middle half of
    them, on which few damaged masks have no influence; the mean of the three is returned. So it does not matter how sure the network is
    in general, and how large the images are. NaN where nothing was measured. A measure in which the images do not differ counts as 0.

    >>> combined_doubt([Doubt(0.1, 1, 1), Doubt(0.2, 2, 2), Doubt(0.4, 4, 4), Doubt(0.8, 8, 8), None]).round(2).tolist()
    [-1.35, -0.45, 0.45, 1.35, nan]
    """
    combined = np.full(len(measured), np.nan)
    if found := [each for each in measured if each is not None]:
        logs = np.log(np.maximum(found, _MIN_MEASURE))
        lower, median, upper = np.quantile(logs, [0.25, 0.5, 0.75], axis=0)
        deviations = np.where(upper > lower, (upper - lower) / _MIDDLE_HALF, logs.std(axis=0))
        logs -= median
        scaled = np.divide(logs, deviations, out=np.zeros_like(logs), where=deviations > 1e-12)
        combined[[each is not None for each in measured]] = scaled.mean(axis=1)
    return combined
