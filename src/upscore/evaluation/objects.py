"""The objects that a predictor finds in a dataset against its instance masks, in the pass that evaluates its label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.object_crops import find_objects
from upscore.evaluation.average_precision import ObjectCounts
from upscore.inference.object_detection import ConfidenceSink, ObjectSettings, choose_origin, segment_objects
from upscore.inference.predictor import Predictor
from upscore.inference.sinks import Sink
from upscore.inference.sources import ArraySource
from upscore.objects.detected import DetectedObject, connected_objects, object_classes
from upscore.objects.suppression import common_pixels
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["ObjectEvaluation", "true_objects"]


class ObjectEvaluation:
    """Counts the objects of images while :func:`upscore.evaluation.evaluate.evaluate` evaluates them.

    Its arguments ``sinks`` and ``show`` are :meth:`sinks` and :meth:`add`. Objects from proposals need one more pass of the network over
    each image. Ignored pixels belong to no object, true or found, and one that has no other pixels is left out.

    Attributes
    ----------
    counts : ObjectCounts
        The objects so far.
    merged : int
        True objects that are for more than half inside a found one of their class, together with another true one: what
        connected components do to objects that touch.
    origin : str
        Where the objects come from, "components" or "proposals".
    """

    def __init__(self, predictor: Predictor, settings: ObjectSettings) -> None:
        self.predictor = predictor
        self.origin = choose_origin(predictor, settings)
        self.settings = replace(settings, origin=self.origin)
        self.counts = ObjectCounts(predictor.labels)
        self.merged = 0
        self._sink = ConfidenceSink((0, 0))

    def sinks(self, sample: Sample) -> Sequence[Sink]:
        """Return what takes the probabilities of a sample that is predicted next."""
        if self.origin == "proposals":
            return ()
        self._sink = ConfidenceSink((sample.image.shape[0], sample.image.shape[1]))
        return (self._sink,)

    def add(self, sample: Sample) -> None:
        """Count the objects of the sample that was predicted last; DataError where it has no instance mask."""
        if self.origin == "proposals":
            source = ArraySource(sample.image, sample.key, spec=self.predictor.input)
            found = segment_objects(self.predictor, source, self.settings).objects
        else:
            sink, classes = self._sink, object_classes(self.predictor.labels)
            found = connected_objects(sink.label_map, sink.confidence, classes=classes, min_area=self.settings.min_area)
        assert sample.label is not None
        ignored = sample.label == IGNORE
        true = _without(true_objects(sample, self.predictor.labels), ignored)
        found = _without(found, ignored)
        self.counts.add(true, found)
        self.merged += _count_merged(true, found)

    def as_dict(self) -> dict[str, Any]:
        """Return how objects were found, their number and their average precision as JSON-safe values."""
        return {"origin": self.origin, "min_area": self.settings.min_area, "merged": self.merged, **self.counts.as_dict()}


def true_objects(sample: Sample, labels: LabelSpace) -> list[DetectedObject]:
    """Return the objects of a sample's instance mask, with a score of 1, but those of background.

    DataError as :func:`upscore.data.object_crops.find_objects`.
    """
    objects, classes = find_objects(sample, labels), object_classes(labels)
    assert sample.instances is not None
    height, width = sample.instances.shape
    return [
        DetectedObject(label_class, 1.0, sample.instances[top:bottom, left:right] == number, left, top, (height, width))
        for number, label_class, (left, top, right, bottom) in zip(
            objects.numbers.tolist(), objects.classes.tolist(), objects.boxes.corners.tolist(), strict=True
        )
        if label_class in classes
    ]


def _without(objects: Sequence[DetectedObject], ignored: npt.NDArray[np.bool_]) -> list[DetectedObject]:
    rest = []
    for each in objects:
        left, top, right, bottom = each.box
        mask = each.mask & ~ignored[top:bottom, left:right]
        if mask.any():
            rest.append(replace(each, mask=mask))
    return rest


def _count_merged(true: Sequence[DetectedObject], found: Sequence[DetectedObject]) -> int:
    merged: set[int] = set()
    for each in found:
        inside = [i for i, one in enumerate(true) if one.label_class == each.label_class and 2 * common_pixels(one, each) > one.area]
        merged |= set(inside) if len(inside) > 1 else set()
    return len(merged)
