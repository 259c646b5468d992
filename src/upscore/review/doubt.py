"""How doubtful a mask is, given the probabilities of a network: one number for an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.inference.sinks import MemorySink
from upscore.inference.tile_grid import Window
from upscore.types import IGNORE

__all__ = ["MIN_PROB", "TAIL", "GivenSink", "doubt"]

TAIL = 0.01
"""The fraction of an image's labelled pixels that decides how doubtful its mask is: those with the least probable labels."""

MIN_PROB = 1e-6
"""Smaller probabilities count as this one: below it they are rounding."""


def doubt(given_probs: npt.NDArray[np.floating]) -> float:
    """Return how doubtful a mask is: the mean of -log p over the :data:`TAIL` of its pixels whose labels are the least probable.

    The mean over all pixels is decided by the borders and by what the network does not know; that over the worst pixels tells a wrong
    object, a shifted mask or a dilated one from them, since the network is sure of another class there. At least one pixel counts.

    Parameters
    ----------
    given_probs : array of floats in [0, 1], or NaN
        The probability of each pixel's label; NaN where it is ignored.

    Returns
    -------
    float
        From 0, where every label is certain, to -log(:data:`MIN_PROB`), about 13.8. It never rises where a probability does. NaN where
        every pixel is ignored.

    Examples
    --------
    >>> round(doubt(np.array([1.0, 0.5, np.nan])), 3)
    0.693
    """
    known = given_probs[~np.isnan(given_probs)]
    if known.size == 0:
        return float("nan")
    count = max(1, round(TAIL * known.size))
    worst = np.partition(known, count - 1)[:count].astype(np.float64)
    return float(-np.log(np.clip(worst, MIN_PROB, 1)).mean())


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
