"""Online hard example mining: cross-entropy over each image's hardest pixels."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from upscore.errors import RecipeError
from upscore.losses.pixelwise import apply_weights, check_batch
from upscore.types import IGNORE

__all__ = ["hard_pixel_cross_entropy"]


def hard_pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    fraction: float = 0.25,
    threshold: float = 0.0,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of each image's hardest pixels, times its valid pixels, summed over images.

    Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard
    Example Mining", CVPR 2016; of pixels: Wu, Shen, van den Hengel, "Bridging Category-level
    and Instance-level Semantic Image Segmentation", 2016, §2 (online bootstrapping): the mean
    over pixels whose true class has a probability below a threshold, or over the hardest k
    where fewer are.

    Pixels are selected within an image, so that the selection does not depend on the batch. The
    loss of an image is scaled by valid / selected pixels: it weighs as much as with plain
    cross-entropy, and with ``fraction=1`` it is plain cross-entropy.

    Parameters
    ----------
    logits, labels
        As for :func:`~upscore.losses.pixelwise.pixel_cross_entropy`, and so are the type of the result and the errors.
    fraction : float in (0, 1]
        Of an image's valid pixels, rounded up, that is selected at least.
    threshold : float in [0, 1)
        All pixels whose true class has a probability below this are selected as well.
    class_weights, pixel_weights : Tensor, optional
        As for cross-entropy. They weight the selected pixels; selection is by the unweighted loss.
    """
    if not 0 < fraction <= 1 or not 0 <= threshold < 1:
        raise RecipeError(f"found OHEM fraction {fraction:g} and threshold {threshold:g}, expected above 0 to 1, and 0 to below 1")
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    plain = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    losses = apply_weights(plain, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    hard = plain.detach() > (-math.log(threshold) if threshold else math.inf)
    total = losses[:0].sum()
    for i, valid in enumerate(labels != IGNORE):
        count = int(valid.sum())
        if count:
            selected = max(math.ceil(fraction * count), int((hard[i] & valid).sum()))
            hardest = plain[i].detach()[valid].topk(selected, sorted=False).indices
            total = total + losses[i][valid][hardest].sum() * (count / selected)
    return total
