"""Lovász-Softmax: one minus the IoU at one-hot predictions, extended convexly to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from upscore.losses.per_image import sum_over_images

__all__ = ["lovasz_softmax"]


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the Lovász-Softmax loss of each image times its valid pixels, summed over images.

    Berman, Rannen Triki, Blaschko, "The Lovász-Softmax Loss", CVPR 2018, eqs. 8, 9, 11: the
    error of class c at pixel i is ``m_i = |[y_i = c] - p_i(c)|``; a set M of mispredicted
    pixels costs ``Δ(M) = |M| / |{y = c} ∪ M|``, one minus the IoU; the loss of a class is the
    Lovász extension of Δ at m, and that of an image the mean over the classes in its truth (the
    paper's variant "present"). With the errors in decreasing order, the weight of an error is the
    increase of Δ when its pixel joins M, which has a closed form free of cancellation::

        a pixel of the class:      1 / U                 U = |{y = c} ∪ M|, I = |{y = c} minus M|,
        a pixel of another:        I / (U (U - 1))       with that pixel in M

    At one-hot probabilities the loss is the mean of 1 - IoU over these classes. The paper also
    takes it over a batch, which approximates the IoU of a data set but depends on how a step is
    divided into batches; per image it does not.

    Arguments, errors and the type of the result are those of :func:`~upscore.losses.pixelwise.pixel_cross_entropy`; it is
    in [0, 1] when divided by the valid pixels.

    Examples
    --------
    >>> labels = torch.tensor([[[0, 0, 1, 255]]])
    >>> logits = 100 * torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 2).movedim(-1, 1).float()
    >>> float(lovasz_softmax(logits, labels)) / 3  # the IoU is 1/2 for both classes
    0.5
    """
    return sum_over_images(logits, labels, _lovasz_extension)


def _lovasz_extension(probs: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over the classes in ``truth`` (n,) of the Lovász extension of Δ at the errors of ``probs`` (K, n)."""
    classes: Tensor = truth.unique()  # type: ignore[no-untyped-call]
    members = truth == classes[:, None]
    errors, order = (members.to(probs) - probs[classes]).abs().sort(dim=1, descending=True)
    costs: Tensor = (errors * _increments(members.gather(1, order), errors.dtype)).sum(1)
    return costs.mean()


def _increments(members: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the increase of Δ (C, n) as pixels join M in order; ``members`` (C, n) tells which belong to the class."""
    size = members.sum(1, keepdim=True)
    intersection = size - members.cumsum(1)
    union = (size + (~members).cumsum(1)).to(dtype)
    return torch.where(members, 1 / union, intersection.to(dtype) / (union * (union - 1)).clamp(min=1))
