"""Losses for training a segmentation network.

::

    pixelwise   cross-entropy; checks, weights and sampling for sums over pixels
    focal       cross-entropy with less weight on easy pixels
    ohem        cross-entropy over each image's hardest pixels
    per_image   losses that are one number for all pixels of an image
    dice        one minus the soft Dice coefficient of each class
    lovasz      the convex surrogate of one minus the IoU of each class
    boundary    the distance between predicted and true contours
    weighting   class weights, given or from class frequencies
    objective   a weighted sum of losses, and a record for each loss

**One contract.** Every loss takes ``logits`` (N, K, H, W) and ``labels`` (N, H, W) with 255 for
ignored pixels, and returns a sum over images that the caller divides by the valid pixels of the
whole step (:func:`count_valid`). Cross-entropy, focal and boundary loss are sums over pixels.
The others are one number for all pixels of an image; they are taken **of each image alone and
multiplied by its valid pixels**, so that after the division they are a mean over images, weighted
by valid pixels. So no loss depends on which images are in a batch: neither gradient accumulation nor
ranks change the objective, and weights between terms have the same effect for every image size.

Losses are computed in float32 for every precision but float64. The gradient of an ignored pixel is
exactly zero, and without valid pixels loss and gradient are zero.
"""

from upscore.losses.boundary import boundary_loss
from upscore.losses.dice import dice_loss
from upscore.losses.focal import focal_loss
from upscore.losses.lovasz import lovasz_softmax
from upscore.losses.objective import LOSSES, Loss, Objective, losses_reading
from upscore.losses.ohem import hard_pixel_cross_entropy
from upscore.losses.pixelwise import count_valid, pixel_cross_entropy
from upscore.losses.weighting import CLASS_WEIGHTINGS, class_weights

__all__ = [
    "CLASS_WEIGHTINGS",
    "LOSSES",
    "Loss",
    "Objective",
    "boundary_loss",
    "class_weights",
    "count_valid",
    "dice_loss",
    "focal_loss",
    "hard_pixel_cross_entropy",
    "losses_reading",
    "lovasz_softmax",
    "pixel_cross_entropy",
]
