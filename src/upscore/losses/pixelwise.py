"""Cross-entropy summed over valid pixels, and what all sums over pixels need: checks, weights, sampling.

The sum is returned, and the number of valid pixels separately, because only the caller knows the
divisor: the papers divide by nothing (FCN's unnormalised recipe) or by the valid pixels of the
whole step, over all its ranks and accumulated batches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.types import IGNORE

__all__ = ["INTEGERS", "apply_weights", "check_batch", "count_valid", "pixel_cross_entropy", "sample_labels"]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""The dtypes that labels may have. A bool has no value for an ignored pixel."""


def count_valid(labels: Tensor) -> Tensor:
    """Return how many pixels of ``labels`` (any shape, integer) are not 255, as an int64 scalar; DataError for other types.

    >>> count_valid(torch.tensor([[0, 2, 255]]))
    tensor(2)
    """
    return (_as_int64(labels) != IGNORE).sum()


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    sampling: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the cross-entropy summed over all pixels whose label is not 255.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        The loss is computed in float32 for every precision but float64.
    labels : (N, H, W) integer
        Class of each pixel in [0, K), or 255 for an ignored pixel; uint8 to int64.
    class_weights : (K,) floating, optional
        Finite, at least 0. Factor on the loss of a pixel by its true class. The sum is not divided
        by the sum of the factors: divide by :func:`count_valid`, as SegNet does.
    pixel_weights : (N, H, W) floating, optional
        Finite, at least 0. Factor on the loss of each pixel, such as U-Net's w(x); not divided out
        either. The weight of an ignored pixel has no effect, even if it is nan.
    label_smoothing : float in [0, 1)
        ε of Szegedy and others, "Rethinking the Inception Architecture", CVPR 2016, §7: the target
        of a pixel is 1 - ε for its true class plus ε / K for each of the K classes. As in torch,
        ``class_weights`` then weight each class's term of the sum ``-Σ_c w_c q_c log p_c`` over the
        target q. Pixel weights multiply the smoothed loss of a pixel, and sampling selects it.
    sampling : float in (0, 1]
        Include each pixel's loss with this probability and divide by it. The expectation of the
        loss is the full loss, and that of its gradient the full gradient, since both are sums
        over pixels. FCN's loss sampling, §3.4, the convolutional form of patchwise training;
        1 includes every pixel.
    generator : torch.Generator, optional
        For the sample; torch's default generator when not given. Unused when every pixel is included.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits). Zero, with zero gradient, when no pixel counts.

    Raises
    ------
    DataError
        Shapes, types or devices do not fit together, a label is neither a class nor 255, or a
        pixel's weight is negative or not finite.
    RecipeError
        ``sampling`` or ``label_smoothing`` is out of range, or there is not one finite weight of at
        least 0 for each class.

    Examples
    --------
    >>> labels = torch.tensor([[[0, 1], [1, 255]]])
    >>> loss = pixel_cross_entropy(torch.zeros(1, 4, 2, 2), labels) / count_valid(labels)
    >>> round(float(loss), 3)  # log 4
    1.386
    """
    if not 0 <= label_smoothing < 1:
        raise RecipeError(f"found label smoothing {label_smoothing:g}, expected at least 0 (none) and below 1")
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    labels = sample_labels(labels, sampling, generator=generator)
    losses = F.cross_entropy(
        logits,
        labels,
        weight=None if class_weights is None else class_weights.to(logits),
        ignore_index=IGNORE,
        reduction="sum" if pixel_weights is None else "none",
        label_smoothing=label_smoothing,
    )
    if pixel_weights is not None:
        losses = apply_weights(losses, labels, pixel_weights=pixel_weights).sum()
    return losses / sampling


def check_batch(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``logits`` as float32 (float64 stays) and ``labels`` as int64, after all checks.

    The values checked are fetched from the device in one transfer. Errors are those of :func:`pixel_cross_entropy`.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        hint = ""
        if logits.ndim == 4 and labels.ndim == 4 and labels.shape[2:] == logits.shape[2:]:
            hint = ": labels have no class axis; take labels.squeeze(1), or argmax(1) of one-hot labels"
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
            f"found labels of type {labels.dtype}, expected uint8 to int64: the index of each pixel's class, or {IGNORE} where ignored"
        )
    return labels.long()


def _check_values(labels: Tensor, classes: int, class_weights: Tensor | None, pixel_weights: Tensor | None) -> None:
    """Refuse labels that are no classes, and weights that are negative or not finite."""
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
    """Return a copy of ``labels`` in which each pixel is ignored with probability ``1 - sampling``; ``labels`` itself if that is 0.

    RecipeError where ``sampling`` is not in (0, 1].
    """
    if not 0 < sampling <= 1:
        raise RecipeError(f"found sampling {sampling:g}, expected a probability above 0 and at most 1")
    if sampling == 1:
        return labels
    uniform = torch.rand(labels.shape, generator=generator, device=labels.device if generator is None else generator.device)
    return labels.masked_fill((uniform >= sampling).to(labels.device), IGNORE)


def apply_weights(losses: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None) -> Tensor:
    """Return pixel losses (N, H, W) times the weights of their classes and of the pixels; zero where ignored."""
    ignored = labels == IGNORE
    if class_weights is not None:
        losses = losses * class_weights.to(losses)[labels.masked_fill(ignored, 0)]
    if pixel_weights is not None:
        losses = losses * pixel_weights.to(losses).masked_fill(ignored, 0)
    return losses.masked_fill(ignored, 0)
