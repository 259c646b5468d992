"""The objects of an image: connected components of its label map, or what a network finds in each of its proposals.

::

    components   image ──► pipeline ──► label map ──► connected components of each class
    proposals    image ──► boxes ──► network, box by box ──► label map of each box ──► components that are the box's object
                                         │                       └─► masks that overlap a better one of their class are removed
                                         └─► canvas ──► pipeline ──► label map, as always

Components take any network. Two objects of one class that touch are one component; proposals can tell them apart, as far as a box holds
one of them and the network labels it alone. The score of an object is the mean over its pixels of the probability of its class.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, calls the second one instance-wise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.errors import RecipeError
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor, Segmentation
from upscore.inference.proposal_aggregation import ProposalSegmenter, boxes_for, check_canvas, scores_over_boxes
from upscore.inference.sinks import LabelMapSink, Sink
from upscore.inference.sources import ImageSource
from upscore.inference.tile_grid import Window
from upscore.objects.detected import DetectedObject, connected_objects, object_classes
from upscore.objects.suppression import suppress
from upscore.ops.box_crop import resize
from upscore.proposals.boxes import Boxes, enlarge_boxes, pairwise_iou

__all__ = [
    "OBJECT_BYTES_A_PIXEL",
    "ConfidenceSink",
    "ObjectSettings",
    "Origin",
    "SegmentedObjects",
    "choose_origin",
    "objects_in_box",
    "segment_objects",
]

Origin: TypeAlias = Literal["components", "proposals"]
"""Where objects come from."""

MIN_BOX_IOU = 0.5
"""Of a proposal and the box of its object: what makes a proposal one of an object in training too (DeconvNet, §6.1)."""

OBJECT_BYTES_A_PIXEL = 9
"""The confidence of an image that is under way, and the numbers of its components."""


@dataclass(frozen=True)
class ObjectSettings:
    """How objects are found; RecipeError where a value is impossible."""

    origin: Origin | None = None  #: where they come from; see :func:`choose_origin`
    min_area: int = 1  #: pixels of the smallest one

    def __post_init__(self) -> None:
        if self.origin not in (None, "components", "proposals"):
            raise RecipeError(f"found objects from '{self.origin}', expected 'components' or 'proposals'")
        if not isinstance(self.min_area, int) or self.min_area < 1:
            raise RecipeError(f"found min_area {self.min_area}, expected a whole number of pixels from 1")


class SegmentedObjects(NamedTuple):
    """What :func:`segment_objects` returns besides what it wrote."""

    objects: list[DetectedObject]  #: best first
    segmentation: Segmentation


class ConfidenceSink(LabelMapSink):
    """The label map, and the probability of each pixel's class, ``confidence`` (H, W) float32."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.confidence: npt.NDArray[np.float32] = np.empty(size, np.float32)

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        self.confidence[window.slices] = self.write_labels(window, probs).cpu().numpy()


def choose_origin(predictor: Predictor, settings: ObjectSettings) -> Origin:
    """Return where the objects come from: as set, or from proposals where the one network uses them, else from components.

    RecipeError where they are to come from proposals, and no network uses any.
    """
    uses = [member.proposals is not None for member in predictor.members]
    if settings.origin == "proposals" and not any(uses):
        raise RecipeError("found objects from proposals, and no network that uses any: give a number of proposals (max_proposals=50)")
    return settings.origin or ("proposals" if uses == [True] else "components")


def segment_objects(
    predictor: Predictor,
    source: ImageSource,
    settings: ObjectSettings,
    sinks: Sequence[Sink] = (),
    *,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentedObjects:
    """Label one image and find its objects; the network runs once.

    From components, they are those of the label map that is written, after tiles, ensemble and CRF. From proposals, they are what the
    first network that uses proposals finds in each; an image without proposals gives components.

    Parameters
    ----------
    predictor : Predictor
        Labels it. Objects are of its classes without background (:func:`upscore.objects.detected.object_classes`).
    source : ImageSource
        The image.
    settings : ObjectSettings
        How objects are found.
    sinks, progress
        As in :meth:`upscore.inference.predictor.Predictor.segment`, whose errors are raised; and that of :func:`choose_origin`.
    """
    classes = object_classes(predictor.labels)
    if choose_origin(predictor, settings) == "proposals":
        index = next(i for i, member in enumerate(predictor.members) if member.proposals is not None)
        if (found := _over_proposals(predictor, index, source, settings, classes)) is not None:
            objects, canvas = found
            return SegmentedObjects(objects, predictor.with_canvas(index, canvas).segment(source, sinks, progress=progress))
    sink = ConfidenceSink(source.size)
    segmentation = predictor.segment(source, [sink, *sinks], progress=progress)
    objects = connected_objects(sink.label_map, sink.confidence, classes=classes, min_area=settings.min_area)
    return SegmentedObjects(objects, segmentation)


def _over_proposals(
    predictor: Predictor, index: int, source: ImageSource, settings: ObjectSettings, classes: Collection[int]
) -> tuple[list[DetectedObject], Tensor] | None:
    """Return the objects of an image, and the network's scores over its proposals (K, H, W); None where there are no proposals."""
    check_canvas(len(predictor.labels), *source.size)
    member = predictor.member(index, name=source.name)
    assert isinstance(member, ProposalSegmenter)
    image = image_to_tensor(source.read(Window(0, 0, *source.size)))
    with torch.inference_mode():
        boxes, any_found = boxes_for(image, member.propose, member.settings, predictor.input)
        if not any_found:
            return None
        objects: list[DetectedObject] = []
        corners = iter(boxes.corners.tolist())

        def score(crops: Tensor) -> Tensor:
            maps = member.inner[0].scores(crops)
            for scores in maps:
                left, top, right, bottom = next(corners)
                box = (left, top, right, bottom)
                objects.extend(
                    objects_in_box(scores, box, source.size, member.settings.enlarge, classes=classes, min_area=settings.min_area)
                )
            return maps

        ((_, canvas),) = scores_over_boxes(score, image, boxes, member.settings)
    return suppress(objects), canvas


def objects_in_box(
    scores: Tensor,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    enlarged: float,
    *,
    classes: Collection[int],
    min_area: int = 1,
) -> Iterator[DetectedObject]:
    """Yield the objects of a proposal: the components of its label map that it was made for.

    A component that the box truncates, that is one that reaches an edge of the box inside the image, belongs to another proposal; so does
    one whose own box overlaps the proposal by an IoU below ``MIN_BOX_IOU``, such as a neighbour at the edge, or a speck.

    Parameters
    ----------
    scores : (K, h, w) tensor
        Of the network, for the box resized.
    box : (int, int, int, int)
        Left, top, right and bottom of the proposal, enlarged; it meets the image.
    size : (int, int)
        Height and width of the image.
    enlarged : float
        Sides of the box over those of the proposal.
    classes : collection of int
        Of which there are objects.
    min_area : int
        Pixels of the smallest object.
    """
    left, top, right, bottom = box
    visible = (max(0, left), max(0, top), min(size[1], right), min(size[0], bottom))
    part = resize(scores.float(), (bottom - top, right - left))
    greatest, label_map = part[:, visible[1] - top : visible[3] - top, visible[0] - left : visible[2] - left].softmax(0).max(0)
    found = connected_objects(
        label_map.to(torch.uint8).cpu().numpy(),
        greatest.cpu().numpy(),
        classes=classes,
        min_area=min_area,
        origin=(visible[1], visible[0]),
        size=size,
    )
    proposal = enlarge_boxes(Boxes([box]), 1 / enlarged)
    for each in found:
        ends = zip(each.box, visible, (0, 0, size[1], size[0]), strict=True)
        is_truncated = any(end == edge != image_edge for end, edge, image_edge in ends)
        if not is_truncated and pairwise_iou(Boxes([each.box]), proposal).item() >= MIN_BOX_IOU:
            yield each
