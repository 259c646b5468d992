"""Lovász-Softmax: a loss that is one less the IoU where the network is sure, and convex in between."""

from __future__ import annotations

import torch
from torch import Tensor

from upscore.losses.pixelwise import check_batch
from upscore.types import IGNORE

__all__ = ["lovasz_softmax"]


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the Lovász-Softmax loss of each image, times its valid pixels, summed over images.

    Berman, Rannen Triki, Blaschko, "The Lovász-Softmax Loss", CVPR 2018, eqs. 8, 9, 11: the
    error of class c at pixel i is ``m_i = |[y_i = c] - p_i(c)|``; a set M of mispredicted
    pixels costs ``Δ(M) = |M| / |{y = c} ∪ M|``, one less the IoU; the loss of a class is the
    Lovász extension of Δ at m, and an image's the mean over the classes in its truth (the
    paper's variant "present"). With the errors in falling order, the weight of the next error
    is what its pixel adds to Δ, which has a closed form free of cancellation::

        a pixel of the class:      1 / U                 U = |{y = c} ∪ M|, I = |{y = c} minus M|,
        a pixel of another:        I / (U (U - 1))       with that pixel in M

    At one-hot probabilities the loss is the mean of 1 - IoU over these classes. The paper
    takes it over batches as well, which nears the IoU of a data set and depends on how a
    step is divided; of each image alone, as here, it does not.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        Scores.
    labels : (N, H, W) integer
        Class of each pixel, or 255; ignored pixels are in no set.

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
        truth = label[valid]
        if len(truth):
            classes = truth.unique()
            probs = scores[:, valid].softmax(0)[classes]  # (classes present, valid pixels)
            belongs = truth == classes[:, None]
            errors, order = (belongs.to(probs) - probs).abs().sort(dim=1, descending=True)
            costs = (errors * _increments(belongs.gather(1, order), errors.dtype)).sum(1)
            total = total + len(truth) * costs.mean()
    return total


def _increments(belongs: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what each pixel adds to Δ as pixels join M in order: (C, n), ``belongs`` saying which are of the class."""
    size = belongs.sum(1, keepdim=True)
    left = size - belongs.cumsum(1)
    union = (size + (~belongs).cumsum(1)).to(dtype)
    return torch.where(belongs, 1 / union, left.to(dtype) / (union * (union - 1)).clamp(min=1))
