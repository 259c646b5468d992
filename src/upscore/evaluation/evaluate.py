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
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.finding import Finding
from upscore.data.open_dataset import open_dataset
from upscore.data.overlap import dataset_identity, find_shared_images, shared_images_finding
from upscore.errors import BundleError, DataError
from upscore.evaluation.counts import Counts
from upscore.evaluation.result import Evaluation, ImageMetrics, refuse_repeated
from upscore.inference.predictor import Predictor
from upscore.metrics import ConfusionMatrix
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.types import LabelSpace, Prediction, Sample

__all__ = ["Labeller", "checked_dataset", "checked_truth", "evaluate", "predict_sample"]


class Labeller(Protocol):
    """What is evaluated: a Predictor, or anything else that labels images."""

    @property
    def labels(self) -> LabelSpace:
        """What the numbers of its label maps mean."""
        ...

    def predict(self, image: npt.NDArray[np.uint8], /) -> Prediction:
        """Label (H, W, 3) uint8 RGB."""
        ...


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
        (rank, world): evaluate the images rank, rank + world, …; merge them with :func:`upscore.evaluation.result.merge`.
    path : str
        Where a Dataset was opened; its other splits are searched for images that the network was trained on.

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
    after, before = _ImageCounts(images.labels), _ImageCounts(images.labels)
    with_crf = isinstance(labeller, Predictor) and labeller.settings.uses_crf
    # The policy is checked before the work, not after it.
    after.counts.matrix.metrics(absent=absent)
    for done, index in enumerate(mine, start=1):
        sample = images[index]
        truth = checked_truth(sample)
        began = time.perf_counter()
        if isinstance(labeller, Predictor) and with_crf:
            compared = labeller.compare(sample.image, name=sample.key)
            after.seconds += time.perf_counter() - began
            before.seconds += time.perf_counter() - began - compared.seconds
            before.add(sample, truth, compared.before)
            after.add(sample, truth, compared.after)
        else:
            predicted = predict_sample(labeller, sample)
            after.seconds += time.perf_counter() - began
            after.add(sample, truth, predicted)
        if progress is not None:
            progress(done, len(mine))
    path = os.fspath(dataset) if isinstance(dataset, (str, os.PathLike)) else path
    alone = before.evaluation(labeller, images, absent, path) if with_crf else None
    if alone is not None and alone.settings is not None:
        alone = replace(alone, settings=alone.settings.model_copy(update={"crf": None}))
    shared = _images_trained_on(labeller.cards, images, path) if isinstance(labeller, Predictor) else None
    return replace(after.evaluation(labeller, images, absent, path, before=alone), shared_images=shared)


def _images_trained_on(cards: Iterable[Mapping[str, Any]], images: Dataset, path: str) -> Finding | None:
    """Return a finding on which of the images a network was trained on, as far as its card and the dataset's own splits tell."""
    identity = ""
    for card in cards:
        data = card.get("data")
        known, split = (data.get("identity"), data.get("split")) if isinstance(data, dict) else (None, None)
        if not isinstance(known, str) or not isinstance(split, str):  # a network of an earlier version, or from elsewhere
            continue
        identity = identity or dataset_identity(images)
        if identity == known:
            return shared_images_finding([(key, key) for key in images.keys], "the network's training data", images.split, len(images))
        if path:
            with contextlib.suppress(DataError):  # the dataset has no such split: it is not the one that was trained on
                trained = open_dataset(path, split)
                if dataset_identity(trained) == known and (shared := find_shared_images(trained, images)):
                    return shared_images_finding(shared, "the network's training data", images.split, len(images))
    return None


def predict_sample(labeller: Labeller, sample: Sample) -> Prediction:
    """Return the prediction for a sample's image; a predictor also gets its key, by which a file may hold boxes."""
    return labeller.predict(sample.image, name=sample.key) if isinstance(labeller, Predictor) else labeller.predict(sample.image)


class _ImageCounts:
    """What is counted as images go by."""

    def __init__(self, labels: LabelSpace) -> None:
        self.counts = Counts(len(labels))
        self.rows: list[ImageMetrics] = []
        self.warnings: Counter[str] = Counter()
        self.seconds = 0.0

    def add(self, sample: Sample, truth: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Count one image."""
        predicted = prediction.label_map
        self.warnings.update((*sample.warnings, *prediction.warnings))
        if predicted.shape != truth.shape:
            raise BundleError(f"{sample.key}: the network labels {predicted.shape} pixels of a {truth.shape} image, expected the same size")
        self.rows.append(_image_metrics(sample, truth, self.counts.add(truth, predicted, key=sample.key)))

    def evaluation(self, labeller: Labeller, images: Dataset, absent: str, path: str, *, before: Evaluation | None = None) -> Evaluation:
        """Return the evaluation."""
        return Evaluation(
            self.counts.matrix,
            tuple(self.rows),
            images.labels,
            absent,
            images.name,
            images.split,
            model=str(getattr(labeller, "source", type(labeller).__name__)),
            settings=getattr(labeller, "settings", None),
            seconds=self.seconds,
            path=path,
            borders=self.counts.borders,
            before=before,
            image_warnings=dict(self.warnings),
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
    refuse_repeated(images.keys, images.name)
    return images


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


def _image_metrics(sample: Sample, truth: npt.NDArray[np.uint8], matrix: ConfusionMatrix) -> ImageMetrics:
    metrics = matrix.metrics(absent="union")
    digest = hashlib.blake2b(sample.image.tobytes(), digest_size=16)
    digest.update(truth.tobytes())
    height, width = truth.shape
    return ImageMetrics(
        sample.key, height, width, metrics.pixel_accuracy, metrics.mean_iou, matrix.ignored / truth.size, digest.hexdigest()
    )
