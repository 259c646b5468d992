"""Boundary loss: the distance between the predicted and the true contour of each class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from upscore.distances import signed_distances
from upscore.losses.pixelwise import check_batch
from upscore.types import IGNORE

__all__ = ["boundary_loss"]


def boundary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the signed distance to the true contour times the probability, summed over valid pixels.

    Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed, "Boundary loss for highly
    unbalanced segmentation", MIDL 2019, eq. 5: with the signed distance φ of a pixel to the
    true contour of a class, negative inside (:func:`~upscore.distances.signed_distances`)::

        L = Σ_q φ(q) p(q)

    which equals, up to a constant, the distance between the predicted and the true contour
    integrated along the latter (eq. 3). An error costs the more, the farther it lies from the
    contour. An image's loss is the mean over the classes in its truth; with two classes this
    is the paper's up to a constant. The loss may be negative. Alone it has almost no gradient
    where a network predicts nothing of a class: add it to another loss, with a weight such as the
    paper's 0.01.

    Distances are computed on the CPU, to which labels are copied. Arguments, errors and the type of the result are those of
    :func:`~upscore.losses.pixelwise.pixel_cross_entropy`; it is in pixels, and below 0 for good predictions. An image of one
    class adds nothing: it has no contour.
    """
    logits, labels = check_batch(logits, labels)
    total = logits[:0].sum()
    for image_logits, label in zip(logits, labels.cpu().numpy(), strict=True):
        valid = label != IGNORE
        classes = np.unique(label[valid])
        if len(classes) > 1:
            distances = np.stack([signed_distances(label, int(label_class))[valid] for label_class in classes])
            probs = image_logits[:, torch.from_numpy(valid).to(logits.device)].softmax(0)[torch.from_numpy(classes).to(logits.device)]
            total = total + (torch.from_numpy(distances).to(probs) * probs).sum() / len(classes)
    return total
