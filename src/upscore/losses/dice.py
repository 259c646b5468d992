"""Soft Dice loss: one less the overlap of a class's probability with its true pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from upscore.losses.pixelwise import check_batch
from upscore.types import IGNORE

__all__ = ["dice_loss"]


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the soft Dice loss of each image, times its valid pixels, summed over images.

    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, §3: with the probability p_i of a class at
    pixel i and its truth g_i in {0, 1}::

        D = 2 Σ p_i g_i / (Σ p_i² + Σ g_i²)          loss = 1 - mean of D over classes

    The paper has one class; here the mean is over the classes that occur in an image's
    truth. An absent class has D = 0 and no gradient whatever is predicted, so it is left out;
    nothing is added to numerator or denominator. At one-hot probabilities D is the F1 score.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        Scores.
    labels : (N, H, W) integer
        Class of each pixel, or 255; ignored pixels are in no sum.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits); divided by the valid pixels, in [0, 1].

    Raises
    ------
    DataError
        Shapes or types do not belong together, or a label is neither a class nor 255.
    """
    logits, labels = check_batch(logits, labels)
    total = logits[:0].sum()
    for scores, label in zip(logits, labels, strict=True):
        valid = label != IGNORE
        truth = F.one_hot(label[valid], scores.shape[0]).to(scores).T  # (K, valid pixels)
        count = truth.shape[1]
        if count:
            probs = scores[:, valid].softmax(0)
            present = truth.sum(1) > 0
            overlap = 2 * (probs * truth).sum(1)[present] / ((probs * probs).sum(1) + truth.sum(1))[present]
            total = total + count * (1 - overlap.mean())
    return total
