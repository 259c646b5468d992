"""Focal loss: cross-entropy in which a pixel counts the less, the surer the network is of its true class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import RecipeError
from upscore.losses.pixelwise import check_batch, sample_labels, weighted
from upscore.types import IGNORE

__all__ = ["focal_loss"]


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    sampling: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return ``-a (1 - p)^gamma log p`` summed over valid pixels, p the probability of a pixel's true class.

    Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, eq. 5.
    The paper's p is a sigmoid's and its a two numbers; here p is the softmax's and a the
    weight of the true class.

    Parameters
    ----------
    logits, labels, class_weights, pixel_weights, sampling, generator
        As :func:`~upscore.losses.pixelwise.pixel_cross_entropy`.
    gamma : float, at least 0
        How fast a pixel fades; 0 is cross-entropy, 2 the paper's choice.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits).

    Raises
    ------
    DataError, RecipeError
        As cross-entropy; also ``gamma`` below 0 or not finite.
    """
    if not 0 <= gamma < float("inf"):
        raise RecipeError(f"found focal gamma {gamma:g}, expected 0 (cross-entropy) or more")
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    labels = sample_labels(labels, sampling, generator=generator)
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    # 1 - p by expm1: where p is nearly 1 the difference would be rounding alone. The least number keeps
    # the slope of a power below 1 finite at p = 1, where the cross-entropy beside it is zero.
    missing = -torch.expm1(-losses).clamp(max=-torch.finfo(losses.dtype).tiny)
    faded = losses * missing**gamma
    return weighted(faded, labels, class_weights=class_weights, pixel_weights=pixel_weights).sum() / sampling
