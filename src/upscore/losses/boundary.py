"""Boundary loss: how far outside its true contour a class's probability lies."""

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

    which is, but for a constant, the distance between the predicted contour and the true one,
    integrated along it (eq. 3). It is a sum over pixels, in pixels: a mistake costs the more,
    the farther it lies from the border. Here it is the mean over the classes in an image's
    truth; of two classes that is the paper's, up to a constant. It has no lower bound of 0,
    and alone it hardly moves a network that predicts nothing: add it to another loss, with a
    weight such as the paper's 0.01.

    The distances are found on the processor, labels are copied there.

    Parameters
    ----------
    logits : (N, K, H, W) floating
        Scores.
    labels : (N, H, W) integer
        Class of each pixel, or 255.

    Returns
    -------
    Tensor
        Scalar, float32 (float64 for float64 logits); below 0 for good predictions. An image
        of one class adds nothing: it has no contour.

    Raises
    ------
    DataError
        Shapes or types do not belong together, or a label is neither a class nor 255.
    """
    logits, labels = check_batch(logits, labels)
    total = logits[:0].sum()
    for scores, label in zip(logits, labels.cpu().numpy(), strict=True):
        valid = label != IGNORE
        classes = np.unique(label[valid])
        if len(classes) > 1:
            distances = np.stack([signed_distances(label, int(label_class))[valid] for label_class in classes])
            probs = scores[:, torch.from_numpy(valid).to(scores.device)].softmax(0)[torch.from_numpy(classes).to(scores.device)]
            total = total + (torch.from_numpy(distances).to(probs) * probs).sum() / len(classes)
    return total
