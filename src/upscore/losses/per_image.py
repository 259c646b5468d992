"""Losses that are one number for all pixels of an image: taken of each image alone, and summed over images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from upscore.losses.pixelwise import check_batch
from upscore.types import IGNORE

__all__ = ["sum_over_images"]


def sum_over_images(logits: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the loss of each image's valid pixels times their number, summed over images.

    Parameters
    ----------
    logits : (N, K, H, W) floating
    labels : (N, H, W) integer
        Class of each pixel, or 255.
    loss : callable
        Probabilities (K, n) and labels (n,) of the n > 0 valid pixels of an image, to a scalar.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits). Zero, with zero gradient, without valid pixels.

    Raises
    ------
    DataError
        Shapes or types do not fit together, or a label is neither a class nor 255.
    """
    logits, labels = check_batch(logits, labels)
    total = logits[:0].sum()
    for image_logits, label in zip(logits, labels, strict=True):
        valid = label != IGNORE
        truth = label[valid]
        if len(truth):
            total = total + len(truth) * loss(image_logits[:, valid].softmax(0), truth)
    return total
