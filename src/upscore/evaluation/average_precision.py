"""COCO's average precision of objects, by boxes and by masks, computed by pycocotools.

A found object is right if its intersection over union with a true one of its class reaches a threshold and no better scored one has taken
that. Precision is averaged over 101 values of recall, over classes, and over the thresholds .50, .55, …, .95 (Lin et al. 2014,
"Microsoft COCO"; https://cocodataset.org/#detection-eval). At most the 100 best objects of each class in an image count.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from upscore.errors import UpscoreError
from upscore.metrics.confusion import json_safe
from upscore.objects.detected import DetectedObject, object_classes
from upscore.types import LabelSpace

__all__ = ["AveragePrecision", "ObjectCounts", "check_pycocotools"]


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision, from 0 to 1; nan where there is no true object to find."""

    ap: float  #: mean over the IoU thresholds from .50 to .95
    ap50: float  #: at an IoU of .50
    ap75: float  #: at .75
    small: float  #: of objects below 32×32 pixels
    medium: float  #: of those up to 96×96
    large: float  #: of larger ones
    recall: float  #: mean over the thresholds of the greatest recall
    classes: dict[str, float]  #: ``ap`` of each class

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON-safe ones; nan as None."""
        values = asdict(self)
        classes = values.pop("classes")
        return {**{name: json_safe(value) for name, value in values.items()}, "classes": {n: json_safe(v) for n, v in classes.items()}}


def check_pycocotools() -> None:
    """Raise an UpscoreError where pycocotools is not installed."""
    if find_spec("pycocotools") is None:
        raise UpscoreError("average precision of objects: pycocotools is not installed; pip install 'upscore[coco]'")


class ObjectCounts:
    """The true and the found objects of images, as run lengths: memory does not grow with their pixels.

    >>> labels = LabelSpace(("background", "car"))
    >>> car = DetectedObject(1, 0.9, np.ones((4, 4), bool), 0, 0, (8, 8))
    >>> counts = ObjectCounts(labels)
    >>> counts.add([car], [car])
    >>> round(counts.average_precision("masks").ap, 6)
    1.0
    """

    def __init__(self, labels: LabelSpace) -> None:
        check_pycocotools()
        self.labels, self.classes = labels, object_classes(labels)
        self.images = 0
        self.true: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def add(self, true: Sequence[DetectedObject], found: Sequence[DetectedObject]) -> None:
        """Count the objects of one image."""
        self.images += 1
        for of, objects in ((self.true, true), (self.found, found)):
            for each in objects:
                of.append(_record(each, len(of) + 1, self.images))

    def average_precision(self, of: Literal["boxes", "masks"]) -> AveragePrecision:
        """Return the average precision of all images added so far."""
        present = {each["category_id"] for each in self.true}
        if not self.true or not self.found:  # pycocotools takes no empty results
            nothing = 0.0 if self.true else math.nan
            classes = {self.labels.names[k]: 0.0 if k in present else math.nan for k in self.classes}
            return AveragePrecision(nothing, nothing, nothing, math.nan, math.nan, math.nan, nothing, classes)
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints its progress
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2, about its arrays
            truth = COCO()
            sizes = {each["image_id"]: each["segmentation"]["size"] for each in (*self.true, *self.found)}
            images = [{"id": image, "height": height, "width": width} for image, (height, width) in sizes.items()]
            categories = [{"id": k, "name": self.labels.names[k]} for k in self.classes]
            truth.dataset = {"info": {}, "images": images, "annotations": [dict(each) for each in self.true], "categories": categories}
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes([dict(each) for each in self.found]), "bbox" if of == "boxes" else "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        totals = [math.nan if value < 0 else float(value) for value in evaluation.stats]
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes; of all sizes, of the 100 best
        per_class = {self.labels.names[k]: _mean(precision[:, :, index]) for index, k in enumerate(sorted(self.classes))}
        ap, ap50, ap75, small, medium, large, _, _, recall, *_ = totals
        return AveragePrecision(ap, ap50, ap75, small, medium, large, recall, per_class)

    def as_dict(self) -> dict[str, Any]:
        """Return the number of objects and their average precision as JSON-safe values; nan as None."""
        counts = {"images": self.images, "true": len(self.true), "found": len(self.found)}
        return {**counts, "boxes": self.average_precision("boxes").as_dict(), "masks": self.average_precision("masks").as_dict()}


def _record(each: DetectedObject, number: int, image: int) -> dict[str, Any]:
    left, top, right, bottom = each.box
    return {
        "id": number,
        "image_id": image,
        "category_id": each.label_class,
        "score": each.score,
        "bbox": [left, top, right - left, bottom - top],
        "area": each.area,
        "iscrowd": 0,
        "segmentation": {"size": list(each.size), "counts": each.rle()},
    }


def _mean(values: Any) -> float:
    known = values[values >= 0]
    return float(np.mean(known)) if known.size else math.nan
