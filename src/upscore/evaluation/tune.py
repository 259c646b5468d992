"""Find the CRF's numbers for a network on a split, and switch it on only where it helps.

::

    split ─┬─ first half ──  chosen on:   numbers drawn at random on a few images, the best of them
           │                              on the whole half, then one number at a time
           └─ second half ─  confirmed on: nothing is chosen here
                              the CRF is switched on if both halves gain

Halves are the first and the second, not every other image: neighbours in a sequence look
alike, and a half that holds the other's neighbours confirms anything.

The network runs once. Its probabilities are kept as half-precision numbers in a temporary file,
2 bytes for each class of each pixel; the metrics with the CRF are those of the rounded numbers.
The number of iterations is not searched: five have mostly settled, and more only cost time.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

import upscore
from upscore.data.dataset import Dataset
from upscore.data.open_dataset import open_dataset
from upscore.errors import BundleError, DataError, OutputError, RecipeError
from upscore.evaluation.checks import check_dataset, check_mask
from upscore.evaluation.counts import PixelCounts
from upscore.inference.crf_postprocess import iterate_refined
from upscore.inference.predictor import Predictor
from upscore.inference.tile_grid import Window
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.settings import CRFSettings
from upscore.settings.crf import MAX_SIGMA, MIN_SIGMA

__all__ = ["Candidate", "Metric", "Tuning", "tune"]

Metric: TypeAlias = Literal["mean_iou", "boundary_iou", "trimap_iou", "both"]
"""What is made as large as it can be; ``"both"`` is the mean of mean IoU and boundary IoU."""

Model = TypeVar("Model", bound=Bundle | Ensemble)

RANGES = {
    "gaussian_sigma": (1.0, 10.0),
    "gaussian_weight": (0.5, 10.0),
    "bilateral_sigma": (10.0, 150.0),
    "bilateral_sigma_colour": (3.0, 30.0),
    "bilateral_weight": (0.5, 20.0),
}
"""Where numbers are drawn, evenly in their logarithms; going on from the best may leave it."""

COARSE_IMAGES = 16
"""As many images of the first half, evenly spread, evaluate what was drawn."""

FINALISTS = 3
"""As many of the best are then evaluated on the whole half."""

FIRST_FACTOR, LEAST_FACTOR = 1.6, 1.1
"""By what one number is multiplied and divided, to begin with; its root is taken when nothing gains, down to the least."""

LEAST_GAIN = 1e-4
"""A hundredth of a point: less is not worth the time the CRF takes."""


@dataclass(frozen=True)
class Candidate:
    """Scores of some images before and after the CRF.

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
        """Return after less before."""
        return _value(self.after, metric) - _value(self.before, metric)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-safe values; nan as None."""
        metrics = {
            when: {name: None if math.isnan(value) else value for name, value in values.items()}
            for when, values in (("before", self.before), ("after", self.after))
        }
        return {"images": self.images} | metrics


@dataclass(frozen=True)
class Tuning:
    """What was found, and how well it does.

    Parameters
    ----------
    settings : CRFSettings
        The best numbers; ``enabled`` where both halves gain.
    metric : {"mean_iou", "boundary_iou", "trimap_iou", "both"}
        What was made large.
    dataset, split : str
        What it was evaluated on.
    chosen_on, confirmed_on, whole : Candidate
        The first half, the second, and both together.
    trials, seed : int
        How many settings were evaluated, and what they were drawn by.
    """

    settings: CRFSettings
    metric: Metric
    dataset: str
    split: str
    chosen_on: Candidate
    confirmed_on: Candidate
    whole: Candidate
    trials: int
    seed: int

    @property
    def verdict(self) -> str:
        """One sentence: whether the CRF is on, and why."""
        halves = (("chosen", self.chosen_on), ("confirmed", self.confirmed_on))
        name = {"both": "the mean of mean IoU and boundary IoU"}.get(self.metric, self.metric.replace("_iou", " IoU"))
        found = " and ".join(
            f"{100 * _value(half.before, self.metric):.2f} → {100 * _value(half.after, self.metric):.2f} on the half it was {what} on"
            for what, half in halves
        )
        if self.settings.enabled:
            return f"the CRF is on: {name} {found}"
        return f"the CRF is off, since it does not help on both halves: {name} {found}; --crf uses the numbers all the same"

    def apply(self, bundle: Model) -> Model:
        """Return ``bundle``, or the ensemble, with the settings among its inference settings and the account on its card."""
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
    progress: Callable[[str, int, int, float | None], None] = lambda what, done, total, best: None,
) -> Tuning:
    """Find the CRF's numbers for a network on a split.

    Parameters
    ----------
    network : Predictor, Bundle, Ensemble or path
        Used as its inference settings say, but for the CRF. It is not changed; see
        :meth:`Tuning.apply`.
    dataset : Dataset or path
        What to evaluate on: not what the network learned from, where the CRF has nothing to mend,
        and not what it is to be reported on. At least 2 images and 2 classes.
    split : str
        Which part of a path's dataset; a Dataset is taken as it is.
    trials : int
        How many settings to evaluate, at least 1: half of them drawn at random, the usual numbers
        first.
    metric : {"mean_iou", "boundary_iou", "trimap_iou", "both"}
        What to make large; ``"both"`` is the mean of the first two.
    seed : int
        Of what is drawn; the same seed finds the same numbers.
    device : str
        Where the network of a bundle runs; the CRF is on the processor.
    again : bool
        Tune a bundle that was tuned before.
    say : callable
        Told what will be needed, in a line.
    progress : callable
        Called with (what is done, images done, images in all, best gain so far or None); fewer
        are done than said where nothing is left to gain.

    Returns
    -------
    Tuning

    Raises
    ------
    BundleError
        The bundle was tuned already, is damaged, or has other classes.
    DataError
        There are fewer than 2 images or classes, a half has nothing to evaluate by, or an image or
        truth is not usable.
    OutputError
        The probabilities do not fit where temporary files are kept.
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
        raise BundleError(f"the bundle was tuned already, on {_where(predictor.card['crf'])}: give --again (again=True) to tune it anew")
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
    with _room(len(images.labels), sizes, say) as kept:
        return _Search(predictor, images, kept, metric, progress).run(trials, seed)


class _Kept:
    """The network's probabilities of every image in one file, (K, H, W) float16 each."""

    def __init__(self, file: IO[bytes], classes: int, sizes: Sequence[tuple[int, ...]]) -> None:
        self.file, self.classes, self.sizes = file, classes, sizes
        lengths = [2 * classes * height * width for height, width in sizes]
        self.starts = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]

    def __getitem__(self, index: int) -> npt.NDArray[np.float16]:
        """Return an image's probabilities as they are in the file; what is written to them is kept."""
        return np.memmap(self.file, np.float16, "r+", self.starts[index], (self.classes, *self.sizes[index]))


@contextmanager
def _room(classes: int, sizes: Sequence[tuple[int, ...]], say: Callable[[str], None]) -> Iterator[_Kept]:
    """Give a file with room for all probabilities, which is gone afterwards, whatever happens."""
    needed = sum(2 * classes * height * width for height, width in sizes)
    say(f"the network's probabilities take {_size(needed)} in {tempfile.gettempdir()} while it works")
    with ExitStack() as stack:
        try:
            if (free := shutil.disk_usage(tempfile.gettempdir()).free) < needed:
                raise OSError(f"{_size(free)} free")
            file = stack.enter_context(tempfile.TemporaryFile())
            # Room is taken up at once: a memory map that outgrows the disk would end the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            else:
                file.truncate(needed)
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()}: no room for {_size(needed)} of probabilities ({error.strerror or error}): "
                "free some, or set TMPDIR to another place"
            ) from None
        yield _Kept(file, classes, sizes)


class _Search:
    """The search on one network's probabilities."""

    def __init__(
        self,
        predictor: Predictor,
        images: Dataset,
        kept: _Kept,
        metric: Metric,
        progress: Callable[[str, int, int, float | None], None],
    ) -> None:
        self.predictor, self.images, self.kept, self.metric, self.progress = predictor, images, kept, metric, progress
        middle = (len(images) + 1) // 2
        self.first, self.second = range(middle), range(middle, len(images))
        self.few = sorted({int(place) for place in np.linspace(0, middle - 1, min(COARSE_IMAGES, middle))})
        self.what, self.done, self.total = "", 0, 0
        self.best: float | None = None
        self.trials = self.most = 0

    def run(self, trials: int, seed: int) -> Tuning:
        classes = len(self.images.labels)
        few, first, second = (PixelCounts(classes) for _ in range(3))
        for index in range(len(self.images)):
            counts = (first if index in self.first else second, *((few,) if index in self.few else ()))
            self._predict(index, counts)
            self.progress("predicting", index + 1, len(self.images), None)
        for which, half in (("first", first), ("second", second)):
            if math.isnan(_value(half.metrics(), self.metric)):
                raise DataError(
                    f"{self.images.name}: the {which} half of '{self.images.split}' has no evaluated pixel or border to tune by"
                )
        self.most = trials
        drawn = max(1, trials // 2)
        finals = 0 if len(self.few) == len(self.first) else min(FINALISTS, drawn)
        self.total = drawn * len(self.few) + (finals + trials - drawn) * len(self.first) + len(self.second)
        best, chosen = self._choose(few.metrics(), first.metrics(), np.random.default_rng(seed))
        self.what, self.done = "confirming", self.total - len(self.second)
        confirmed = self._evaluate(best, self.second)
        evaluated = (
            Candidate(len(self.first), first.metrics(), chosen.metrics()),
            Candidate(len(self.second), second.metrics(), confirmed.metrics()),
        )
        return Tuning(
            settings=best.model_copy(update={"enabled": all(half.gain(self.metric) > LEAST_GAIN for half in evaluated)}),
            metric=self.metric,
            dataset=self.images.name,
            split=self.images.split,
            chosen_on=evaluated[0],
            confirmed_on=evaluated[1],
            whole=Candidate(len(self.images), (first + second).metrics(), (chosen + confirmed).metrics()),
            trials=self.trials,
            seed=seed,
        )

    def _predict(self, index: int, counts: Sequence[PixelCounts]) -> None:
        """Keep the network's probabilities of an image, and count what it says alone."""
        sample = self.images[index]
        truth = check_mask(sample)
        label_map, room = np.empty(truth.shape, np.uint8), self.kept[index]
        for window, probs in self.predictor.iterate(sample.image, name=sample.key):
            label_map[window.slices] = probs.argmax(0).cpu().numpy()
            room[(slice(None), *window.slices)] = probs.cpu().numpy()
        for half in counts:
            half.add(sample.key, truth, label_map)

    def _evaluate(self, settings: CRFSettings, indices: Sequence[int]) -> PixelCounts:
        """Count the images ``indices`` as the CRF labels them."""
        dense, counts = settings.build(), PixelCounts(self.kept.classes)
        for index in indices:
            sample, probs = self.images[index], self.kept[index]
            truth = check_mask(sample)

            def read(window: Window, probs: npt.NDArray[np.float16] = probs) -> npt.NDArray[np.float32]:
                return np.asarray(probs[(slice(None), *window.slices)], np.float32)

            label_map = np.empty(truth.shape, np.uint8)
            for piece in iterate_refined(dense, sample.image, read, classes=self.kept.classes):
                label_map[piece.window.slices] = piece.after.argmax(0)
            counts.add(sample.key, truth, label_map)
            self.done += 1
            self.progress(self.what, self.done, self.total, self.best)
        return counts

    def _choose(self, few: dict[str, float], first: dict[str, float], rng: np.random.Generator) -> tuple[CRFSettings, PixelCounts]:
        """Return the best settings on the first half, and its counts."""
        self.what = "sampling"
        ranked: list[tuple[float, CRFSettings, PixelCounts]] = []
        for candidate in (CRFSettings(), *(_draw(rng) for _ in range(max(1, self.most // 2) - 1))):
            counts = self._evaluate(candidate, self.few)
            ranked.append((_value(counts.metrics(), self.metric), candidate, counts))
            self.trials += 1
            self.best = max(value for value, *_ in ranked) - _value(few, self.metric)
        ranked.sort(key=lambda one: -one[0])
        if len(self.few) < len(self.first):
            self.what, self.best = "comparing", None
            finalists = [(candidate, self._evaluate(candidate, self.first)) for _, candidate, _ in ranked[:FINALISTS]]
            ranked = [(_value(counts.metrics(), self.metric), candidate, counts) for candidate, counts in finalists]
        value, best, counts = max(ranked, key=lambda one: one[0])
        self.what, self.best = "refining", value - _value(first, self.metric)
        factor, seen = FIRST_FACTOR, {candidate for _, candidate, _ in ranked}
        while factor > LEAST_FACTOR and self.trials < self.most:
            gained = False
            for name in RANGES:
                for by in (factor, 1 / factor):
                    changed = _changed(best, name, by)
                    if self.trials >= self.most or changed is None or changed in seen:
                        continue
                    seen.add(changed)
                    found = self._evaluate(changed, self.first)
                    self.trials += 1
                    if (one := _value(found.metrics(), self.metric)) > value:
                        value, best, counts, gained = one, changed, found, True
                        self.best = value - _value(first, self.metric)
                        break
            factor = factor if gained else math.sqrt(factor)
        return best, counts


def _draw(rng: np.random.Generator) -> CRFSettings:
    return CRFSettings(**{name: _rounded(math.exp(rng.uniform(math.log(low), math.log(high)))) for name, (low, high) in RANGES.items()})


def _changed(settings: CRFSettings, name: str, factor: float) -> CRFSettings | None:
    """Return settings with one number changed, or None where that is not a setting."""
    value = _rounded(getattr(settings, name) * factor)
    return settings.model_copy(update={name: value}) if MIN_SIGMA <= value <= MAX_SIGMA else None


def _rounded(value: float) -> float:
    """Return ``value`` to 3 digits, so that what is evaluated is what can be read and typed."""
    return float(f"{value:.3g}")


def _value(metrics: dict[str, float], metric: Metric) -> float:
    return (metrics["mean_iou"] + metrics["boundary_iou"]) / 2 if metric == "both" else metrics[metric]


def _where(account: object) -> str:
    values = account if isinstance(account, dict) else {}
    return f"{values.get('dataset', 'unknown data')!s:.80} {values.get('split', '')!s:.80}".strip()


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    unit, name = (1e9, "GB") if count >= 1e8 else (1e6, "MB") if count >= 1e5 else (1e3, "kB")
    return f"{count / unit:.{2 if count >= 1e8 else 1}f} {name}"
