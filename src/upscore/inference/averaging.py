"""Several looks at one image, averaged: mirrored, rescaled, by several networks.

Means are taken over probabilities, not logits: each look has one vote, however sure of
itself it is.

Averaging is exact under tiling. A scale is a fraction p/q; the image is first continued
to a multiple of q by repeating its last row and column, so that its rescaled size is whole
and a crop that begins on a multiple of q is rescaled to the very pixels that the whole
image would give. :func:`averaging_context` says how much context, and which stride,
tiles need for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from torch import Tensor
from torch.nn import functional

from upscore.errors import RecipeError
from upscore.ops.box_crop import resize
from upscore.settings.scales import scale_fractions

__all__ = ["averaging_context", "ensemble", "product", "tta"]


def tta(segmenter: Callable[[Tensor], Tensor], *, flips: bool = False, scales: Sequence[float] = (1.0,)) -> Callable[[Tensor], Tensor]:
    """Wrap ``segmenter`` so that it averages over mirrored and rescaled images.

    Parameters
    ----------
    segmenter : callable
        images -> probs.
    flips : bool
        Look at the image and at its left-right mirror image.
    scales : sequence of float
        Sizes to look at, from 0.1 to 8; 1 is the image as it is. Images are resized
        bilinearly with antialiasing, and probabilities back to exactly the image's size.

    Returns
    -------
    callable
        A segmenter: the mean over ``scales`` × flips. Without flips and with the scale 1
        alone it is ``segmenter`` itself.

    Raises
    ------
    RecipeError
        As :func:`upscore.settings.check_scales`.
    """
    fractions = scale_fractions(scales)
    if fractions == [1] and not flips:
        return segmenter
    grain = math.lcm(*(scale.denominator for scale in fractions))

    def look(images: Tensor, scale: Fraction, mirrored: bool) -> Tensor:
        height, width = images.shape[-2:]
        view = images if scale == 1 else resize(images, (int(height * scale), int(width * scale)))
        probs = segmenter(view.flip(-1)).flip(-1) if mirrored else segmenter(view)
        return probs if scale == 1 else resize(probs, (height, width))

    def segment(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        beyond = (0, -width % grain, 0, -height % grain)
        padded = functional.pad(images, beyond, mode="replicate") if any(beyond) else images
        looks = [(scale, mirrored) for scale in fractions for mirrored in ((False, True) if flips else (False,))]
        total: Tensor | None = None
        for scale, mirrored in looks:
            probs = look(padded, scale, mirrored)[..., :height, :width]
            # Not in place: what the segmenter returned may be its own.
            total = probs if total is None else total + probs
        assert total is not None
        return total / len(looks)

    return segment


def ensemble(segmenters: Sequence[Callable[[Tensor], Tensor]], *, weights: Sequence[float] | None = None) -> Callable[[Tensor], Tensor]:
    """Return a segmenter that averages the probabilities of several.

    Parameters
    ----------
    segmenters : sequence of callable
        Each maps images to probs over the same classes.
    weights : sequence of float, optional
        Votes of each, positive; equal when not given. They are divided by their sum.

    Raises
    ------
    RecipeError
        There is no segmenter, or the weights do not fit them; when called, the members
        disagree about the number of classes.
    """
    members = list(segmenters)
    votes = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    if not members or len(votes) != len(members) or not all(0 < vote < math.inf for vote in votes):
        raise RecipeError(f"found {len(members)} segmenters and weights {votes}, expected at least one and a positive weight for each")
    whole = sum(votes)

    def segment(images: Tensor) -> Tensor:
        total: Tensor | None = None
        for member, vote in zip(members, votes, strict=True):
            probs = member(images) * (vote / whole)
            _check_classes(total, probs)
            total = probs if total is None else total + probs.to(total.device)
        assert total is not None
        return total

    return segment


def product(scorers: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """Return a segmenter that multiplies the scores of several, none below zero, and takes the softmax of that.

    So does DeconvNet's release with the scores of DeconvNet and of FCN-8s; its paper
    averages probabilities (:func:`ensemble`). A class at which any of them is not above zero has the score 0.

    Parameters
    ----------
    scorers : sequence of callable
        Each maps images to scores before softmax over the same classes.

    Raises
    ------
    RecipeError
        There is none; when called, they disagree about the number of classes.
    """
    members = list(scorers)
    if not members:
        raise RecipeError("found no scores to multiply, expected those of at least one network")

    def segment(images: Tensor) -> Tensor:
        total: Tensor | None = None
        for member in members:
            scores = member(images).clamp_min(0)
            _check_classes(total, scores)
            total = scores if total is None else total * scores.to(total.device)
        assert total is not None
        return total.softmax(1)

    return segment


def _check_classes(total: Tensor | None, more: Tensor) -> None:
    if total is not None and total.shape != more.shape:
        raise RecipeError(f"an ensemble's members give {total.shape[1]} and {more.shape[1]} classes: they must be of the same labels")


def averaging_context(*, margin: int, stride: int, scales: Sequence[float] = (1.0,)) -> tuple[int, int, int]:
    """Return the (margin, stride, grain) that tiles need when the segmenter is wrapped by :func:`tta`.

    A network that looks ``margin`` pixels around it looks ``margin / scale`` pixels of the
    image around it; and a crop must begin where its rescaled pixels are on the network's
    stride: at multiples of ``stride * q / gcd(stride, p)`` for the scale p/q.

    Parameters
    ----------
    margin, stride : int
        Of the segmenter itself, in pixels of what it is given.
    scales : sequence of float
        As in :func:`tta`. Mirroring needs nothing more.

    Returns
    -------
    margin, stride, grain : int
        For :func:`upscore.inference.tiling.iterate_tiles`.
    """
    fractions = scale_fractions(scales)
    if fractions == [1]:
        return margin, stride, 1
    grain = math.lcm(*(scale.denominator for scale in fractions))
    step = math.lcm(*((stride / scale).numerator for scale in fractions))
    # Resizing the image looks max(1, 1/s) pixels of the image around; resizing back max(1, s) of the view.
    one = Fraction(1)
    reaches = [Fraction(margin) if scale == 1 else (margin + max(one, scale) + 1) / scale + max(one, 1 / scale) + 1 for scale in fractions]
    return math.ceil(max(reaches)), step, grain
