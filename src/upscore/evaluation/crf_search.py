"""The search for a CRF's settings on stored probabilities: random settings first, then one number of the best at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.crf import DenseCRF
from upscore.data.dataset import Dataset
from upscore.data.truth_checks import check_mask
from upscore.errors import DataError
from upscore.evaluation.counts import PixelCounts
from upscore.evaluation.probability_store import ProbabilityStore
from upscore.inference.pipeline import LabelledWindow, refined_windows, segment_image
from upscore.inference.predictor import Predictor
from upscore.inference.sinks import LabelMapSink, ProbsSink
from upscore.inference.sources import ArraySource, ImageSource
from upscore.inference.tile_grid import Window
from upscore.settings import CRFSettings
from upscore.settings.crf import MAX_SIGMA, MIN_SIGMA

__all__ = ["CRFSearch", "FoundSettings"]

RANGES = {
    "gaussian_sigma": (1.0, 10.0),
    "gaussian_weight": (0.5, 10.0),
    "bilateral_sigma": (10.0, 150.0),
    "bilateral_sigma_colour": (3.0, 30.0),
    "bilateral_weight": (0.5, 20.0),
}
"""Ranges of the random settings, uniform in the logarithm; the refinement of the best may leave them."""

COARSE_IMAGES = 16  # images of the first half, evenly spaced, on which random settings are evaluated
FINALISTS = 3  # the best random settings that are then evaluated on the whole half

FIRST_FACTOR, MIN_FACTOR = 1.6, 1.1
"""The factor by which one setting is multiplied and divided at first; its root is taken when nothing gains, down to the minimum."""


class _StoredProbabilities:
    """An image's stored probabilities in place of a network's, and a CRF that refines them."""

    def __init__(self, dense: DenseCRF, probs: npt.NDArray[np.float16]) -> None:
        self.dense, self.probs = dense, probs

    def windows(self, source: ImageSource) -> Iterator[LabelledWindow]:
        def read(window: Window) -> npt.NDArray[np.float32]:
            return np.asarray(self.probs[(slice(None), *window.slices)], np.float32)

        return refined_windows(self.dense, source, read, classes=len(self.probs))


@dataclass(frozen=True)
class FoundSettings:
    """The best settings of a search, how many were evaluated, and the pixels counted with them."""

    settings: CRFSettings
    trials: int
    halves: tuple[tuple[PixelCounts, PixelCounts], tuple[PixelCounts, PixelCounts]]  #: the first before and after the CRF, and the second


class CRFSearch:
    """The search on one network's probabilities.

    The predictor's CRF is not enabled; there are at least 2 images with truth, and the store is of as many. ``value`` takes the metrics
    of :meth:`upscore.evaluation.counts.PixelCounts.metrics` and returns what is maximised; ``progress`` is that of
    :func:`upscore.evaluation.tune.tune`.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Dataset,
        store: ProbabilityStore,
        value: Callable[[dict[str, float]], float],
        progress: Callable[[str, int, int, float | None], None],
    ) -> None:
        self.predictor, self.images, self.store, self.progress = predictor, images, store, progress
        self.value: Callable[[PixelCounts], float] = lambda counts: value(counts.metrics())
        middle = (len(images) + 1) // 2
        self.first, self.second = range(middle), range(middle, len(images))
        self.coarse = sorted({int(index) for index in np.linspace(0, middle - 1, min(COARSE_IMAGES, middle))})
        self.stage, self.done, self.total = "", 0, 0
        self.best_gain: float | None = None
        self.trials = self.max_trials = 0

    def run(self, trials: int, seed: int) -> FoundSettings:
        """Search with so many trials; raises DataError where a half has no evaluated pixel or border, or a label is not a class."""
        coarse, first, second = (PixelCounts(len(self.images.labels)) for _ in range(3))
        for index in range(len(self.images)):
            self._predict(index, [first if index in self.first else second, *([coarse] if index in self.coarse else [])])
            self.progress("predicting", index + 1, len(self.images), None)
        for name, half in (("first", first), ("second", second)):
            if math.isnan(self.value(half)):
                raise DataError(f"{self.images.name}: the {name} half of '{self.images.split}' has no evaluated pixel or border to tune by")
        self.max_trials = trials
        sampled = max(1, trials // 2)
        finals = 0 if len(self.coarse) == len(self.first) else min(FINALISTS, sampled)
        self.total = sampled * len(self.coarse) + (finals + trials - sampled) * len(self.first) + len(self.second)
        best, chosen = self._choose(self.value(coarse), self.value(first), np.random.default_rng(seed))
        self.stage, self.done = "confirming", self.total - len(self.second)
        return FoundSettings(best, self.trials, ((first, chosen), (second, self._evaluate(best, self.second))))

    def _predict(self, index: int, counts: Sequence[PixelCounts]) -> None:
        """Store the network's probabilities of an image, and count its labels without the CRF."""
        sample = self.images[index]
        truth = check_mask(sample)
        label_map = LabelMapSink((truth.shape[0], truth.shape[1]))
        self.predictor.segment(ArraySource(sample.image, sample.key, spec=self.predictor.input), [label_map, ProbsSink(self.store[index])])
        for count in counts:
            count.add(sample.key, truth, label_map.label_map)

    def _evaluate(self, settings: CRFSettings, indices: Sequence[int]) -> PixelCounts:
        """Count the images ``indices`` as the CRF labels them."""
        dense, counts = settings.build(), PixelCounts(self.store.classes)
        for index in indices:
            sample = self.images[index]
            truth = check_mask(sample)
            label_map = LabelMapSink((truth.shape[0], truth.shape[1]))
            segment_image(ArraySource(sample.image, spec=self.predictor.input), _StoredProbabilities(dense, self.store[index]), [label_map])
            counts.add(sample.key, truth, label_map.label_map)
            self.done += 1
            self.progress(self.stage, self.done, self.total, self.best_gain)
        return counts

    def _choose(self, coarse: float, first: float, rng: np.random.Generator) -> tuple[CRFSettings, PixelCounts]:
        """Return the best settings on the first half, and its counts; ``coarse`` and ``first`` are the values without the CRF."""
        self.stage = "sampling"
        ranked: list[_Trial] = []
        for candidate in (CRFSettings(), *(_sample(rng) for _ in range(max(1, self.max_trials // 2) - 1))):
            ranked.append(self._try(candidate, self.coarse))
            self.best_gain = max(trial.value for trial in ranked) - coarse
        ranked.sort(key=lambda trial: -trial.value)
        if len(self.coarse) < len(self.first):
            self.stage, self.best_gain = "comparing", None
            trials, finalists = self.trials, ranked[:FINALISTS]
            ranked = [self._try(trial.settings, self.first) for trial in finalists]
            self.trials = trials
        best = max(ranked, key=lambda trial: trial.value)
        self.stage, self.best_gain = "refining", best.value - first
        factor, seen = FIRST_FACTOR, {trial.settings for trial in ranked}
        while factor > MIN_FACTOR and self.trials < self.max_trials:
            gained = False
            for name in RANGES:
                for by in (factor, 1 / factor):
                    changed = _changed(best.settings, name, by)
                    if self.trials >= self.max_trials or changed is None or changed in seen:
                        continue
                    seen.add(changed)
                    trial = self._try(changed, self.first)
                    if trial.value > best.value:
                        best, gained = trial, True
                        self.best_gain = best.value - first
                        break
            factor = factor if gained else math.sqrt(factor)
        return best.settings, best.counts

    def _try(self, settings: CRFSettings, indices: Sequence[int]) -> _Trial:
        counts = self._evaluate(settings, indices)
        self.trials += 1
        return _Trial(settings, counts, self.value(counts))


@dataclass(frozen=True, eq=False)
class _Trial:
    settings: CRFSettings
    counts: PixelCounts
    value: float


def _sample(rng: np.random.Generator) -> CRFSettings:
    return CRFSettings(**{name: _rounded(math.exp(rng.uniform(math.log(low), math.log(high)))) for name, (low, high) in RANGES.items()})


def _changed(settings: CRFSettings, name: str, factor: float) -> CRFSettings | None:
    """Return settings with one number changed, or None where that is not a setting."""
    value = _rounded(getattr(settings, name) * factor)
    return settings.model_copy(update={name: value}) if MIN_SIGMA <= value <= MAX_SIGMA else None


def _rounded(value: float) -> float:
    """Return ``value`` to 3 digits, so that what is evaluated is what can be read and typed."""
    return float(f"{value:.3g}")
