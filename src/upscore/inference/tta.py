"""Test-time augmentation: the mean over mirrored, rotated and rescaled views of an image.

Of probabilities, each view has one vote, however sure of itself it is; scores are averaged as scores.

Rotations are by quarter turns, which move every pixel onto a pixel and are undone exactly. With the mirror images they are the eight
symmetries of the square. U-Net averages over "7 rotated versions of the input" (Ronneberger, Fischer, Brox, MICCAI 2015, §4); it does not
state their angles, or whether the image itself is one of the seven. The eight symmetries are the usual reading.

Averaging is exact under tiling. A scale is a fraction p/q; the image is first padded
to a multiple of q by repeating its last row and column, so that its rescaled size is whole
and a crop that begins on a multiple of q is rescaled to the very pixels that the whole
image would give. :func:`tta_context` gives the context and the stride that tiles need for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

from torch import Tensor
from torch.nn import functional

from upscore.inference.segmenter import Segmenter, SegmenterWrapper
from upscore.ops.box_crop import resize
from upscore.settings.scales import scale_fractions

__all__ = ["TTASegmenter", "tta", "tta_context"]


def tta(segmenter: Segmenter, *, flips: bool = False, rotations: bool = False, scales: Sequence[float] = (1.0,)) -> Segmenter:
    """Wrap ``segmenter`` so that it averages over mirrored, rotated and rescaled images.

    Without flips and rotations and with the scale 1 alone it is ``segmenter`` itself. RecipeError where a scale is out of range.

    Parameters
    ----------
    segmenter : Segmenter
        images -> probs.
    flips : bool
        Average over the image and its left-right mirror image.
    rotations : bool
        Average over the image turned by 0°, 90°, 180° and 270°; with ``flips`` over its eight symmetries.
    scales : sequence of float
        Sizes to average over, from 0.1 to 8; 1 is the image as it is. Images are resized
        bilinearly with antialiasing, and probabilities back to exactly the image's size.
    """
    fractions = scale_fractions(scales)
    return (
        segmenter
        if fractions == [1] and not flips and not rotations
        else TTASegmenter(segmenter, fractions, flips=flips, rotations=rotations)
    )


class TTASegmenter(SegmenterWrapper):
    """A segmenter averaged over views; see :func:`tta`."""

    def __init__(self, segmenter: Segmenter, scales: Sequence[Fraction], *, flips: bool, rotations: bool) -> None:
        super().__init__(segmenter)
        self.views = list(product(scales, (False, True) if flips else (False,), range(4) if rotations else (0,)))
        self.multiple = math.lcm(*(scale.denominator for scale in scales))

    def apply(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return the mean of ``function`` over all views of ``images``."""
        height, width = images.shape[-2:]
        beyond = (0, -width % self.multiple, 0, -height % self.multiple)
        padded = functional.pad(images, beyond, mode="replicate") if any(beyond) else images
        total: Tensor | None = None
        for scale, mirrored, turns in self.views:
            values = _view(function, padded, scale, mirrored, turns)[..., :height, :width]
            # Not in place: what the segmenter returned may be its own.
            total = values if total is None else total + values
        assert total is not None
        return total / len(self.views)


def _view(function: Callable[[Tensor], Tensor], images: Tensor, scale: Fraction, mirrored: bool, turns: int) -> Tensor:
    height, width = images.shape[-2:]
    view = images if scale == 1 else resize(images, (int(height * scale), int(width * scale)))
    view = view.flip(-1) if mirrored else view
    values = function(view.rot90(turns, (-2, -1)) if turns else view)
    values = values.rot90(-turns, (-2, -1)) if turns else values
    values = values.flip(-1) if mirrored else values
    return values if scale == 1 else resize(values, (height, width))


def tta_context(*, margin: int, stride: int, scales: Sequence[float] = (1.0,)) -> tuple[int, int, int]:
    """Return the (margin, stride, multiple) that :func:`upscore.inference.tiling.tiled` needs when the segmenter is wrapped by :func:`tta`.

    ``margin`` and ``stride`` are those of the segmenter itself, in pixels of its input; mirroring and turning need nothing more. A network
    with a context of ``margin`` pixels has ``margin / scale`` pixels of the image as its context; and a crop must begin where its rescaled
    pixels are on the network's stride: at multiples of ``stride * q / gcd(stride, p)`` for the scale p/q.
    """
    fractions = scale_fractions(scales)
    if fractions == [1]:
        return margin, stride, 1
    multiple = math.lcm(*(scale.denominator for scale in fractions))
    step = math.lcm(*((stride / scale).numerator for scale in fractions))
    # Resizing the image reads max(1, 1/s) pixels of the image around; resizing back max(1, s) of the view.
    unit = Fraction(1)
    reaches = [
        Fraction(margin) if scale == 1 else (margin + max(unit, scale) + 1) / scale + max(unit, 1 / scale) + 1 for scale in fractions
    ]
    return math.ceil(max(reaches)), step, multiple
