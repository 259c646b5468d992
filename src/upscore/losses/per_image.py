"""Losses that are one number for all pixels of an image: taken of each image alone, and summed over images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from upscore.losses.pixelwise import check_batch
from upscore.types import IGNORE

__all__ = ["sum_over_images"]


def sum_over_images(logits: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the loss of each image's valid pixels times their number, summed over images; zero, with zero gradient, without any.

    ``loss`` maps the probabilities (K, n) and labels (n,) of the n > 0 valid pixels of an image to a scalar. Logits, labels, errors and
    the type of the result are those of :func:`~upscore.losses.pixelwise.pixel_cross_entropy`.
    """
    logits, labels = check_batch(logits, labels)
    total = logits[:0].sum()
    for image_logits, label in zip(logits, labels, strict=True):
        valid = label != IGNORE
        truth = label[valid]
        if len(truth):
            total = total + len(truth) * loss(image_logits[:, valid].softmax(0), truth)
    return total
