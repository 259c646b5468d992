"""What a pixel labeller is trained to make small.

::

    pixelwise   cross-entropy; what every sum over pixels may have: weights by class and by pixel, loss sampling
    focal       cross-entropy with the easy pixels faded out
    ohem        cross-entropy over each image's hardest pixels
    dice        one less the soft Dice coefficient of each class
    lovasz      the convex surrogate of one less the IoU of each class
    boundary    how far from its true contour a class's probability lies
    weighting   weights of classes, from how often they occur
    objective   a weighted sum of these, as a recipe says

**One contract.** Every loss takes ``logits`` (N, K, H, W) and ``labels`` (N, H, W) with 255
where a pixel counts for nothing, and returns a sum over images that the caller divides by
the valid pixels of the whole step (:func:`count_valid`). Cross-entropy, focal and boundary
loss are sums over pixels. The others are one number for an image's pixels together; they
are taken **of each image by itself and multiplied by its valid pixels**, so that the
divisor makes them a mean over images, each weighing as much as it has valid pixels.
So no loss depends on which images share a batch: neither accumulation nor ranks change the
objective, and weights between terms mean the same whatever the size of an image.

Computed in float32 whatever the logits' precision (float64 is kept). An ignored pixel has
exactly no gradient, and where nothing is valid the loss is zero with a zero gradient.
"""

from upscore.losses.boundary import boundary_loss
from upscore.losses.dice import dice_loss
from upscore.losses.focal import focal_loss
from upscore.losses.lovasz import lovasz_softmax
from upscore.losses.objective import TERMS, Objective
from upscore.losses.ohem import hard_pixel_cross_entropy
from upscore.losses.pixelwise import count_valid, pixel_cross_entropy
from upscore.losses.weighting import CLASS_WEIGHTINGS, class_weights

__all__ = [
    "CLASS_WEIGHTINGS",
    "TERMS",
    "Objective",
    "boundary_loss",
    "class_weights",
    "count_valid",
    "dice_loss",
    "focal_loss",
    "hard_pixel_cross_entropy",
    "lovasz_softmax",
    "pixel_cross_entropy",
]
