"""Tuning on made-up networks of which it is known whether a CRF helps them."""

from __future__ import annotations

import json
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speckles import LABELS, Scenes, Speckled
from upscore.errors import BundleError, DataError, OutputError, RecipeError
from upscore.evaluation import crf_search as search
from upscore.evaluation import probability_store
from upscore.evaluation import tune as module
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.tune import Tuning, tune
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.settings import CRFSettings, InferenceSettings
from upscore.types import LabelSpace, Sample


def network(**settings: object) -> Predictor:
    return Predictor(Speckled(), labels=LABELS, **settings)


@pytest.fixture(scope="module")
def tuned() -> Tuning:
    return tune(network(), Scenes(), trials=6)


def test_specks_are_found_to_be_worth_mending(tuned: Tuning):
    assert tuned.settings.enabled
    for half in (tuned.chosen_on, tuned.confirmed_on, tuned.whole):
        assert half.after["mean_iou"] > half.before["mean_iou"] + 0.05
        assert half.gain("mean_iou") == half.after["mean_iou"] - half.before["mean_iou"]
    assert (tuned.chosen_on.images, tuned.confirmed_on.images, tuned.whole.images) == (3, 3, 6)
    assert tuned.trials == 6
    assert tuned.verdict.startswith("the CRF is on: mean IoU ")


def test_the_scores_are_those_of_an_evaluation(tuned: Tuning):
    evaluated = evaluate(network(crf=tuned.settings), Scenes())
    assert tuned.whole.before["mean_iou"] == evaluated.before.metrics.mean_iou
    assert tuned.whole.before["boundary_iou"] == evaluated.before.border_metrics.boundary_iou
    for name, value in (("mean_iou", evaluated.metrics.mean_iou), ("trimap_iou", evaluated.border_metrics.trimap_iou)):
        assert tuned.whole.after[name] == pytest.approx(value, abs=2e-3)  # probabilities were rounded


def test_the_same_seed_finds_the_same(tuned: Tuning):
    assert tune(network(), Scenes(), trials=6) == tuned
    one, other = (search._sample(np.random.default_rng(seed)) for seed in (0, 1))
    assert one == search._sample(np.random.default_rng(0)) != other


@pytest.mark.parametrize("stubborn", [range(6), range(3), range(3, 6)], ids=["both", "first", "second"])
def test_it_is_off_unless_both_halves_gain(stubborn: range):
    found = tune(network(), Scenes(stubborn), trials=2)
    assert not found.settings.enabled
    assert found.verdict.startswith("the CRF is off, since it does not help on both halves: mean IoU ")
    helped = found.chosen_on if stubborn == range(3, 6) else found.confirmed_on if stubborn == range(3) else None
    assert helped is None or helped.gain("mean_iou") > 0.05


@pytest.mark.parametrize("metric", ["boundary_iou", "trimap_iou", "both"])
def test_what_is_made_large_decides(metric: str):
    found = tune(network(), Scenes(), trials=1, metric=metric)
    assert found.settings == CRFSettings(enabled=found.settings.enabled)  # one trial evaluates the usual numbers
    assert found.settings.enabled is all(half.gain(metric) > module.MIN_GAIN for half in (found.chosen_on, found.confirmed_on))
    assert ("mean of mean IoU and boundary IoU" if metric == "both" else metric.replace("_iou", " IoU")) in found.verdict


def test_choosing_never_looks_at_the_second_half(monkeypatch: pytest.MonkeyPatch):
    seen: list[set[int]] = []
    evaluate = search.CRFSearch._evaluate
    monkeypatch.setattr(search.CRFSearch, "_evaluate", lambda self, s, indices: seen.append(set(indices)) or evaluate(self, s, indices))
    tune(network(), Scenes(), trials=8)
    assert len(seen) > 8
    assert all(indices <= {0, 1, 2} for indices in seen[:-1])
    assert seen[-1] == {3, 4, 5}


def test_refining_goes_on_from_the_best_and_gets_better(monkeypatch: pytest.MonkeyPatch):
    """On a smooth made-up score with its top at 20 and 6, which the numbers drawn miss."""

    class Counts:
        def __init__(self, settings: CRFSettings) -> None:
            self.far = abs(np.log(settings.bilateral_sigma / 20)) + abs(np.log(settings.bilateral_sigma_colour / 6))

        def __add__(self, other: Counts) -> Counts:
            return self

        def metrics(self) -> dict[str, float]:
            return dict.fromkeys(("mean_iou", "boundary_iou", "trimap_iou"), float(1 - self.far / 10))

    monkeypatch.setattr(search.CRFSearch, "_evaluate", lambda self, settings, indices: Counts(settings))
    coarse, fine = (tune(network(), Scenes(), trials=trials).settings for trials in (10, 80))
    assert abs(np.log(fine.bilateral_sigma / 20)) < 0.1
    assert abs(np.log(fine.bilateral_sigma_colour / 6)) < 0.1
    assert abs(np.log(coarse.bilateral_sigma / 20)) > 0.1


def test_a_bundle_remembers_and_is_not_tuned_twice(tuned: Tuning, tmp_path):
    bundle = small_bundle(tile=64)
    tuned.apply(bundle).save(tmp_path / "tuned")
    loaded = Bundle.load(tmp_path / "tuned")
    predictor = Predictor(loaded, device="cpu")
    assert predictor.settings.crf == tuned.settings
    assert predictor.settings.tile == 64
    account = loaded.card["crf"]
    assert (account["dataset"], account["split"], account["metric"]) == ("scenes", "val", "mean_iou")
    assert account["whole"]["before"]["mean_iou"] < account["whole"]["after"]["mean_iou"]
    assert json.loads(json.dumps(account, allow_nan=False)) == account
    assert bundle.inference.crf is None
    assert "crf" not in bundle.card
    with pytest.raises(BundleError, match="tuned already, on scenes val"):
        tune(loaded, Scenes(), device="cpu")
    assert tune(loaded, Scenes(count=2), device="cpu", trials=1, again=True).trials == 1


def small_bundle(labels: LabelSpace = LABELS, **inference: object) -> Bundle:
    torch.manual_seed(0)
    arguments = {"backbone": "vgg16", "width": 1 / 32}
    return Bundle.of(
        "fcn32s", arguments, create_model("fcn32s", num_classes=len(labels), **arguments), labels, inference=InferenceSettings(**inference)
    )


def test_what_cannot_be_tuned_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RecipeError, match="metric 'miou', expected mean_iou"):
        tune(network(), Scenes(), metric="miou")
    with pytest.raises(RecipeError, match="0 trials"):
        tune(network(), Scenes(), trials=0)
    with pytest.raises(RecipeError, match="CRF is enabled"):
        tune(network(crf=True), Scenes())
    with pytest.raises(DataError, match="one image"):
        tune(network(), Scenes(count=1))
    with pytest.raises(BundleError, match="classes"):
        tune(small_bundle(LabelSpace(("blue", "green"))), Scenes(), device="cpu")

    one = LabelSpace(("all",))

    class Plain(Scenes):
        labels = one

    with pytest.raises(DataError, match="one class"):
        tune(small_bundle(one), Plain(), device="cpu")

    class Blank(Scenes):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample if index < 3 else Sample(sample.key, sample.image, np.full_like(sample.label, 255))

    with pytest.raises(DataError, match="second half of 'val' has no evaluated pixel"):
        tune(network(), Blank())

    class Foreign(Scenes):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.key, sample.image, sample.label + np.uint8(7) * (index == 4))

    with pytest.raises(DataError, match="k4: found label"):
        tune(network(), Foreign())

    class Lost(Scenes):
        def __getitem__(self, index: int) -> Sample:
            if self.reads == 8:
                raise OSError("the disk went away")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="went away"):  # which is not for want of room
        tune(network(), Lost())


def test_room_is_asked_for_and_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said, needed = [], sum(2 * 2 * (40 + i) * 52 for i in range(6))
    tune(network(), Scenes(), trials=1, report=said.append)
    assert said == [f"the network's probabilities take {needed / 1e3:.1f} kB in {tmp_path} while tuning runs"]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(probability_store.shutil, "disk_usage", lambda place: SimpleNamespace(free=needed - 1))
    dataset = Scenes()
    with pytest.raises(OutputError, match=r"no space for .* of probabilities"):
        tune(network(), dataset, trials=1)
    assert dataset.reads == 6  # sizes were looked at, and nothing else was done


def test_progress_ends_where_it_said():
    seen: list[tuple[str, int, int, float | None]] = []
    tune(network(), Scenes(), trials=4, progress=lambda *step: seen.append(step))
    for what, end in (("checking masks", 6), ("predicting", 6), ("confirming", 2 * 3 + 2 * 3 + 3)):
        assert [step for step in seen if step[0] == what][-1][1:3] == (end, end)
    gains = [step[3] for step in seen if step[0] in ("refining", "confirming")]
    assert gains == sorted(gains)
    assert [step[1] for step in seen[12:]] == list(range(1, 16))


def test_what_was_drawn_is_compared_on_the_whole_half(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "COARSE_IMAGES", 2)
    seen: list[tuple[CRFSettings, list[int]]] = []
    evaluate = search.CRFSearch._evaluate
    monkeypatch.setattr(
        search.CRFSearch, "_evaluate", lambda self, s, indices: seen.append((s, list(indices))) or evaluate(self, s, indices)
    )
    steps: list[tuple[str, int, int, float | None]] = []
    found = tune(network(), Scenes(), trials=10, progress=lambda *step: steps.append(step))
    assert [indices for _, indices in seen[:5]] == [[0, 2]] * 5
    assert all(indices == [0, 1, 2] for _, indices in seen[5:-1])
    assert {s for s, _ in seen[5:8]} <= {s for s, _ in seen[:5]}
    assert found.trials == 10
    assert steps[-1][1] == steps[-1][2]
