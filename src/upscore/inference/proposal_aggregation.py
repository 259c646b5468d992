"""An image labelled object by object: a network over many boxes of it, its score maps put together.

::

    image ──propose──► boxes ──cut, resize──► (B, 3, side, side) ──network──► scores
                                                                                  │ resize to the box
    probs ◄──softmax── canvas (K, H, W) ◄──maximum or mean, pixel by pixel────────┘

Scores are put together before the softmax, as in DeconvNet: a box that is sure of what it holds
outvotes one that is not. The canvas begins at zero, and where no box lies it stays so: every
class is as probable there as another, and of equals the first, the background, is taken.
Memory is that of the canvas and one batch, however many boxes there are.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, §5.1, eq. 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.inference.image_tensors import bytes_of
from upscore.ops.box_crop import Canvas, Corners, crop_boxes
from upscore.proposals.boxes import Boxes, enlarge_boxes, whole_image
from upscore.proposals.proposers import Proposer
from upscore.settings import Aggregate, ProposalSettings

__all__ = [
    "MOST_VALUES",
    "boxes_for",
    "check_canvas",
    "choose",
    "over_boxes",
    "over_proposals",
    "scores_over_boxes",
]

SIDE = 224
"""Height and width at which DeconvNet sees a box."""

MOST_VALUES = 2**28
"""Classes times pixels of an image whose boxes are put together: 12.8 megapixels of 21 classes, in some 4 GB."""


def over_proposals(
    score: Callable[[Tensor], Tensor],
    propose: Proposer,
    *,
    most: int = 50,
    enlarge: float = 1.2,
    least_side: int = 1,
    aggregate: Aggregate = "max",
    clip: bool = False,
    side: int = SIDE,
    batch: int = 8,
    scores: bool = False,
    unfound: Callable[[], None] = lambda: None,
) -> Callable[[Tensor], Tensor]:
    """Return a segmenter that runs a network over the proposals of each image.

    Parameters
    ----------
    score : callable
        images (B, 3, side, side) float32 in [0, 1] -> scores before softmax (B, K, side, side), as
        :meth:`upscore.inference.segmenter.NetworkSegmenter.scores` gives them.
    propose : callable
        Guesses the boxes.
    most : int
        How many of the best boxes are used; the paper's 50.
    enlarge : float
        Sides of what is cut over those of the box, as in training; 1 to 10.
    least_side : int
        Boxes of which a side is shorter are passed over and not counted; the release has 112.
    aggregate : {"max", "mean"}
        Greatest score of the boxes over a pixel (eq. 1), or their mean.
    clip : bool
        Count scores below zero as zero, which the release does by taking its maximum with the
        empty canvas.
    side, batch : int
        Height and width at which the network sees a box, and how many boxes at a time.
    scores : bool
        Return the canvas itself, before the softmax.
    unfound : callable, optional
        Called for an image without proposals, which is one box by itself.

    Returns
    -------
    callable
        images (N, 3, H, W) -> probabilities, or scores, (N, K, H, W) float32.

    Raises
    ------
    RecipeError
        A setting is outside its range. When called, the errors of :func:`scores_over_boxes`.
    """
    _check(most=most, least_side=least_side, side=side, batch=batch, aggregate=aggregate, enlarge=enlarge)
    ProposalSettings(max_proposals=most, crop_side=side, batch_size=batch)

    def segment(images: Tensor) -> Tensor:
        canvases = []
        for image in images:
            boxes, found = boxes_for(image, propose, most=most, enlarge=enlarge, least_side=least_side)
            if not found:
                unfound()
            ((_, canvas),) = scores_over_boxes(score, image, boxes, aggregate=aggregate, clip=clip, side=side, batch=batch)
            canvases.append(canvas)
        together = torch.stack(canvases)
        return together if scores else together.softmax(1)

    return segment


def check_canvas(classes: int, height: int, width: int) -> None:
    """Refuse an image whose scores, which proposals need whole, would take too much memory.

    Raises
    ------
    DataError
        It has more than ``MOST_VALUES`` pixels times classes.
    """
    if classes * height * width > MOST_VALUES:
        raise DataError(
            f"found an image of {height}×{width} pixels and {classes} classes, expected at most {MOST_VALUES // classes} pixels "
            "where proposals are put together on the whole image: shrink it, cut it into smaller images, or use --no-proposals"
        )


def boxes_for(image: Tensor, propose: Proposer, *, most: int = 50, enlarge: float = 1.2, least_side: int = 1) -> tuple[Boxes, bool]:
    """Return the boxes that an image (3, H, W) in [0, 1] is cut into, best first, and whether any were found; else it is one itself."""
    pixels = bytes_of(image)
    boxes = enlarge_boxes(choose(propose(pixels), most=most, least_side=least_side), enlarge)
    return (boxes, True) if len(boxes) else (whole_image(*pixels.shape[:2]), False)


def choose(boxes: Boxes, *, most: int, least_side: int = 1) -> Boxes:
    """Return the ``most`` best of the boxes whose sides are both at least ``least_side`` pixels."""
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    return boxes[(sides >= least_side).all(1)].best(most)


def over_boxes(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    boxes: Boxes,
    *,
    aggregate: Aggregate = "max",
    clip: bool = False,
    side: int = SIDE,
    batch: int = 8,
) -> Tensor:
    """Return the probabilities (K, H, W) float32 of one image (3, H, W) from a network over boxes of it.

    Arguments and errors as :func:`scores_over_boxes`.
    """
    ((_, canvas),) = scores_over_boxes(score, image, boxes, aggregate=aggregate, clip=clip, side=side, batch=batch)
    return canvas.softmax(0)


def scores_over_boxes(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    boxes: Boxes,
    *,
    aggregate: Aggregate = "max",
    clip: bool = False,
    side: int = SIDE,
    batch: int = 8,
    at: Sequence[int] = (),
) -> Iterator[tuple[int, Tensor]]:
    """Yield how many boxes are on the canvas, and the canvas (K, H, W) float32: once all are, and before that after each of ``at``.

    Boxes may reach beyond the image (3, H, W), where its pixels are 0, but must meet it. Other
    arguments as :func:`over_proposals`. Each canvas is a copy.

    Raises
    ------
    RecipeError
        There is no box, or one lies outside the image; or a setting is outside its range.
    DataError
        As :func:`check_canvas`.
    """
    _check(side=side, batch=batch, aggregate=aggregate)
    height, width = image.shape[-2:]
    if not len(boxes) or len(boxes.clipped(height, width)) < len(boxes):
        raise RecipeError(f"found {len(boxes)} boxes for an image of {height}×{width}, expected at least one, and none outside of it")
    corners: list[Corners] = [(left, top, right, bottom) for left, top, right, bottom in boxes.corners.tolist()]
    stops = sorted({len(boxes), *(stop for stop in at if 0 < stop <= len(boxes))})
    image = image[None].contiguous(memory_format=torch.channels_last)[0]  # once, and not for each batch
    canvas: Canvas | None = None
    for first in range(0, len(boxes), batch):
        last = min(first + batch, len(boxes))
        maps = score(crop_boxes(image, corners[first:last], side)).float()
        if canvas is None:
            check_canvas(maps.shape[1], height, width)
        canvas = canvas or Canvas(maps.shape[1], height, width, aggregate=aggregate, clip=clip, device=maps.device)
        within = [stop for stop in stops if first < stop <= last]
        for begin, end in pairwise(sorted({first, *within, last})):
            canvas.add(maps[begin - first : end - first], corners[begin:end])
            if end in within:
                yield end, canvas.scores()


def _check(*, aggregate: str, enlarge: float = 1.0, **counts: int) -> None:
    if aggregate not in ("max", "mean"):
        raise RecipeError(f"found aggregate '{aggregate}', expected 'max' or 'mean'")
    if not 1 <= enlarge <= 10:
        raise RecipeError(f"found enlarge {enlarge}, expected 1 to 10")
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or not 1 <= value <= 100_000:
            raise RecipeError(f"found {name} {value}, expected a whole number from 1 to 100000")
