"""Soft Dice loss: one minus the overlap of a class's probability with its true pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from upscore.losses.per_image import sum_over_images

__all__ = ["dice_loss"]


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the soft Dice loss of each image times its valid pixels, summed over images.

    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, §3: with the probability p_i of a class at
    pixel i and its truth g_i in {0, 1}::

        D = 2 Σ p_i g_i / (Σ p_i² + Σ g_i²)          loss = 1 - mean of D over classes

    The paper has one class; here the mean is over the classes that occur in an image's truth. An
    absent class has D = 0 and no gradient for any prediction, so it is left out. Nothing is added
    to numerator or denominator. At one-hot probabilities D is the F1 score.

    Arguments, errors and the type of the result are those of :func:`~upscore.losses.pixelwise.pixel_cross_entropy`; it is
    in [0, 1] when divided by the valid pixels.

    Examples
    --------
    >>> import torch
    >>> labels = torch.tensor([[[0, 0, 1, 255]]])
    >>> logits = 100 * F.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 2).movedim(-1, 1).float()
    >>> round(float(dice_loss(logits, labels)) / 3, 3)  # D is 2/3 for both classes
    0.333
    """
    return sum_over_images(logits, labels, _one_minus_dice)


def _one_minus_dice(probs: Tensor, truth: Tensor) -> Tensor:
    members = F.one_hot(truth, len(probs)).to(probs).T  # (K, n)
    present = members.sum(1) > 0
    dice = 2 * (probs * members).sum(1)[present] / ((probs * probs).sum(1) + members.sum(1))[present]
    return 1 - dice.mean()
