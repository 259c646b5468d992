"""Focal loss: cross-entropy with less weight on pixels that are already classified well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import RecipeError
from upscore.losses.pixelwise import apply_weights, check_batch, sample_labels
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
    The paper's p is a sigmoid with two weights a; here p is the softmax and a the weight of the
    true class.

    Parameters
    ----------
    logits, labels, class_weights, pixel_weights, sampling, generator
        As for :func:`~upscore.losses.pixelwise.pixel_cross_entropy`, and so are the type of the result and the errors.
    gamma : float, finite, at least 0
        Exponent that reduces the weight of easy pixels; 0 is cross-entropy, 2 the paper's choice. Others are a RecipeError.
    """
    if not 0 <= gamma < float("inf"):
        raise RecipeError(f"found focal gamma {gamma:g}, expected a finite number of at least 0; 0 is cross-entropy")
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    labels = sample_labels(labels, sampling, generator=generator)
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    # 1 - p by expm1: near p = 1 the difference would be rounding error alone. The clamp keeps the
    # gradient of a power below 1 finite at p = 1, where the cross-entropy factor is zero.
    complement = -torch.expm1(-losses).clamp(max=-torch.finfo(losses.dtype).tiny)
    return apply_weights(losses * complement**gamma, labels, class_weights=class_weights, pixel_weights=pixel_weights).sum() / sampling
