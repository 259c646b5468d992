"""The result of an evaluation as a value: one confusion matrix, one row of metrics per image.

Metrics come from one matrix over all pixels, never from a mean over images. Rows per image are
there to find the worst ones. Shards of one evaluation merge into the value of a single process.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.finding import Finding
from upscore.data.overlap import shared_images_finding
from upscore.data.truth_checks import refuse_repeated_keys
from upscore.errors import DataError
from upscore.evaluation.hints import Baseline, one_class_baseline
from upscore.metrics import BorderCounts, BorderMetrics, BoundaryF1, BoundaryF1Counts, ConfusionMatrix, SegmentationMetrics
from upscore.metrics.confusion import json_safe
from upscore.settings import InferenceSettings
from upscore.text import listed
from upscore.types import LabelSpace

__all__ = ["Evaluation", "ImageMetrics", "merge_evaluations", "policy_of"]


@dataclass(frozen=True)
class ImageMetrics:
    """The metrics of one image."""

    key: str  #: the sample's
    height: int
    width: int
    pixel_accuracy: float  #: in [0, 1]; nan where every pixel is ignored
    mean_iou: float  #: over the classes in this image's truth or prediction, in [0, 1]; nan likewise
    ignored: float  #: fraction of the pixels whose truth is 255
    digest: str  #: of image and truth, 32 hexadecimal digits
    #: (3, K) pixels that are not ignored: whose truth is each class, that are predicted as it, and that are both
    counts: npt.NDArray[np.int64] = field(compare=False, repr=False)

    @property
    def class_iou(self) -> npt.NDArray[np.float64]:
        """(K,) IoU of each class in this image, in [0, 1]; nan where the class is in neither truth nor prediction."""
        of_truth, predicted, correct = self.counts
        union = of_truth + predicted - correct
        return np.where(union > 0, correct / np.maximum(union, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of a network on a dataset, and how they were obtained."""

    matrix: ConfusionMatrix  #: over all images
    images: tuple[ImageMetrics, ...]  #: in the dataset's order; of a shard, only its own
    labels: LabelSpace  #: the dataset's names and colours
    absent: str  #: "union", "present" or "all": which classes the means are over
    dataset: str
    split: str
    model: str  #: a bundle's path, or the class name of a network in memory
    settings: InferenceSettings | None  #: in force; None where the predictor has none
    seconds: float  #: spent predicting, without reading and counting
    path: str = ""  #: where the dataset was opened; "" for one that was passed as an object
    borders: BorderCounts | None = None  #: the pixels near borders, over all images
    boundary_f1: BoundaryF1Counts | None = None  #: SegNet's BF score over all images, where it was asked for
    before: Evaluation | None = None  #: the network alone on the same images, where a CRF refined its predictions
    image_warnings: dict[str, int] = field(default_factory=dict)
    """Warnings from reading and predicting images, and the number of images each concerns: "no proposals were found: …"."""
    trained_on: tuple[tuple[str, str], ...] = ()
    """Images that the network was trained on, as far as is known: (key, key in the training data, or the same where that is unknown)."""

    @cached_property
    def metrics(self) -> SegmentationMetrics:
        """The metrics of the confusion matrix, overall and per class."""
        return self.matrix.metrics(absent=self.absent)

    @cached_property
    def border_metrics(self) -> BorderMetrics:
        """Boundary IoU and trimap IoU, overall and per class; nan where no borders were counted."""
        return (self.borders or BorderCounts(len(self.labels))).metrics(absent=self.absent)

    @cached_property
    def boundary_f1_metrics(self) -> BoundaryF1 | None:
        """SegNet's BF score, overall and per class; None where it was not asked for."""
        return None if self.boundary_f1 is None else self.boundary_f1.metrics()

    @property
    def policy(self) -> str:
        """Ignored pixels, absent classes and the precision, in a sentence or two; print it with the metrics."""
        return policy_of(self.metrics, precision=None if self.settings is None else self.settings.precision)

    @property
    def warnings(self) -> list[str]:
        """The findings, one line each; print them with the metrics."""
        return [finding.text() for finding in self.findings]

    @property
    def findings(self) -> list[Finding]:
        """What makes the metrics mean less than they seem to."""
        shown = [name for name, pixels in zip(self.labels.names, self.metrics.class_pixels, strict=True) if pixels]
        absent = [name for name in self.labels.names if name not in shown]
        shared = shared_images_finding(self.trained_on, "the network's training data", self.split, len(self.images))
        found = [shared] if shared else []
        if len(shown) == 1:
            what = f"the masks of {self.dataset} {self.split} contain only {shown[0]}: the mean IoU of one class does not measure how well "
            what += "classes are distinguished" + (f"; not measured: {listed(absent, 6)}" if absent else "")
            found.append(Finding("balance.one-class", "warning", "", what))
        elif shown and absent:
            how = {"union": "left out of the mean IoU unless predicted", "present": "left out of the mean IoU", "all": "0 in the mean IoU"}
            what = f"no mask of {self.dataset} {self.split} contains {listed(absent, 6)}: not measured, and {how[self.absent]}"
            found.append(Finding("balance.class-not-shown", "warning", "", what))
        return found

    @cached_property
    def baseline(self) -> Baseline | None:
        """The metrics of labelling every pixel as the truth's most frequent class; None where every pixel is ignored."""
        pixels = dict(zip(self.labels.names, self.metrics.class_pixels.tolist(), strict=True))
        return one_class_baseline(pixels, absent=self.absent)

    @property
    def fingerprint(self) -> str:
        """A digest of every key, image and truth, whatever their order."""
        lines = sorted(f"{image.key}\0{image.digest}" for image in self.images)
        return hashlib.blake2b("\n".join([*self.labels.names, "", *lines]).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def ranked(self) -> list[ImageMetrics]:
        """Return the images from the lowest mean IoU to the highest, without those that are ignored entirely."""
        evaluated = [image for image in self.images if not math.isnan(image.mean_iou)]
        return sorted(evaluated, key=lambda image: (image.mean_iou, image.pixel_accuracy, image.key))

    @property
    def totals(self) -> dict[str, float]:
        """The metrics over all classes, in [0, 1] or nan, by the names that are printed."""
        return {
            "mean IoU": self.metrics.mean_iou,
            "pixel accuracy": self.metrics.pixel_accuracy,
            "mean accuracy": self.metrics.mean_accuracy,
            "frequency-weighted IoU": self.metrics.frequency_weighted_iou,
            "mean precision": self.metrics.mean_precision,
            "mean recall": self.metrics.mean_recall,
            "mean F1": self.metrics.mean_f1,
            "boundary IoU": self.border_metrics.boundary_iou,
            "trimap IoU": self.border_metrics.trimap_iou,
        } | ({} if self.boundary_f1_metrics is None else {"BF score": self.boundary_f1_metrics.mean})

    def gains(self) -> list[tuple[ImageMetrics, ImageMetrics]]:
        """Return (before, after) of every image, from the greatest gain of mean IoU by the CRF to the greatest loss."""
        if self.before is None:
            return []
        pairs = [pair for pair in zip(self.before.images, self.images, strict=True) if not math.isnan(pair[1].mean_iou)]
        return sorted(pairs, key=lambda pair: (pair[0].mean_iou - pair[1].mean_iou, pair[0].pixel_accuracy - pair[1].pixel_accuracy))

    def numbers(self) -> dict[str, Any]:
        """Return the metrics as JSON-safe values, overall and per class, with ``borders``, and with a CRF the same ``before``."""
        numbers = self.metrics.as_dict(self.labels) | {
            "policy": self.policy,
            "borders": self.border_metrics.as_dict(self.labels),
            "boundary_f1": None if self.boundary_f1_metrics is None else self.boundary_f1_metrics.as_dict(self.labels),
            "baseline": None if self.baseline is None else self.baseline._asdict(),
            "warnings": self.warnings,
            "trained_on": [key for key, _ in self.trained_on],
        }
        return numbers if self.before is None else numbers | {"before": self.before.numbers()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values; nan as None."""
        return {
            "model": self.model,
            "dataset": {"name": self.dataset, "split": self.split, "path": self.path}
            | {"images": len(self.images), "fingerprint": self.fingerprint},
            "settings": {} if self.settings is None else self.settings.model_dump(mode="json"),
            "metrics": self.metrics.as_dict(self.labels) | {"policy": self.policy},
            "borders": self.border_metrics.as_dict(self.labels),
            "boundary_f1": None if self.boundary_f1_metrics is None else self.boundary_f1_metrics.as_dict(self.labels),
            "baseline": None if self.baseline is None else self.baseline._asdict(),
            "before": None if self.before is None else self.before.as_dict(),
            "confusion": self.matrix.counts.tolist(),
            "labels": {"names": list(self.labels.names), "palette": [list(colour) for colour in self.labels.palette]},
            "warnings": self.warnings,
            "trained_on": [key for key, _ in self.trained_on],
            "image_warnings": self.image_warnings,
            "seconds": self.seconds,
            "images": [
                {
                    "key": image.key,
                    "size": [image.height, image.width],
                    "pixel_accuracy": json_safe(image.pixel_accuracy),
                    "mean_iou": json_safe(image.mean_iou),
                    "class_iou": [json_safe(float(iou)) for iou in image.class_iou],
                    "ignored": image.ignored,
                    "digest": image.digest,
                }
                for image in self.images
            ],
        }


def policy_of(metrics: SegmentationMetrics, *, precision: str | None) -> str:
    """Return the policy of the metrics, and the precision in which the network computed, where that is known."""
    return metrics.policy if precision is None else f"{metrics.policy} The network computed in {precision}."


def merge_evaluations(shards: Iterable[Evaluation]) -> Evaluation:
    """Merge the shards of one evaluation; the result is that of a single process.

    The shards are in the order of their ranks, so that the images are in the dataset's order again; metrics and fingerprint do not depend
    on it. Raises DataError where there is none, they are not of one dataset, or an image is in two of them.
    """
    parts = list(shards)
    if not parts:
        raise DataError("found no evaluation to merge, expected at least one")
    first = parts[0]
    matrix = ConfusionMatrix(len(first.labels))
    borders = BorderCounts(len(first.labels)) if first.borders is not None else None
    boundary_f1 = BoundaryF1Counts(len(first.labels), tolerance=first.boundary_f1.tolerance) if first.boundary_f1 is not None else None
    for part in parts:
        if part.labels.difference(first.labels) or (part.dataset, part.split, part.absent) != (first.dataset, first.split, first.absent):
            raise DataError(
                f"cannot merge evaluations of {first.dataset} {first.split} and {part.dataset} {part.split}: expected one dataset"
            )
        if len({(each.borders is None, each.boundary_f1 is None, each.before is None) for each in (part, first)}) > 1:
            raise DataError("cannot merge evaluations with and without borders, a BF score or a CRF: expected shards of one evaluation")
        matrix += part.matrix
        if borders is not None and part.borders is not None:
            borders += part.borders
        if boundary_f1 is not None and part.boundary_f1 is not None:
            boundary_f1 += part.boundary_f1
    refuse_repeated_keys([image.key for part in parts for image in part.images], first.dataset)
    return replace(
        first,
        matrix=matrix,
        # Rank r holds images r, r + world, …: taking one image of each rank in turn restores the dataset's order.
        images=tuple(part.images[i] for i in range(max(len(part.images) for part in parts)) for part in parts if i < len(part.images)),
        seconds=sum(part.seconds for part in parts),
        borders=borders,
        boundary_f1=boundary_f1,
        before=merge_evaluations([part.before for part in parts if part.before is not None]) if first.before is not None else None,
        trained_on=tuple(pair for part in parts for pair in part.trained_on),
        image_warnings=dict(sum((Counter(part.image_warnings) for part in parts), Counter())),
    )
