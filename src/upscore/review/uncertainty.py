"""How uncertain a network is of an image, and what it sees in it, from probabilities that come window by window."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from upscore.inference.sinks import LabelMapSink
from upscore.inference.tile_grid import Window

__all__ = ["GRID", "TAIL", "UncertaintySink", "top_mean"]

TAIL = 0.1
"""The fraction of an image's pixels that decides how uncertain a network is of it: those with the most entropy."""

GRID = 4
"""Rows and columns of cells over which probabilities are averaged to compare images."""


class UncertaintySink(LabelMapSink):
    """The label map, the entropy of each pixel's probabilities, and the mean probabilities of each cell of a grid over the image.

    Attributes
    ----------
    entropy : (H, W) float32
        -sum p log p divided by log K: 0 where one class is certain, 1 where all are equally probable.
    """

    def __init__(self, classes: int, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.entropy = np.empty(size, np.float32)
        self._sums = np.zeros((classes, GRID * GRID))
        self._rows, self._columns = (np.arange(side) * GRID // side for side in size)
        self._counts = np.outer(*(np.bincount(cells, minlength=GRID) for cells in (self._rows, self._columns))).ravel()

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        self.write_labels(window, probs)
        classes = probs.shape[0]
        nats = -(probs * probs.clamp_min(1e-12).log()).sum(0) / math.log(max(2, classes))
        self.entropy[window.slices] = nats.clamp(0, 1).cpu().numpy()
        rows, columns = window.slices
        cells = (self._rows[rows, None] * GRID + self._columns[None, columns]).ravel()
        for sums, of_class in zip(self._sums, probs.reshape(classes, -1).cpu().numpy(), strict=True):
            sums += np.bincount(cells, weights=of_class, minlength=GRID * GRID)

    def uncertainty(self) -> float:
        """Return the mean entropy of the :data:`TAIL` of the pixels with the most, 0 to 1."""
        return top_mean(self.entropy, TAIL)

    def descriptor(self) -> npt.NDArray[np.float64]:
        """Return (K × 16,) the mean probability of each class in each cell; images whose descriptors are close show much the same."""
        return (self._sums / np.maximum(1, self._counts)).ravel()


def top_mean(values: npt.NDArray[np.floating], fraction: float) -> float:
    """Return the mean of the largest ``fraction`` of values, at least one.

    >>> top_mean(np.array([0.0, 1.0, 0.5, 0.0]), 0.5)
    0.75
    """
    count = max(1, round(fraction * values.size))
    return float(np.partition(values.ravel(), values.size - count)[values.size - count :].mean(dtype=np.float64))
