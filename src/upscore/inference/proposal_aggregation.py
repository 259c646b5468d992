"""An image labelled by its object proposals: a network over many crops of it, its score maps aggregated.

::

    image ──propose──► boxes ──crop, resize──► (B, 3, side, side) ──network──► scores
                                                                                  │ resize to the box
    probs ◄──softmax── canvas (K, H, W) ◄──maximum, mean or sum, by pixel─────────┘

Scores are aggregated before the softmax, as in DeconvNet: a crop whose scores are high
outvotes one whose scores are low. The canvas begins at zero and stays so where no box lies: every
class is equally probable there, and of equals the first, the background, is predicted.
Memory is that of the canvas and one batch, however many boxes there are.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, §5.1, eq. 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.inference.image_tensors import tensor_to_images
from upscore.inference.segmenter import Segmenter, SegmenterWrapper
from upscore.input_spec import RGB, InputSpec
from upscore.ops.box_crop import Canvas, Corners, crop_boxes
from upscore.proposals.boxes import Boxes, enlarge_boxes, whole_image
from upscore.proposals.proposers import Proposer
from upscore.settings import ProposalSettings

__all__ = ["MAX_CANVAS_VALUES", "ProposalSegmenter", "boxes_for", "check_canvas", "over_boxes", "scores_over_boxes"]

MAX_CANVAS_VALUES = 2**28
"""Classes times pixels of an image whose boxes are aggregated: 12.8 megapixels of 21 classes, in some 4 GB."""

DEFAULTS = ProposalSettings()


class ProposalSegmenter(SegmenterWrapper):
    """A segmenter that runs another over the proposals of each image; its scores are the canvas.

    Parameters
    ----------
    segmenter : Segmenter
        Its scores (B, K, side, side) of crops (B, C, side, side) float32 are aggregated.
    propose : callable
        Finds the boxes of an image (H, W, 3) uint8.
    settings : ProposalSettings
        How many boxes, how they are cropped, and how their scores are aggregated.
    spec : InputSpec
        The bands of the images; boxes are found on them as they are displayed.
    on_no_proposals : callable, optional
        Called for an image without proposals, which is then one box itself.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        propose: Proposer,
        settings: ProposalSettings = DEFAULTS,
        *,
        spec: InputSpec = RGB,
        on_no_proposals: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(segmenter)
        self.propose, self.settings, self.spec, self.on_no_proposals = propose, settings, spec, on_no_proposals

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, C, H, W) float32."""
        return self.scores(images).softmax(1)

    def scores(self, images: Tensor) -> Tensor:
        """Return the canvases (N, K, H, W) float32 of images (N, C, H, W) float32; DataError as :func:`check_canvas`."""
        canvases = []
        for image in images:
            boxes, found = boxes_for(image, self.propose, self.settings, self.spec)
            if not found:
                self.on_no_proposals()
            ((_, canvas),) = self.grow(image, boxes)
            canvases.append(canvas)
        return torch.stack(canvases)

    def grow(self, image: Tensor, boxes: Boxes, *, at: Sequence[int] = ()) -> Iterator[tuple[int, Tensor]]:
        """Yield the canvas of an image (C, H, W) after all ``boxes``, and before that after each number of ``at``."""
        return scores_over_boxes(self.inner[0].scores, image, boxes, self.settings, at=at)


def check_canvas(classes: int, height: int, width: int) -> None:
    """Raise a DataError for an image whose scores, which proposals need whole, are more than ``MAX_CANVAS_VALUES``."""
    if classes * height * width > MAX_CANVAS_VALUES:
        raise DataError(
            f"found an image of {height}×{width} pixels and {classes} classes, expected at most {MAX_CANVAS_VALUES // classes} pixels "
            "where proposals are aggregated on the whole image: shrink it, divide it into smaller images, or use --no-proposals"
        )


def boxes_for(image: Tensor, propose: Proposer, settings: ProposalSettings = DEFAULTS, spec: InputSpec = RGB) -> tuple[Boxes, bool]:
    """Return the boxes by which an image (C, H, W) is labelled, best first, and whether any were found; else it is one itself."""
    pixels = spec.display(tensor_to_images(image, spec))
    boxes = enlarge_boxes(propose(pixels), settings.enlarge)
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]  # with what reaches beyond the image, as the release measures them
    best = boxes[(sides >= settings.min_size).all(1)].best(settings.max_proposals)
    return (best, True) if len(best) else (whole_image(*pixels.shape[:2]), False)


def over_boxes(score: Callable[[Tensor], Tensor], image: Tensor, boxes: Boxes, settings: ProposalSettings = DEFAULTS) -> Tensor:
    """Return the probabilities (K, H, W) float32 of one image (C, H, W) from a network over boxes of it, as :func:`scores_over_boxes`."""
    ((_, canvas),) = scores_over_boxes(score, image, boxes, settings)
    return canvas.softmax(0)


def scores_over_boxes(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    boxes: Boxes,
    settings: ProposalSettings = DEFAULTS,
    *,
    at: Sequence[int] = (),
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of boxes on the canvas, and the canvas (K, H, W) float32: after all boxes, and before that after each of ``at``.

    Each canvas is a copy.

    Parameters
    ----------
    score : callable
        images (B, C, side, side) float32 -> scores before softmax (B, K, side, side), as
        :meth:`upscore.inference.segmenter.Segmenter.scores` gives them.
    image : (C, H, W) tensor
        Of what the network takes.
    boxes : Boxes
        They may reach beyond the image, where its pixels are 0, but must meet it. All are used.
    settings : ProposalSettings
        ``aggregate``, ``clip``, ``crop_side`` and ``batch_size``.
    at : sequence of int
        Numbers of boxes.

    Raises
    ------
    RecipeError, DataError
        There is no box, or one lies outside the image; or as :func:`check_canvas`.
    """
    height, width = image.shape[-2:]
    if not len(boxes) or len(boxes.clipped(height, width)) < len(boxes):
        raise RecipeError(f"found {len(boxes)} boxes for an image of {height}×{width}, expected at least one, and none outside of it")
    corners: list[Corners] = [(left, top, right, bottom) for left, top, right, bottom in boxes.corners.tolist()]
    stops = sorted({len(boxes), *(stop for stop in at if 0 < stop <= len(boxes))})
    image = image[None].contiguous(memory_format=torch.channels_last)[0]  # once, and not for each batch
    canvas: Canvas | None = None
    for first in range(0, len(boxes), settings.batch_size):
        last = min(first + settings.batch_size, len(boxes))
        maps = score(crop_boxes(image, corners[first:last], settings.crop_side)).float()
        if canvas is None:
            check_canvas(maps.shape[1], height, width)
            canvas = Canvas(maps.shape[1], height, width, aggregate=settings.aggregate, clip=settings.clip, device=maps.device)
        within = [stop for stop in stops if first < stop <= last]
        for begin, end in pairwise(sorted({first, *within, last})):
            canvas.add(maps[begin - first : end - first], corners[begin:end])
            if end in within:
                yield end, canvas.scores()
