"""Evaluate a predictor on a dataset.

The truth is never resized and every image is counted exactly once. Pixels near borders are counted
too (:class:`upscore.metrics.BorderCounts`). With a CRF, the network alone is evaluated in the same
pass: every metric exists before and after.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from upscore.data.dataset import Dataset, read_as
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import dataset_identity, find_shared_images
from upscore.data.own_dataset import ImagesWithMasks, as_dataset
from upscore.data.pixel_digests import digest_pixels, read_digests
from upscore.data.reading_options import decided
from upscore.data.truth_checks import check_dataset, check_mask
from upscore.errors import BundleError, DataError
from upscore.evaluation.counts import PixelCounts
from upscore.evaluation.result import Evaluation, ImageMetrics
from upscore.inference.predictor import Predictor
from upscore.inference.sinks import Sink
from upscore.input_spec import Image
from upscore.metrics import BoundaryF1Counts, ConfusionMatrix
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace, Prediction, Sample, as_label_space

__all__ = ["ImagePredictor", "evaluate", "predict_sample"]


class ImagePredictor(Protocol):
    """What can be evaluated: a :class:`upscore.inference.predictor.Predictor`, or any object with these two members."""

    @property
    def labels(self) -> LabelSpace:
        """The classes of its label maps."""
        ...

    def predict(self, image: Image, /) -> Prediction:
        """Predict the classes of an image (H, W, C) of the dataset's bands."""
        ...


def evaluate(
    predictor: ImagePredictor | nn.Module | Bundle | Ensemble | str | os.PathLike[str],
    dataset: Dataset | ImagesWithMasks | Sequence[Any] | str | os.PathLike[str],
    *,
    labels: LabelSpace | Sequence[str] | None = None,
    split: str = "val",
    absent: str = "union",
    boundary_f1: bool = False,
    progress: Callable[[int, int], None] | None = None,
    shard: tuple[int, int] = (0, 1),
    path: str = "",
    sinks: Callable[[Sample], Sequence[Sink]] = lambda sample: (),
    show: Callable[[Sample, ImageMetrics, Prediction], None] | None = None,
) -> Evaluation:
    """Evaluate a network on a dataset; with a CRF, the network runs once for the evaluation and the one ``before`` it.

    Raises DataError where keys are repeated, an image has no truth or one of another size, the truth holds a label that is not a class, or
    there is no image, and BundleError where the network's classes are not the dataset's, or it returns another size.

    Parameters
    ----------
    predictor : Predictor, nn.Module, Bundle, Ensemble, path, or anything with ``labels`` and ``predict``
        A bundle is opened with its own inference settings on the best device. A module, images in [0, 1] to logits, is used where it is.
    dataset : dataset or path
        A path is opened by :func:`upscore.data.open_dataset.open_dataset`; any object will do that
        :func:`upscore.data.own_dataset.as_dataset` takes.
    labels : LabelSpace or sequence of str, optional
        Classes of a module, or of a dataset of your own, where the dataset does not name them.
    split : str
        Which part of a path's dataset; a Dataset is taken as it is.
    absent : {"union", "present", "all"}
        Which classes the means are over: those in truth or prediction, those in the truth, or all of them.
    boundary_f1 : bool
        Also compute SegNet's BF score (:class:`upscore.metrics.BoundaryF1Counts`), which takes some tenths of a second an image.
    progress : callable, optional
        Called with (images done, images in all) of this shard after each image.
    shard : (int, int)
        (rank, world): evaluate the images rank, rank + world, …; merge them with :func:`upscore.evaluation.result.merge_evaluations`.
    path : str
        Where a Dataset was opened; its other splits are searched for images that the network was trained on.
    sinks : callable
        Returns what else gets the probabilities of a sample, predicted by a Predictor.
    show : callable, optional
        Called with each image, its metrics and its prediction, such as :meth:`upscore.evaluation.gallery.Gallery.add`.
    """
    if isinstance(dataset, (str, os.PathLike)):
        path, opened = os.fspath(dataset), open_dataset(dataset, split)
        if labels is not None and (difference := as_label_space(labels).difference(opened.labels)):
            raise DataError(f"{path}: the labels given are not its own: {difference}: leave labels out")
    else:
        opened = as_dataset(dataset, split=split, labels=labels)
    dataset = opened
    evaluated: ImagePredictor
    if isinstance(predictor, nn.Module):
        evaluated = Predictor(predictor, labels=dataset.labels)
    else:
        evaluated = Predictor(predictor) if isinstance(predictor, (Bundle, Ensemble, str, os.PathLike)) else predictor
    check_dataset(dataset, evaluated.labels)
    if isinstance(evaluated, Predictor):
        dataset = read_as(dataset, evaluated.input)
    rank, world = shard
    if not 0 <= rank < world:
        raise DataError(f"found shard {rank} of {world}, expected a rank from 0 to {world - 1}")
    indices = range(rank, len(dataset), world)
    after, before = (_Tally(dataset.labels, boundary_f1=boundary_f1) for _ in range(2))
    refined = isinstance(evaluated, Predictor) and evaluated.settings.uses_crf
    after.counts.matrix.metrics(absent=absent)  # checks the policy before the work, not after it
    for done, index in enumerate(indices, start=1):
        sample = dataset[index]
        truth = check_mask(sample)
        start = time.perf_counter()
        if isinstance(evaluated, Predictor) and refined:
            compared = evaluated.compare(sample.image, name=sample.key, sinks=sinks(sample))
            seconds = time.perf_counter() - start
            before.add(sample, truth, compared.before, seconds - compared.seconds)
            prediction = compared.after
        else:
            prediction = predict_sample(evaluated, sample, sinks=sinks(sample))
            seconds = time.perf_counter() - start
        after.add(sample, truth, prediction, seconds)
        if show is not None:
            show(sample, after.rows[-1], prediction)
        if progress is not None:
            progress(done, len(indices))
    settings: InferenceSettings | None = getattr(evaluated, "settings", None)
    described: dict[str, Any] = {
        "labels": dataset.labels,
        "absent": absent,
        "dataset": dataset.name,
        "split": dataset.split,
        "model": str(getattr(evaluated, "source", type(evaluated).__name__)),
        "path": path,
    }
    alone = before.evaluation(**described, settings=settings.model_copy(update={"crf": None})) if settings is not None and refined else None
    shared = _images_trained_on(evaluated.cards, dataset, path, after.digests) if isinstance(evaluated, Predictor) else ()
    return after.evaluation(**described, settings=settings, before=alone, trained_on=shared)


def predict_sample(predictor: ImagePredictor, sample: Sample, *, sinks: Sequence[Sink] = ()) -> Prediction:
    """Return the prediction for a sample; a Predictor also gets its key, by which boxes from a file are found, and other sinks."""
    if isinstance(predictor, Predictor):
        return predictor.predict(sample.image, name=sample.key, sinks=sinks)
    return predictor.predict(sample.image)


class _Tally:
    """Counts, rows and warnings of the images evaluated so far."""

    def __init__(self, labels: LabelSpace, *, boundary_f1: bool) -> None:
        self.counts = PixelCounts(len(labels))
        self.boundary_f1 = BoundaryF1Counts(len(labels)) if boundary_f1 else None
        self.rows: list[ImageMetrics] = []
        self.warnings: Counter[str] = Counter()
        self.digests: dict[str, bytes] = {}
        self.seconds = 0.0

    def add(self, sample: Sample, truth: npt.NDArray[np.uint8], prediction: Prediction, seconds: float) -> None:
        """Count one image, predicted in ``seconds``."""
        predicted = prediction.label_map
        if predicted.shape != truth.shape:
            raise BundleError(f"{sample.key}: the network labels {predicted.shape} pixels of a {truth.shape} image, expected the same size")
        self.rows.append(_image_metrics(sample, truth, self.counts.add(sample.key, truth, predicted)))
        if self.boundary_f1 is not None:
            self.boundary_f1.add(truth, predicted)
        self.digests[sample.key] = digest_pixels(sample.image)
        self.warnings.update((*sample.warnings, *prediction.warnings))
        self.seconds += seconds

    def evaluation(self, **described: Any) -> Evaluation:
        """Return the evaluation, given what was evaluated and how."""
        return Evaluation(
            self.counts.matrix,
            tuple(self.rows),
            seconds=self.seconds,
            borders=self.counts.borders,
            boundary_f1=self.boundary_f1,
            image_warnings=dict(self.warnings),
            **described,
        )


def _image_metrics(sample: Sample, truth: npt.NDArray[np.uint8], matrix: ConfusionMatrix) -> ImageMetrics:
    metrics = matrix.metrics(absent="union")
    digest = hashlib.blake2b(sample.image.tobytes(), digest_size=16)
    digest.update(truth.tobytes())
    height, width = truth.shape
    ignored = matrix.ignored / truth.size
    counts = np.stack([matrix.counts.sum(axis=1), matrix.counts.sum(axis=0), matrix.counts.diagonal()])
    return ImageMetrics(sample.key, height, width, metrics.pixel_accuracy, metrics.mean_iou, ignored, digest.hexdigest(), counts)


def _images_trained_on(
    cards: Sequence[Mapping[str, Any]], images: Dataset, path: str, digests: Mapping[str, bytes]
) -> tuple[tuple[str, str], ...]:
    """Return (key, key in the training data) of the images that a network was trained on, as far as is known.

    It is known from the digests of training images in its card, and from the dataset's own splits where they are what it was trained on.
    ``digests`` are those of the evaluated images by key; no others are returned.
    """
    shared = dict(_find_in_splits(cards, images, path))
    trained_on = frozenset[bytes]().union(*map(read_digests, cards))
    return tuple((key, shared.get(key, key)) for key, digest in digests.items() if key in shared or digest in trained_on)


def _reading_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which the data was opened that a network was trained on."""
    recipe = card.get("recipe")
    data = recipe.get("data") if isinstance(recipe, dict) else None
    return decided(data) if isinstance(data, dict) else {}


def _find_in_splits(cards: Iterable[Mapping[str, Any]], images: Dataset, path: str) -> list[tuple[str, str]]:
    """Return (key, key in the training data) of images in the split that a card names, where this is what was trained on."""
    identity = ""
    for card in cards:
        data = card.get("data")
        known, split = (data.get("identity"), data.get("split")) if isinstance(data, dict) else (None, None)
        if not isinstance(known, str) or not isinstance(split, str):  # a network of an earlier version, or from elsewhere
            continue
        identity = identity or dataset_identity(images)
        if identity == known:
            return [(key, key) for key in images.keys]
        if path:
            with contextlib.suppress(DataError):  # the dataset has no such split: it is not the one that was trained on
                trained = open_dataset(path, split, **_reading_of(card))
                if dataset_identity(trained) == known and (shared := find_shared_images(trained, images)):
                    return shared
    return []
