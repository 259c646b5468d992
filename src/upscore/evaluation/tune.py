"""Find the CRF's settings for a network on a split, and enable it only where it helps.

::

    split ─┬─ first half ──  chosen on:    random settings on some of the images, the best of them
           │                               on the whole half, then one setting at a time
           └─ second half ─  confirmed on: nothing is chosen here
                              the CRF is enabled if both halves gain

Halves are the first and the second, not every other image: neighbours in a sequence are
alike, and a half that contains the other's neighbours confirms anything.

The network runs once. Its probabilities are stored as half-precision numbers in a temporary file,
2 bytes for each class of each pixel; the metrics with the CRF are those of the rounded numbers.
The number of iterations is not searched: five have mostly converged, and more only cost time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias, TypeVar, get_args

import upscore
from upscore.data.dataset import Dataset, read_as
from upscore.data.open_dataset import open_dataset
from upscore.data.own_dataset import ImagesWithMasks, as_dataset
from upscore.data.truth_checks import check_dataset, check_mask
from upscore.errors import BundleError, DataError, RecipeError
from upscore.evaluation.counts import PixelCounts
from upscore.evaluation.crf_search import CRFSearch
from upscore.evaluation.probability_store import open_probability_store
from upscore.inference.predictor import Predictor
from upscore.metrics.confusion import json_safe
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import CRFSettings

__all__ = ["HalfMetrics", "Metric", "Tuning", "tune"]

Metric: TypeAlias = Literal["mean_iou", "boundary_iou", "trimap_iou", "both"]
"""What is maximised; ``"both"`` is the mean of mean IoU and boundary IoU."""

Model = TypeVar("Model", bound=Bundle | Ensemble)

MIN_GAIN = 1e-4  # a hundredth of a percentage point: a smaller gain is not worth the time the CRF takes


@dataclass(frozen=True)
class HalfMetrics:
    """Metrics of some images before and after the CRF: ``mean_iou``, ``boundary_iou`` and ``trimap_iou``, in [0, 1] or nan."""

    images: int  #: how many
    before: dict[str, float]
    after: dict[str, float]

    @classmethod
    def of(cls, images: int, before: PixelCounts, after: PixelCounts) -> Self:
        """Return the metrics of pixel counts before and after the CRF."""
        return cls(images, before.metrics(), after.metrics())

    def gain(self, metric: Metric) -> float:
        """Return the value of ``metric`` after the CRF minus that before it."""
        return _value(self.after, metric) - _value(self.before, metric)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values; nan as None."""
        before, after = ({name: json_safe(value) for name, value in values.items()} for values in (self.before, self.after))
        return {"images": self.images, "before": before, "after": after}


@dataclass(frozen=True)
class Tuning:
    """The settings that were found, and their metrics."""

    settings: CRFSettings  #: the best; enabled where both halves gain
    metric: Metric
    dataset: str
    split: str
    chosen_on: HalfMetrics  #: the first half
    confirmed_on: HalfMetrics  #: the second
    whole: HalfMetrics
    trials: int  #: how many settings were evaluated
    seed: int

    @property
    def verdict(self) -> str:
        """One sentence: whether the CRF is on, and why."""
        name = {"both": "the mean of mean IoU and boundary IoU"}.get(self.metric, self.metric.replace("_iou", " IoU"))
        changes = []
        for done, half in (("chosen", self.chosen_on), ("confirmed", self.confirmed_on)):
            before, after = (100 * _value(metrics, self.metric) for metrics in (half.before, half.after))
            changes.append(f"{before:.2f} → {after:.2f} % on the half it was {done} on")
        gains = f"{name} {' and '.join(changes)}"
        if self.settings.enabled:
            return f"the CRF is on: {gains}"
        return f"the CRF is off, since it does not help on both halves: {gains}; --crf switches it on all the same"

    def apply(self, bundle: Model) -> Model:
        """Return ``bundle``, or the ensemble, with the settings among its inference settings and this result on its card."""
        inference = bundle.inference.model_copy(update={"crf": self.settings})
        return replace(bundle, inference=inference, card=dict(bundle.card) | {"crf": self.as_dict()})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values."""
        halves = {name: getattr(self, name).as_dict() for name in ("chosen_on", "confirmed_on", "whole")}
        return vars(self) | {"settings": self.settings.model_dump(mode="json")} | halves | {"upscore": upscore.__version__}


def tune(
    network: Predictor | Bundle | Ensemble | str | os.PathLike[str],
    dataset: Dataset | ImagesWithMasks | str | os.PathLike[str],
    *,
    split: str = "val",
    trials: int = 30,
    metric: Metric = "mean_iou",
    seed: int = 0,
    device: str = "auto",
    again: bool = False,
    report: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int, int, float | None], None] = lambda stage, done, total, best: None,
) -> Tuning:
    """Find the CRF's settings for a network on a split.

    Raises BundleError where the bundle was tuned already, is damaged, or has other classes; DataError where there are fewer than 2 images
    or classes, a half has nothing to evaluate, or an image or mask cannot be used; OutputError where the probabilities do not fit where
    temporary files are written; and RecipeError where ``trials`` or ``metric`` is impossible, or a predictor has its CRF on.

    Parameters
    ----------
    network : Predictor, Bundle, Ensemble or path
        Run with its inference settings, but without the CRF. It is not changed; see :meth:`Tuning.apply`.
    dataset : dataset or path
        What to evaluate on: not what the network was trained on, where the CRF has nothing to correct,
        and not what its results will be reported on. At least 2 images and 2 classes.
    split : str
        Which part of a path's dataset; a Dataset is taken as it is.
    trials : int
        How many settings to evaluate, at least 1: half of them random, the defaults first.
    metric : {"mean_iou", "boundary_iou", "trimap_iou", "both"}
        What to maximise; ``"both"`` is the mean of the first two.
    seed : int
        Of the random settings; the same seed finds the same settings.
    device : str
        Where the network of a bundle runs; the CRF is on the CPU.
    again : bool
        Tune a bundle that was tuned before.
    report : callable
        Called with a line for each warning of the dataset, and for the space that is needed.
    progress : callable
        Called with (stage, images done, images in all, best gain so far or None); fewer are done where nothing is left to gain.
    """
    if metric not in get_args(Metric):
        raise RecipeError(f"found metric '{metric}', expected {', '.join(get_args(Metric))}")
    if trials < 1:
        raise RecipeError(f"found {trials} trials, expected at least 1")
    predictor = network if isinstance(network, Predictor) else Predictor(network, device=device, crf=False)
    if predictor.settings.uses_crf:
        raise RecipeError("found a predictor whose CRF is enabled, expected the network alone: make it with crf=False")
    if "crf" in predictor.card and not again:
        raise BundleError(
            f"the bundle was tuned already, on {_tuned_on(predictor.card['crf'])}: give --again (again=True) to tune it again"
        )
    images = open_dataset(dataset, split) if isinstance(dataset, (str, os.PathLike)) else as_dataset(dataset, split=split)
    check_dataset(images, predictor.labels)
    images = read_as(images, predictor.input)
    if len(images.labels) < 2:
        raise DataError(f"{images.name}: found one class, expected at least 2: there is no border for a CRF to move")
    if len(images) < 2:
        raise DataError(f"{images.name}: found one image in '{images.split}', expected at least 2: one to choose on, one to confirm on")
    for warning in images.warnings:
        report(warning)
    sizes = []
    for index in range(len(images)):
        sizes.append(check_mask(images[index]).shape)
        progress("checking masks", index + 1, len(images), None)
    with open_probability_store(len(images.labels), sizes, report) as store:
        found = CRFSearch(predictor, images, store, lambda values: _value(values, metric), progress).run(trials, seed)
    first, second = found.halves
    halves = (HalfMetrics.of(len(images) - len(images) // 2, *first), HalfMetrics.of(len(images) // 2, *second))
    return Tuning(
        settings=found.settings.model_copy(update={"enabled": all(half.gain(metric) > MIN_GAIN for half in halves)}),
        metric=metric,
        dataset=images.name,
        split=images.split,
        chosen_on=halves[0],
        confirmed_on=halves[1],
        whole=HalfMetrics.of(len(images), first[0] + second[0], first[1] + second[1]),
        trials=found.trials,
        seed=seed,
    )


def _value(metrics: dict[str, float], metric: Metric) -> float:
    return (metrics["mean_iou"] + metrics["boundary_iou"]) / 2 if metric == "both" else metrics[metric]


def _tuned_on(account: object) -> str:
    values = account if isinstance(account, dict) else {}
    return f"{values.get('dataset', 'unknown data')!s:.80} {values.get('split', '')!s:.80}".strip()
