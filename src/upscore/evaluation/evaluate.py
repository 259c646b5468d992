"""A predictor against a dataset: one confusion matrix, one row per image.

The truth is never resized, every image is counted exactly once, and the metrics come
from one matrix over all pixels, never from a mean over images. Rows per image are
there to find the worst ones.

Pixels near borders are counted too (:class:`upscore.metrics.BorderCounts`). Of a predictor with
a CRF, the network alone is evaluated in the same pass: every number exists before and after.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import identify, shared_images, tell_shared
from upscore.errors import BundleError, DataError
from upscore.inference.predictor import Predictor
from upscore.metrics import BorderCounts, BorderMetrics, ConfusionMatrix, SegmentationMetrics
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import InferenceSettings
from upscore.text import listed
from upscore.types import LabelSpace, Prediction, Sample

__all__ = ["Evaluation", "ImageMetrics", "Labeller", "checked_dataset", "checked_truth", "evaluate", "labelled", "merge", "policy_of"]


class Labeller(Protocol):
    """What is evaluated: a Predictor, or anything else that labels images."""

    @property
    def labels(self) -> LabelSpace:
        """What the numbers of its label maps mean."""
        ...

    def predict(self, image: npt.NDArray[np.uint8], /) -> Prediction:
        """Label (H, W, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class ImageMetrics:
    """How one image was labelled.

    Parameters
    ----------
    key : str
        The sample's.
    height, width : int
        Its size in pixels.
    pixel_accuracy : float in [0, 1]
        nan where every pixel is ignored.
    mean_iou : float in [0, 1]
        Over the classes in this image's truth or prediction; nan likewise.
    ignored : float in [0, 1]
        Share of the pixels whose truth is 255.
    digest : str
        Of image and truth, 32 hexadecimal digits.
    """

    key: str
    height: int
    width: int
    pixel_accuracy: float
    mean_iou: float
    ignored: float
    digest: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The evaluation, and what was evaluated.

    Parameters
    ----------
    matrix : ConfusionMatrix
        Over all images.
    images : sequence of ImageMetrics
        In the dataset's order; of a shard, only its own.
    labels : LabelSpace
        The dataset's names and colours.
    absent : {"union", "present", "all"}
        Which classes the means are over.
    dataset, split : str
        What was evaluated on.
    model : str
        What was evaluated: a bundle's path, or the name of a live model's class.
    settings : InferenceSettings, optional
        In force; None where the labeller has none.
    seconds : float
        Spent predicting; reading and counting are left out.
    path : str
        Where the dataset was opened; "" for one that was passed as an object.
    borders : BorderCounts, optional
        The pixels near borders, over all images.
    before : Evaluation, optional
        The network alone on the same images, where a CRF had the last word.
    noted : dict of str to int
        What should be known of how images were read and labelled, and of how many: "no proposals were found: …".
    overlap : str
        Which of the images the network was trained on, as a sentence; "" if none is known to be.
    """

    matrix: ConfusionMatrix
    images: tuple[ImageMetrics, ...]
    labels: LabelSpace
    absent: str
    dataset: str
    split: str
    model: str
    settings: InferenceSettings | None
    seconds: float
    path: str = ""
    borders: BorderCounts | None = None
    before: Evaluation | None = None
    noted: dict[str, int] = field(default_factory=dict)
    overlap: str = ""

    @cached_property
    def metrics(self) -> SegmentationMetrics:
        """The four metrics, overall and per class."""
        return self.matrix.metrics(absent=self.absent)

    @cached_property
    def border_metrics(self) -> BorderMetrics:
        """Boundary IoU and trimap IoU, overall and per class; nan where no borders were counted."""
        return (self.borders or BorderCounts(len(self.labels))).metrics(absent=self.absent)

    @property
    def policy(self) -> str:
        """Ignored pixels, absent classes and the precision, in a sentence or two; print it with the metrics."""
        return policy_of(self.metrics, precision=None if self.settings is None else self.settings.precision)

    @property
    def warnings(self) -> list[str]:
        """What makes the metrics mean less than they seem to, each one line; print it with the metrics."""
        shown = [name for name, pixels in zip(self.labels.names, self.metrics.class_pixels, strict=True) if pixels]
        absent = [name for name in self.labels.names if name not in shown]
        found = [self.overlap] if self.overlap else []
        if len(shown) == 1:
            found.append(
                f"the masks of {self.dataset} {self.split} show {shown[0]} alone: the mean IoU of one class says nothing of how well "
                "classes are told apart" + (f", and nothing of {listed(absent, 6)}" if absent else "")
            )
        elif shown and absent:
            how = {"union": "left out of the mean IoU unless predicted", "present": "left out of the mean IoU", "all": "0 in the mean IoU"}
            found.append(f"no mask of {self.dataset} {self.split} shows {listed(absent, 6)}: not measured, and {how[self.absent]}")
        return found

    @property
    def fingerprint(self) -> str:
        """Which data this was: a digest of every key, image and truth, whatever their order."""
        lines = sorted(f"{image.key}\0{image.digest}" for image in self.images)
        return hashlib.blake2b("\n".join([*self.labels.names, "", *lines]).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def ranked(self) -> list[ImageMetrics]:
        """Return the images from the lowest mean IoU to the highest; those that are ignored altogether are left out."""
        evaluated = [image for image in self.images if not math.isnan(image.mean_iou)]
        return sorted(evaluated, key=lambda image: (image.mean_iou, image.pixel_accuracy, image.key))

    @property
    def totals(self) -> dict[str, float]:
        """The four metrics and the two of borders, in [0, 1] or nan, by the names people read."""
        return {
            "mean IoU": self.metrics.mean_iou,
            "pixel accuracy": self.metrics.pixel_accuracy,
            "mean accuracy": self.metrics.mean_accuracy,
            "frequency-weighted IoU": self.metrics.frequency_weighted_iou,
            "boundary IoU": self.border_metrics.boundary_iou,
            "trimap IoU": self.border_metrics.trimap_iou,
        }

    def gains(self) -> list[tuple[ImageMetrics, ImageMetrics]]:
        """Return (before, after) of every image that the CRF was evaluated on, from the greatest gain of mean IoU to the greatest loss."""
        if self.before is None:
            return []
        pairs = [pair for pair in zip(self.before.images, self.images, strict=True) if not math.isnan(pair[1].mean_iou)]
        return sorted(pairs, key=lambda pair: (pair[0].mean_iou - pair[1].mean_iou, pair[0].pixel_accuracy - pair[1].pixel_accuracy))

    def numbers(self) -> dict[str, Any]:
        """Return the metrics as JSON-safe values: the four and those per class, ``borders``, and with a CRF the same ``before``."""
        numbers = self.metrics.as_dict(self.labels) | {
            "policy": self.policy,
            "borders": self.border_metrics.as_dict(self.labels),
            "warnings": self.warnings,
        }
        return numbers if self.before is None else numbers | {"before": self.before.numbers()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values; nan as None."""
        return {
            "model": self.model,
            "dataset": {
                "name": self.dataset,
                "split": self.split,
                "path": self.path,
                "images": len(self.images),
                "fingerprint": self.fingerprint,
            },
            "settings": {} if self.settings is None else self.settings.model_dump(mode="json"),
            "metrics": self.metrics.as_dict(self.labels) | {"policy": self.policy},
            "borders": self.border_metrics.as_dict(self.labels),
            "before": None if self.before is None else self.before.as_dict(),
            "confusion": self.matrix.counts.tolist(),
            "labels": {"names": list(self.labels.names), "palette": [list(colour) for colour in self.labels.palette]},
            "noted": self.noted,
            "warnings": self.warnings,
            "seconds": self.seconds,
            "images": [
                {
                    "key": image.key,
                    "size": [image.height, image.width],
                    "pixel_accuracy": None if math.isnan(image.pixel_accuracy) else image.pixel_accuracy,
                    "mean_iou": None if math.isnan(image.mean_iou) else image.mean_iou,
                    "ignored": image.ignored,
                    "digest": image.digest,
                }
                for image in self.images
            ],
        }


def policy_of(metrics: SegmentationMetrics, *, precision: str | None) -> str:
    """Return the metrics' own policy, and in which precision the network computed; None where that is not known."""
    return metrics.policy if precision is None else f"{metrics.policy} The network computed in {precision}."


def evaluate(
    predictor: Labeller | Bundle | Ensemble | str | os.PathLike[str],
    dataset: Dataset | str | os.PathLike[str],
    *,
    split: str = "val",
    absent: str = "union",
    progress: Callable[[int, int], None] | None = None,
    shard: tuple[int, int] = (0, 1),
    path: str = "",
) -> Evaluation:
    """Evaluate a network on a dataset.

    Parameters
    ----------
    predictor : Predictor, Bundle, Ensemble, path, or anything with ``labels`` and ``predict``
        A bundle is opened with its own inference settings on the best device.
    dataset : Dataset or path
        A path is opened by :func:`upscore.data.open_dataset.open_dataset`.
    split : str
        Which part of a path's dataset; a Dataset is taken as it is.
    absent : {"union", "present", "all"}
        Which classes the means are over: those in truth or prediction, those in the
        truth, or all of them.
    progress : callable, optional
        Called with (images done, images in all) of this shard after each image.
    shard : (int, int)
        (rank, world): evaluate the images rank, rank + world, …; put together with :func:`merge`.
    path : str
        Where a Dataset was opened; its other splits are looked at for images that the network was trained on.

    Returns
    -------
    Evaluation
        With ``before`` where the predictor's settings have a CRF; the network then runs once for both.

    Raises
    ------
    DataError
        Keys are repeated, an image has no truth or one of another size, the truth holds
        a label that is no class, or there is no image at all.
    BundleError
        The network's classes are not the dataset's, or it returns another size.
    """
    labeller: Labeller = Predictor(predictor) if isinstance(predictor, (Bundle, Ensemble, str, os.PathLike)) else predictor
    images = open_dataset(dataset, split) if isinstance(dataset, (str, os.PathLike)) else dataset
    checked_dataset(images, labeller.labels)
    rank, world = shard
    if not 0 <= rank < world:
        raise DataError(f"found shard {rank} of {world}, expected a rank from 0 to {world - 1}")
    mine = range(rank, len(images), world)
    after, before = _Tally(images.labels), _Tally(images.labels)
    refines = isinstance(labeller, Predictor) and labeller.settings.uses_crf
    # The policy is checked before the work, not after it.
    after.matrix.metrics(absent=absent)
    for done, index in enumerate(mine, start=1):
        sample = images[index]
        truth = checked_truth(sample)
        began = time.perf_counter()
        if isinstance(labeller, Predictor) and refines:
            compared = labeller.compare(sample.image, name=sample.key)
            after.seconds += time.perf_counter() - began
            before.seconds += time.perf_counter() - began - compared.seconds
            before.add(sample, truth, compared.before)
            after.add(sample, truth, compared.after)
        else:
            predicted = labelled(labeller, sample)
            after.seconds += time.perf_counter() - began
            after.add(sample, truth, predicted)
        if progress is not None:
            progress(done, len(mine))
    path = os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else path
    alone = before.evaluation(labeller, images, absent, path) if refines else None
    if alone is not None and alone.settings is not None:
        alone = replace(alone, settings=alone.settings.model_copy(update={"crf": None}))
    overlap = _overlap(labeller.cards, images, path) if isinstance(labeller, Predictor) else ""
    return replace(after.evaluation(labeller, images, absent, path, before=alone), overlap=overlap)


def _overlap(cards: Iterable[Mapping[str, Any]], images: Dataset, path: str) -> str:
    """Say which of the images a network was trained on, as far as its card and the dataset's own splits tell."""
    identity = ""
    for card in cards:
        data = card.get("data")
        known, split = (data.get("identity"), data.get("split")) if isinstance(data, dict) else (None, None)
        if not isinstance(known, str) or not isinstance(split, str):  # a network of an earlier version, or from elsewhere
            continue
        identity = identity or identify(images)
        if identity == known:
            return tell_shared([(key, key) for key in images.keys], "the network's training data", images.split, len(images))
        if path:
            with contextlib.suppress(DataError):  # the dataset has no such split: it is not the one that was trained on
                trained = open_dataset(path, split)
                if identify(trained) == known and (shared := shared_images(trained, images)):
                    return tell_shared(shared, "the network's training data", images.split, len(images))
    return ""


def labelled(labeller: Labeller, sample: Sample) -> Prediction:
    """Return what a labeller makes of a sample's image; a predictor is also told its name, by which it may have boxes."""
    return labeller.predict(sample.image, name=sample.key) if isinstance(labeller, Predictor) else labeller.predict(sample.image)


class _Tally:
    """What is counted as images go by."""

    def __init__(self, labels: LabelSpace) -> None:
        self.matrix, self.borders = ConfusionMatrix(len(labels)), BorderCounts(len(labels))
        self.rows: list[ImageMetrics] = []
        self.notes: Counter[str] = Counter()
        self.seconds = 0.0

    def add(self, sample: Sample, truth: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Count one image."""
        predicted = prediction.label_map
        self.notes.update((*sample.warnings, *prediction.warnings))
        if predicted.shape != truth.shape:
            raise BundleError(f"{sample.key}: the network labels {predicted.shape} pixels of a {truth.shape} image, expected the same size")
        one = ConfusionMatrix(self.matrix.num_classes)
        try:
            one.add(truth, predicted)
        except DataError as error:
            raise DataError(f"{sample.key}: {error}") from None
        self.matrix += one
        self.borders.add(truth, predicted)
        self.rows.append(_score(sample, truth, one))

    def evaluation(self, labeller: Labeller, images: Dataset, absent: str, path: str, *, before: Evaluation | None = None) -> Evaluation:
        """Return the evaluation."""
        return Evaluation(
            self.matrix,
            tuple(self.rows),
            images.labels,
            absent,
            images.name,
            images.split,
            model=str(getattr(labeller, "source", type(labeller).__name__)),
            settings=getattr(labeller, "settings", None),
            seconds=self.seconds,
            path=path,
            borders=self.borders,
            before=before,
            noted=dict(self.notes),
        )


def merge(shards: Iterable[Evaluation]) -> Evaluation:
    """Put the shards of one evaluation together; the result is that of one process.

    Parameters
    ----------
    shards : iterable of Evaluation
        In the order of their ranks, so that the images are again in the dataset's order.
        Scores and fingerprint do not depend on it.

    Raises
    ------
    DataError
        There is none, they are not of one dataset, or an image is in two of them.
    """
    parts = list(shards)
    if not parts:
        raise DataError("found no evaluation to merge, expected at least one")
    first = parts[0]
    matrix = ConfusionMatrix(len(first.labels))
    borders = BorderCounts(len(first.labels)) if first.borders is not None else None
    rows: list[ImageMetrics] = []
    for part in parts:
        if part.labels.difference(first.labels) or (part.dataset, part.split, part.absent) != (first.dataset, first.split, first.absent):
            raise DataError(
                f"cannot merge evaluations of {first.dataset} {first.split} and {part.dataset} {part.split}: expected one dataset"
            )
        if (part.borders is None, part.before is None) != (first.borders is None, first.before is None):
            raise DataError("cannot merge evaluations with and without borders or a CRF: expected shards of one evaluation")
        matrix += part.matrix
        if borders is not None and part.borders is not None:
            borders += part.borders
        rows += part.images
    _refuse_repeated([row.key for row in rows], first.dataset)
    # Rank r holds images r, r + world, …: dealing them out again in turn restores the dataset's order.
    dealt = [part.images[i] for i in range(max(len(part.images) for part in parts)) for part in parts if i < len(part.images)]
    return Evaluation(
        matrix,
        tuple(dealt),
        first.labels,
        first.absent,
        first.dataset,
        first.split,
        first.model,
        first.settings,
        sum(part.seconds for part in parts),
        first.path,
        borders,
        merge([part.before for part in parts if part.before is not None]) if first.before is not None else None,
        dict(sum((Counter(part.noted) for part in parts), Counter())),
        first.overlap,
    )


def checked_dataset(images: Dataset, labels: LabelSpace) -> Dataset:
    """Return ``images``, if a network of these labels can be evaluated on them.

    Raises
    ------
    BundleError
        The classes are others.
    DataError
        There is no image, or a key is repeated.
    """
    if difference := labels.difference(images.labels):
        raise BundleError(
            f"the model's classes are not those of {images.name}: {difference}: use the data it was trained for, or train on this"
        )
    if len(images) == 0:
        raise DataError(f"{images.name}: the split '{images.split}' holds no image, expected at least one")
    _refuse_repeated(images.keys, images.name)
    return images


def _refuse_repeated(keys: Sequence[str], name: str) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DataError(f"{name}: the image '{key}' occurs twice, expected each once: it would be counted twice")
        seen.add(key)


def checked_truth(sample: Sample) -> npt.NDArray[np.uint8]:
    """Return the sample's truth.

    Raises
    ------
    DataError
        It has none, or one of another size.
    """
    if sample.label is None:
        raise DataError(f"{sample.key}: the image has no truth: evaluation needs a mask for every image")
    if sample.label.shape != sample.image.shape[:2]:
        raise DataError(
            f"{sample.key}: the truth is {sample.label.shape} and the image {sample.image.shape[:2]}, expected one size: "
            "masks are never resized, export them again"
        )
    return sample.label


def _score(sample: Sample, truth: npt.NDArray[np.uint8], matrix: ConfusionMatrix) -> ImageMetrics:
    metrics = matrix.metrics(absent="union")
    digest = hashlib.blake2b(sample.image.tobytes(), digest_size=16)
    digest.update(truth.tobytes())
    height, width = truth.shape
    return ImageMetrics(
        sample.key, height, width, metrics.pixel_accuracy, metrics.mean_iou, matrix.ignored / truth.size, digest.hexdigest()
    )
