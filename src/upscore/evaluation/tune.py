"""Search the CRF's settings for a network on a split, and switch the CRF on only where it helps.

::

    split ─┬─ first half ──  chosen on:   random settings on a few images, the best of them on the
           │                              whole half, then one setting at a time
           └─ second half ─  confirmed on: nothing is chosen here
                              the CRF is switched on if both halves gain

Halves are the first and the second, not every other image: neighbours in a sequence look
alike, and a half that contains the other's neighbours confirms anything.

The network runs once. Its probabilities are stored as half-precision numbers in a temporary file,
2 bytes for each class of each pixel; the metrics with the CRF are those of the rounded numbers.
The number of iterations is not searched: five have mostly converged, and more only cost time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.open_dataset import open_dataset
from upscore.errors import BundleError, DataError, RecipeError
from upscore.evaluation.checks import check_dataset, check_mask
from upscore.evaluation.counts import PixelCounts
from upscore.evaluation.probability_store import ProbabilityStore, open_probability_store
from upscore.evaluation.tuning import HalfMetrics, Metric, Tuning, metric_value
from upscore.inference.crf_postprocess import iterate_refined
from upscore.inference.predictor import Predictor
from upscore.inference.tile_grid import Window
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import CRFSettings
from upscore.settings.crf import MAX_SIGMA, MIN_SIGMA

__all__ = ["tune"]

Progress: TypeAlias = Callable[[str, int, int, float | None], None]
"""Called with (stage, images done, images in total, best gain so far or None)."""

RANGES = {
    "gaussian_sigma": (1.0, 10.0),
    "gaussian_weight": (0.5, 10.0),
    "bilateral_sigma": (10.0, 150.0),
    "bilateral_sigma_colour": (3.0, 30.0),
    "bilateral_weight": (0.5, 20.0),
}
"""Ranges of the random search, uniform in the logarithm; the refinement of the best may leave them."""

COARSE_IMAGES = 16
"""Images of the first half, evenly spaced, on which random settings are evaluated."""

FINALISTS = 3
"""The best random settings that are then evaluated on the whole half."""

FIRST_FACTOR, MIN_FACTOR = 1.6, 1.1
"""The factor by which one setting is multiplied and divided at first; its root is taken when nothing gains, down to the minimum."""

MIN_GAIN = 1e-4
"""A hundredth of a percentage point: a smaller gain is not worth the time the CRF takes."""


def tune(
    network: Predictor | Bundle | Ensemble | str | os.PathLike[str],
    dataset: Dataset | str | os.PathLike[str],
    *,
    split: str = "val",
    trials: int = 30,
    metric: Metric = "mean_iou",
    seed: int = 0,
    device: str = "auto",
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda stage, done, total, best: None,
) -> Tuning:
    """Search the CRF's settings for a network on a split.

    Parameters
    ----------
    network : Predictor, Bundle, Ensemble or path
        Run with its inference settings, but without the CRF. It is not changed; see
        :meth:`upscore.evaluation.tuning.Tuning.apply`.
    dataset : Dataset or path
        What to evaluate on: not the training data, where the CRF has nothing to correct,
        and not the data on which metrics will be reported. At least 2 images and 2 classes.
    split : str
        Which part of a path's dataset; a Dataset is taken as it is.
    trials : int
        How many settings to evaluate, at least 1: first the defaults, random ones up to half of
        the trials, then refinements of the best.
    metric : {"mean_iou", "boundary_iou", "trimap_iou", "both"}
        What to maximise; ``"both"`` is the mean of the first two.
    seed : int
        Of the random search; the same seed finds the same settings.
    device : str
        Where the network of a bundle runs; the CRF is on the processor.
    again : bool
        Tune a bundle that was tuned before.
    say : callable
        Called with a line on each warning of the dataset, and on the space that is needed.
    progress : callable
        Called with (stage, images done, images in total, best gain so far or None); the search
        ends early where nothing is left to gain.

    Returns
    -------
    Tuning

    Raises
    ------
    BundleError
        The bundle was tuned already, is damaged, or has other classes.
    DataError
        There are fewer than 2 images or classes, a half has nothing to evaluate, or an image or
        mask cannot be used.
    OutputError
        There is no space for the probabilities where temporary files are stored.
    RecipeError
        ``trials`` or ``metric`` is impossible, or a predictor has its CRF on.
    """
    if metric not in get_args(Metric):
        raise RecipeError(f"found metric '{metric}', expected {', '.join(get_args(Metric))}")
    if trials < 1:
        raise RecipeError(f"found {trials} trials, expected at least 1")
    predictor = network if isinstance(network, Predictor) else Predictor(network, device=device, crf=False)
    if predictor.settings.uses_crf:
        raise RecipeError("found a predictor whose CRF is on, expected the network alone: make it with crf=False")
    if "crf" in predictor.card and not again:
        raise BundleError(
            f"the bundle was tuned already, on {_tuned_on(predictor.card['crf'])}: give --again (again=True) to tune it again"
        )
    images = open_dataset(dataset, split) if isinstance(dataset, (str, os.PathLike)) else dataset
    check_dataset(images, predictor.labels)
    if len(images.labels) < 2:
        raise DataError(f"{images.name}: found one class, expected at least 2: there is no border for a CRF to move")
    if len(images) < 2:
        raise DataError(f"{images.name}: found one image in '{images.split}', expected at least 2: one to choose on, one to confirm on")
    for warning in images.warnings:
        say(warning)
    sizes = []
    for index in range(len(images)):
        sizes.append(check_mask(images[index]).shape)
        progress("checking masks", index + 1, len(images), None)
    with open_probability_store(len(images.labels), sizes, say) as store:
        return _Search(predictor, images, store, metric, progress).run(trials, seed)


class _Search:
    """The search on the stored probabilities of one network."""

    def __init__(
        self,
        predictor: Predictor,
        images: Dataset,
        store: ProbabilityStore,
        metric: Metric,
        progress: Progress,
    ) -> None:
        self.predictor, self.images, self.store, self.metric, self.progress = predictor, images, store, metric, progress
        middle = (len(images) + 1) // 2
        self.first, self.second = range(middle), range(middle, len(images))
        self.coarse = sorted({int(index) for index in np.linspace(0, middle - 1, min(COARSE_IMAGES, middle))})
        self.stage, self.done, self.total = "", 0, 0
        self.best: float | None = None
        self.trials = self.max_trials = 0

    def run(self, trials: int, seed: int) -> Tuning:
        classes = len(self.images.labels)
        coarse, first, second = (PixelCounts(classes) for _ in range(3))
        for index in range(len(self.images)):
            counts = (first if index in self.first else second, *((coarse,) if index in self.coarse else ()))
            self._predict(index, counts)
            self.progress("predicting", index + 1, len(self.images), None)
        for name, half in (("first", first), ("second", second)):
            if math.isnan(metric_value(half.metrics(), self.metric)):
                raise DataError(f"{self.images.name}: the {name} half of '{self.images.split}' has no evaluated pixel or border to tune by")
        self.max_trials = trials
        sampled = max(1, trials // 2)
        finals = 0 if len(self.coarse) == len(self.first) else min(FINALISTS, sampled)
        self.total = sampled * len(self.coarse) + (finals + trials - sampled) * len(self.first) + len(self.second)
        best, chosen = self._choose(coarse.metrics(), first.metrics(), np.random.default_rng(seed))
        self.stage, self.done = "confirming", self.total - len(self.second)
        confirmed = self._evaluate(best, self.second)
        halves = (
            HalfMetrics(len(self.first), first.metrics(), chosen.metrics()),
            HalfMetrics(len(self.second), second.metrics(), confirmed.metrics()),
        )
        return Tuning(
            settings=best.model_copy(update={"enabled": all(half.gain(self.metric) > MIN_GAIN for half in halves)}),
            metric=self.metric,
            dataset=self.images.name,
            split=self.images.split,
            chosen_on=halves[0],
            confirmed_on=halves[1],
            whole=HalfMetrics(len(self.images), (first + second).metrics(), (chosen + confirmed).metrics()),
            trials=self.trials,
            seed=seed,
        )

    def _predict(self, index: int, counts: Sequence[PixelCounts]) -> None:
        """Store the network's probabilities of an image, and count its prediction."""
        sample = self.images[index]
        truth = check_mask(sample)
        label_map, room = np.empty(truth.shape, np.uint8), self.store[index]
        for window, probs in self.predictor.iterate(sample.image, name=sample.key):
            label_map[window.slices] = probs.argmax(0).cpu().numpy()
            room[(slice(None), *window.slices)] = probs.cpu().numpy()
        for half in counts:
            half.add(sample.key, truth, label_map)

    def _evaluate(self, settings: CRFSettings, indices: Sequence[int]) -> PixelCounts:
        """Count the images ``indices`` as the CRF refines them."""
        dense, counts = settings.build(), PixelCounts(self.store.classes)
        for index in indices:
            sample, probs = self.images[index], self.store[index]
            truth = check_mask(sample)

            def read(window: Window, probs: npt.NDArray[np.float16] = probs) -> npt.NDArray[np.float32]:
                return np.asarray(probs[(slice(None), *window.slices)], np.float32)

            label_map = np.empty(truth.shape, np.uint8)
            for piece in iterate_refined(dense, sample.image, read, classes=self.store.classes):
                label_map[piece.window.slices] = piece.after.argmax(0)
            counts.add(sample.key, truth, label_map)
            self.done += 1
            self.progress(self.stage, self.done, self.total, self.best)
        return counts

    def _choose(self, coarse: dict[str, float], first: dict[str, float], rng: np.random.Generator) -> tuple[CRFSettings, PixelCounts]:
        """Return the best settings on the first half, and the counts with them."""
        self.stage = "sampling"
        ranked: list[tuple[float, CRFSettings, PixelCounts]] = []
        for candidate in (CRFSettings(), *(_sample(rng) for _ in range(max(1, self.max_trials // 2) - 1))):
            counts = self._evaluate(candidate, self.coarse)
            ranked.append((metric_value(counts.metrics(), self.metric), candidate, counts))
            self.trials += 1
            self.best = max(value for value, *_ in ranked) - metric_value(coarse, self.metric)
        ranked.sort(key=lambda trial: -trial[0])
        if len(self.coarse) < len(self.first):
            self.stage, self.best = "comparing", None
            finalists = [(candidate, self._evaluate(candidate, self.first)) for _, candidate, _ in ranked[:FINALISTS]]
            ranked = [(metric_value(counts.metrics(), self.metric), candidate, counts) for candidate, counts in finalists]
        value, best, counts = max(ranked, key=lambda trial: trial[0])
        self.stage, self.best = "refining", value - metric_value(first, self.metric)
        factor, seen = FIRST_FACTOR, {candidate for _, candidate, _ in ranked}
        while factor > MIN_FACTOR and self.trials < self.max_trials:
            gained = False
            for name in RANGES:
                for by in (factor, 1 / factor):
                    changed = _changed(best, name, by)
                    if self.trials >= self.max_trials or changed is None or changed in seen:
                        continue
                    seen.add(changed)
                    trial = self._evaluate(changed, self.first)
                    self.trials += 1
                    if (trial_value := metric_value(trial.metrics(), self.metric)) > value:
                        value, best, counts, gained = trial_value, changed, trial, True
                        self.best = value - metric_value(first, self.metric)
                        break
            factor = factor if gained else math.sqrt(factor)
        return best, counts


def _sample(rng: np.random.Generator) -> CRFSettings:
    return CRFSettings(**{name: _rounded(math.exp(rng.uniform(math.log(low), math.log(high)))) for name, (low, high) in RANGES.items()})


def _changed(settings: CRFSettings, name: str, factor: float) -> CRFSettings | None:
    """Return the settings with one of them changed, or None where it would leave the allowed range."""
    value = _rounded(getattr(settings, name) * factor)
    return settings.model_copy(update={name: value}) if MIN_SIGMA <= value <= MAX_SIGMA else None


def _rounded(value: float) -> float:
    """Return ``value`` to 3 digits, so that the evaluated number is the one that is printed."""
    return float(f"{value:.3g}")


def _tuned_on(account: object) -> str:
    values = account if isinstance(account, dict) else {}
    return f"{values.get('dataset', 'unknown data')!s:.80} {values.get('split', '')!s:.80}".strip()
