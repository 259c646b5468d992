"""Online hard example mining: cross-entropy over each image's hardest pixels."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from upscore.errors import RecipeError
from upscore.losses.pixelwise import check_batch, weighted
from upscore.types import IGNORE

__all__ = ["hard_pixel_cross_entropy"]


def hard_pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    share: float = 0.25,
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

    Pixels are chosen within an image, so that the choice does not depend on what else is in
    the batch. Those kept are lifted by valid / kept: an image weighs as much as with plain
    cross-entropy, and with ``share=1`` this is plain cross-entropy.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        Scores.
    labels : (N, H, W) integer
        Class of each pixel, or 255; ignored pixels are neither kept nor counted.
    share : float in (0, 1]
        Of an image's valid pixels this share, rounded up, is kept in any case.
    threshold : float in [0, 1)
        Beyond them all pixels whose true class has a probability below this are kept.
    class_weights, pixel_weights : Tensor, optional
        As for cross-entropy. They weigh what is kept; hardness is the unweighted loss.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits).

    Raises
    ------
    DataError, RecipeError
        As cross-entropy; also ``share`` or ``threshold`` out of range.
    """
    if not 0 < share <= 1 or not 0 <= threshold < 1:
        raise RecipeError(f"found share {share:g} and threshold {threshold:g}, expected above 0 to 1, and 0 to below 1")
    logits, labels = check_batch(logits, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    plain = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    losses = weighted(plain, labels, class_weights=class_weights, pixel_weights=pixel_weights)
    hard = plain.detach() > (-math.log(threshold) if threshold else math.inf)
    total = losses[:0].sum()
    for i, valid in enumerate(labels != IGNORE):
        count = int(valid.sum())
        if count:
            kept = max(math.ceil(share * count), int((hard[i] & valid).sum()))
            places = plain[i].detach()[valid].topk(kept, sorted=False).indices
            total = total + losses[i][valid][places].sum() * (count / kept)
    return total
