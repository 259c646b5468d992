"""The loss of a pixel labeller: cross-entropy summed over the pixels that count.

The sum is returned, and the number of valid pixels separately, because only the caller
knows what to divide by: the papers divide by nothing (FCN's unnormalised recipe) or by the
valid pixels of the whole step, whatever its ranks and accumulated batches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.types import IGNORE

__all__ = ["CLASS_WEIGHTINGS", "class_weights", "count_valid", "pixel_cross_entropy"]

CLASS_WEIGHTINGS = ("none", "median", "enet", "inverse")
"""The methods :func:`class_weights` knows."""


def count_valid(labels: Tensor) -> Tensor:
    """Return how many pixels of ``labels`` (any shape, integer) are not 255, as an int64 scalar."""
    return (labels != IGNORE).sum()


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_probability: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the cross-entropy summed over all pixels whose label is not 255.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        Scores; computed with in float32 whatever their precision (float64 is kept).
    labels : (N, H, W) int64
        Class of each pixel in [0, K), or 255 for a pixel that counts for nothing.
    class_weights : (K,) floating, optional
        Factor on the loss of a pixel by its true class. It is not divided by the sum of the
        factors: divide by :func:`count_valid`, as SegNet does.
    sample_probability : float in (0, 1]
        Keep each pixel's loss with this probability and divide by it: the expectation is the
        full loss. FCN's loss sampling, §3.4, the convolutional form of patchwise training.
    generator : torch.Generator, optional
        Draws the sample; torch's own when not given. Unused when the probability is 1.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits). Zero, with zero gradient, when no pixel counts.

    Raises
    ------
    DataError
        Shapes do not belong together, or a label is neither a class nor 255.
    RecipeError
        The probability is not in (0, 1] or there is not one weight for each class.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise DataError(f"found logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, K, H, W) and (N, H, W)")
    if not 0 < sample_probability <= 1:
        raise RecipeError(f"found sample probability {sample_probability:g}, expected above 0 and at most 1")
    classes = logits.shape[1]
    if class_weights is not None and class_weights.shape != (classes,):
        raise RecipeError(f"found class weights of shape {tuple(class_weights.shape)}, expected ({classes},): one for each class")
    _check_labels(labels, classes)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    weights = None if class_weights is None else class_weights.to(logits)
    if sample_probability < 1:
        drawn = torch.rand(labels.shape, generator=generator, device=labels.device if generator is None else generator.device)
        labels = labels.masked_fill((drawn >= sample_probability).to(labels.device), IGNORE)
    return F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE, reduction="sum") / sample_probability


def _check_labels(labels: Tensor, classes: int) -> None:
    bad = (labels < 0) | ((labels >= classes) & (labels != IGNORE))
    if bad.any():
        raise DataError(f"found label {int(labels[bad][0])}, expected 0 to {classes - 1} or {IGNORE}: is the model made for these classes?")


def class_weights(
    pixels: Tensor | npt.NDArray[np.int64], pixels_where_present: Tensor | npt.NDArray[np.int64], *, method: str = "median"
) -> Tensor:
    """Return one loss weight for each class from how often it occurs in the training set.

    Parameters
    ----------
    pixels : (K,) int64
        Pixels of each class over the training set, ignored ones left out.
    pixels_where_present : (K,) int64
        Valid pixels, of any class, of those pictures that contain the class.
    method : {"none", "median", "enet", "inverse"}
        - ``none``: 1 for every class.
        - ``median``: ``median(freq) / freq`` with ``freq = pixels / pixels_where_present``, the
          median over the classes that occur: Eigen and Fergus (2015), as SegNet trains.
        - ``enet``: ``1 / ln(1.02 + p)`` with ``p`` the class's share of all pixels: Paszke and
          others (2016), between 1.4 and 50.5.
        - ``inverse``: ``1 / p``, scaled so that the weighted loss has the mean of the unweighted one.

    Returns
    -------
    Tensor
        (K,) float32. A class that never occurs weighs 1: no pixel will use it, and it must
        stay finite. All weigh 1 when nothing occurs.

    Raises
    ------
    RecipeError
        The method is unknown.
    DataError
        The counts do not belong together.
    """
    if method not in CLASS_WEIGHTINGS:
        raise RecipeError(f"found class weighting '{method}', expected one of {', '.join(CLASS_WEIGHTINGS)}")
    pixels, pixels_where_present = torch.as_tensor(pixels), torch.as_tensor(pixels_where_present)
    if pixels.ndim != 1 or pixels.shape != pixels_where_present.shape:
        raise DataError(f"found class counts of shapes {tuple(pixels.shape)} and {tuple(pixels_where_present.shape)}, expected both (K,)")
    if bool((pixels < 0).any()) or bool((pixels > pixels_where_present).any()):
        raise DataError("found a class with more pixels than the pictures that contain it: count both over the same pictures")
    weights = torch.ones(len(pixels), dtype=torch.float64)
    occurs = pixels > 0
    if method == "none" or not bool(occurs.any()):
        return weights.float()
    share = pixels[occurs].double() / pixels.sum()
    if method == "median":
        frequency = pixels[occurs].double() / pixels_where_present[occurs]
        weights[occurs] = frequency.quantile(0.5) / frequency
    elif method == "enet":
        weights[occurs] = 1 / torch.log(1.02 + share)
    else:
        weights[occurs] = 1 / (share * len(share))
    return weights.float()
