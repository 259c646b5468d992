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

__all__ = ["INTEGERS", "check_batch", "count_valid", "pixel_cross_entropy", "sample_labels", "weighted"]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""The types that labels may have; all mean the same. A bool has no value for an ignored pixel."""


def count_valid(labels: Tensor) -> Tensor:
    """Return how many pixels of ``labels`` (any shape, integer) are not 255, as an int64 scalar.

    Raises
    ------
    DataError
        Labels are not integers.
    """
    return (_as_int64(labels) != IGNORE).sum()


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
    labels : (N, H, W) integer
        Class of each pixel in [0, K), or 255 for a pixel that counts for nothing. Of any type from
        uint8 to int64.
    class_weights : (K,) floating, optional
        Finite, at least 0. Factor on the loss of a pixel by its true class. It is not divided by the sum of the
        factors: divide by :func:`count_valid`, as SegNet does.
    pixel_weights : (N, H, W) floating, optional
        Finite, at least 0. Factor on the loss of each pixel, such as U-Net's w(x); not divided out
        either. What it says of an ignored pixel is not read.
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
        Shapes, types or devices do not belong together, a label is neither a class nor 255, or a
        pixel's weight is negative or not finite.
    RecipeError
        The probability is not in (0, 1], or there is not one finite weight of at least 0 for each class.
    """
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    labels = sample_labels(labels, sampling, generator=generator)
    if pixel_weights is None:
        factors = None if class_weights is None else class_weights.to(logits)
        return F.cross_entropy(logits, labels, weight=factors, ignore_index=IGNORE, reduction="sum") / sampling
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return weighted(losses, labels, class_weights=class_weights, pixel_weights=pixel_weights).sum() / sampling


def check_batch(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``logits`` as float32 (float64 is kept) and ``labels`` as int64, once everything is known to fit.

    What has to be looked up in tensors is fetched from their device together, once.

    Raises
    ------
    DataError
        Shapes, types or devices do not belong together, a label is neither a class nor 255, or a
        pixel's weight is negative or not finite.
    RecipeError
        There is not one finite weight of at least 0 for each class.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        hint = ""
        if logits.ndim == 4 and labels.ndim == 4 and labels.shape[2:] == logits.shape[2:]:
            hint = ": labels have no axis of classes; take labels.squeeze(1), or the argmax(1) of one-hot ones"
        raise DataError(f"found logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected (N, K, H, W) and (N, H, W){hint}")
    classes = logits.shape[1]
    if not logits.is_floating_point():
        raise DataError(f"found logits of type {logits.dtype}, expected floating-point numbers")
    if not 1 <= classes <= IGNORE:
        raise DataError(f"found logits of {classes} classes, expected 1 to {IGNORE}: label {IGNORE} means ignored")
    if labels.device != logits.device:
        raise DataError(f"found logits on {logits.device} and labels on {labels.device}, expected one device: move them with .to()")
    labels = _as_int64(labels)
    if class_weights is not None and class_weights.shape != (classes,):
        raise RecipeError(f"found class weights of shape {tuple(class_weights.shape)}, expected ({classes},): one for each class")
    if class_weights is not None and class_weights.is_complex():
        raise RecipeError(f"found class weights of type {class_weights.dtype}, expected real numbers")
    if pixel_weights is not None and pixel_weights.shape != labels.shape:
        raise DataError(f"found pixel weights {tuple(pixel_weights.shape)}, expected {tuple(labels.shape)}: one for each label")
    if pixel_weights is not None and not pixel_weights.is_floating_point():
        raise DataError(f"found pixel weights of type {pixel_weights.dtype}, expected floating-point numbers")
    if labels.numel():
        _check_values(labels, classes, class_weights, pixel_weights)
    return logits if logits.dtype == torch.float64 else logits.float(), labels


def _as_int64(labels: Tensor) -> Tensor:
    if labels.dtype not in INTEGERS:
        raise DataError(
            f"found labels of type {labels.dtype}, expected uint8 to int64: the number of each pixel's class, or {IGNORE} where ignored"
        )
    return labels.long()


def _check_values(labels: Tensor, classes: int, class_weights: Tensor | None, pixel_weights: Tensor | None) -> None:
    """Refuse labels that are no classes, and weights that are no factors (of class weights already known to be K)."""
    ignored = labels == IGNORE
    ranges = [labels.masked_fill(ignored, 0).aminmax()]
    for weights in (class_weights, None if pixel_weights is None else pixel_weights.detach().to(labels.device).masked_fill(ignored, 0)):
        if weights is not None:
            ranges.append(weights.detach().to(labels.device, torch.float32).aminmax())
    found = torch.stack([end.float() for pair in ranges for end in pair]).tolist()
    if not 0 <= found[0] <= found[1] < classes:
        wrong = labels[~ignored & ((labels < 0) | (labels >= classes))]
        raise DataError(f"found label {int(wrong[0])}, expected 0 to {classes - 1} or {IGNORE}: is the model made for these classes?")
    kinds = [(RecipeError, "class weights")] * (class_weights is not None) + [(DataError, "pixel weights")] * (pixel_weights is not None)
    for (error, name), low, high in zip(kinds, found[2::2], found[3::2], strict=True):
        if not 0 <= low <= high < float("inf"):
            raise error(f"found {name} from {low:g} to {high:g}, expected finite numbers of at least 0")


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
