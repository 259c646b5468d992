"""Cross-entropy summed over the pixels that count, and what every sum over pixels may have.

The sum is returned, and the number of valid pixels separately, because only the caller
knows what to divide by: the papers divide by nothing (FCN's unnormalised recipe) or by the
valid pixels of the whole step, whatever its ranks and accumulated batches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.types import IGNORE

__all__ = ["check_batch", "count_valid", "pixel_cross_entropy", "sample_labels", "weighted"]


def count_valid(labels: Tensor) -> Tensor:
    """Return how many pixels of ``labels`` (any shape, integer) are not 255, as an int64 scalar."""
    return (labels != IGNORE).sum()


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    sampling: float = 1.0,
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
    pixel_weights : (N, H, W) floating, optional
        Factor on the loss of each pixel, such as U-Net's w(x); not divided out either. What it
        says of an ignored pixel is not read.
    sampling : float in (0, 1]
        Keep each pixel's loss with this probability and divide by it. The expectation of the
        loss is the full loss, and that of its gradient the full gradient, since both are sums
        over pixels. FCN's loss sampling, §3.4, the convolutional form of patchwise training;
        1 keeps every pixel.
    generator : torch.Generator, optional
        Draws the sample; torch's own when not given. Unused when every pixel is kept.

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
    logits = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    labels = sample_labels(labels, sampling, generator=generator)
    if pixel_weights is None:
        factors = None if class_weights is None else class_weights.to(logits)
        return F.cross_entropy(logits, labels, weight=factors, ignore_index=IGNORE, reduction="sum") / sampling
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return weighted(losses, labels, class_weights=class_weights, pixel_weights=pixel_weights).sum() / sampling


def check_batch(logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None) -> Tensor:
    """Return ``logits`` as float32 (float64 is kept), once everything is known to fit.

    Raises
    ------
    DataError
        Shapes do not belong together, or a label is neither a class nor 255.
    RecipeError
        There is not one weight for each class.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise DataError(f"found logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, K, H, W) and (N, H, W)")
    classes = logits.shape[1]
    if class_weights is not None and class_weights.shape != (classes,):
        raise RecipeError(f"found class weights of shape {tuple(class_weights.shape)}, expected ({classes},): one for each class")
    if pixel_weights is not None and pixel_weights.shape != labels.shape:
        raise DataError(f"found pixel weights {tuple(pixel_weights.shape)}, expected {tuple(labels.shape)}: one for each label")
    bad = (labels < 0) | ((labels >= classes) & (labels != IGNORE))
    if bad.any():
        raise DataError(f"found label {int(labels[bad][0])}, expected 0 to {classes - 1} or {IGNORE}: is the model made for these classes?")
    return logits if logits.dtype == torch.float64 else logits.float()


def sample_labels(labels: Tensor, sampling: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Return ``labels`` with each pixel kept with probability ``sampling`` and ignored otherwise; a copy unless all are kept.

    Raises
    ------
    RecipeError
        The probability is not in (0, 1].
    """
    if not 0 < sampling <= 1:
        raise RecipeError(f"found sampling {sampling:g}, expected a probability above 0 and at most 1")
    if sampling == 1:
        return labels
    drawn = torch.rand(labels.shape, generator=generator, device=labels.device if generator is None else generator.device)
    return labels.masked_fill((drawn >= sampling).to(labels.device), IGNORE)


def weighted(losses: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None) -> Tensor:
    """Return the losses of pixels (N, H, W) times the weight of their class and their own, zero where ignored."""
    ignored = labels == IGNORE
    if class_weights is not None:
        losses = losses * class_weights.to(losses)[labels.masked_fill(ignored, 0)]
    if pixel_weights is not None:
        losses = losses * pixel_weights.to(losses).masked_fill(ignored, 0)
    return losses.masked_fill(ignored, 0)
