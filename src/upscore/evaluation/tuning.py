"""The result of tuning a CRF, as a value: the settings, and the metrics of both halves before and after."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import upscore
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import CRFSettings

__all__ = ["HalfMetrics", "Metric", "Tuning", "metric_value"]

Metric: TypeAlias = Literal["mean_iou", "boundary_iou", "trimap_iou", "both"]
"""What tuning maximises; ``"both"`` is the mean of mean IoU and boundary IoU."""

Model = TypeVar("Model", bound=Bundle | Ensemble)


def metric_value(metrics: dict[str, float], metric: Metric) -> float:
    """Return the value that tuning maximises, from ``mean_iou``, ``boundary_iou`` and ``trimap_iou``.

    Examples
    --------
    >>> metric_value({"mean_iou": 0.5, "boundary_iou": 0.25, "trimap_iou": 0.0}, "both")
    0.375
    """
    return (metrics["mean_iou"] + metrics["boundary_iou"]) / 2 if metric == "both" else metrics[metric]


@dataclass(frozen=True)
class HalfMetrics:
    """Metrics of some images before and after the CRF.

    Parameters
    ----------
    images : int
        How many.
    before, after : dict of str to float
        ``mean_iou``, ``boundary_iou`` and ``trimap_iou``, in [0, 1] or nan.
    """

    images: int
    before: dict[str, float]
    after: dict[str, float]

    def gain(self, metric: Metric) -> float:
        """Return the value of ``metric`` after the CRF minus that before it."""
        return metric_value(self.after, metric) - metric_value(self.before, metric)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values; nan as None."""
        metrics = {
            when: {name: None if math.isnan(value) else value for name, value in values.items()}
            for when, values in (("before", self.before), ("after", self.after))
        }
        return {"images": self.images} | metrics


@dataclass(frozen=True)
class Tuning:
    """The settings that were found, and their metrics.

    Parameters
    ----------
    settings : CRFSettings
        The best settings; ``enabled`` where both halves gain.
    metric : {"mean_iou", "boundary_iou", "trimap_iou", "both"}
        What was maximised.
    dataset, split : str
        What it was evaluated on.
    chosen_on, confirmed_on, whole : HalfMetrics
        The first half, the second, and both together.
    trials, seed : int
        How many settings were evaluated, and the seed of the random search.
    """

    settings: CRFSettings
    metric: Metric
    dataset: str
    split: str
    chosen_on: HalfMetrics
    confirmed_on: HalfMetrics
    whole: HalfMetrics
    trials: int
    seed: int

    @property
    def verdict(self) -> str:
        """One sentence: whether the CRF is on, and why."""
        name = {"both": "the mean of mean IoU and boundary IoU"}.get(self.metric, self.metric.replace("_iou", " IoU"))
        changes = []
        for done, half in (("chosen", self.chosen_on), ("confirmed", self.confirmed_on)):
            before, after = (100 * metric_value(metrics, self.metric) for metrics in (half.before, half.after))
            changes.append(f"{before:.2f} → {after:.2f} on the half it was {done} on")
        gains = f"{name} {' and '.join(changes)}"
        if self.settings.enabled:
            return f"the CRF is on: {gains}"
        return f"the CRF is off, since it does not help on both halves: {gains}; --crf switches it on all the same"

    def apply(self, bundle: Model) -> Model:
        """Return ``bundle``, or the ensemble, with the settings among its inference settings and the result on its card."""
        inference = bundle.inference.model_copy(update={"crf": self.settings})
        return replace(bundle, inference=inference, card=dict(bundle.card) | {"crf": self.as_dict()})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "metric": self.metric,
            "dataset": self.dataset,
            "split": self.split,
            "chosen_on": self.chosen_on.as_dict(),
            "confirmed_on": self.confirmed_on.as_dict(),
            "whole": self.whole.as_dict(),
            "trials": self.trials,
            "seed": self.seed,
            "upscore": upscore.__version__,
        }
