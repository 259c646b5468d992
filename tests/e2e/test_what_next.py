"""What a command prints to be run next runs as printed, and an interrupt says what is left and how to go on."""

import json
import os
import re
import shlex
import shutil
import signal

import pytest
from PIL import Image

from painting import paint, small_recipe
from upscore import demo
from upscore.data.open_dataset import open_dataset
from upscore.evaluation.hints import one_class_baseline
from upscore.inference import predict_files, predictor
from upscore.models.bundle import Bundle
from upscore.training import loop
from upscore.training.launch import train


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    return paint(tmp_path_factory.mktemp("my data"))


@pytest.fixture(scope="module")
def trained(painted, tmp_path_factory):
    return train(small_recipe(painted, tmp_path_factory.mktemp("my runs") / "a run", **{"run.epochs": 1})).folder


def command_after(words, text):
    """Return the words of the command that is printed after some words."""
    (found,) = re.findall(rf"^(?:upscore: )?.*{words}(upscore .*)$", text, re.MULTILINE)
    return shlex.split(found)[1:]


def test_train_then_evaluate_then_predict_as_printed(upscore, painted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "my recipe.toml"
    small_recipe(painted, tmp_path / "unused", **{"run.epochs": 4, "data.val": "train", "optimizer.lr": 0.005}).save(recipe)
    code, printed, aside = upscore("train", "--recipe", recipe, "--out", "my run")
    assert code == 0, aside
    metrics = Bundle.load(tmp_path / "my run" / "best").card["metrics"]
    baseline = one_class_baseline({name: values["pixels"] for name, values in metrics["classes"].items()})
    assert f"baseline, every pixel {baseline.name}: mean IoU {100 * baseline.mean_iou:.2f}" in printed
    assert "hint: train has 6 images: metrics are noisy" in printed
    next_words = command_after("next: ", printed)
    assert next_words == ["evaluate", "my run", str(painted), "--split", "train"]
    code, printed, aside = upscore(*next_words, "--flips", "--device", "cpu")
    assert code == 0, aside
    assert f"baseline, every pixel {baseline.name}: mean IoU {100 * baseline.mean_iou:.2f}" in printed
    next_words = command_after("next: ", printed)
    assert {"--flips", "--device", "predictions-train"} <= set(next_words)
    code, printed, aside = upscore(*next_words)
    assert code == 0, aside
    account = json.loads((tmp_path / "predictions-train" / "predictions.json").read_text())
    assert (account["labelled"], account["settings"]["flips"]) == (6, True)


def test_images_among_masks_are_named_one_by_one(upscore, painted, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "my flat"
    flat.mkdir()
    for path in (painted.parent / "images" / "train").iterdir():
        shutil.copy(path, flat / path.name)
        shutil.copy(painted.parent / "masks" / "train" / path.name, flat / f"{path.stem}_mask.png")
    (flat / "classes.txt").write_text("ground\nsquare\nbar\n")
    code, printed, aside = upscore("evaluate", trained, "my flat")
    assert code == 0, aside
    words = command_after("next: ", printed)
    code, _, aside = upscore(*words)
    assert code == 0, aside
    found = json.loads((tmp_path / "predictions-val" / "predictions.json").read_text())
    assert found["labelled"] > 0
    assert not any("mask" in row["file"] for row in found["predictions"])


def test_a_run_that_was_still_rising_goes_on_as_printed(upscore, painted, tmp_path, monkeypatch):
    monkeypatch.setattr("upscore.evaluation.hints.is_still_rising", lambda history: len(history) == 2)
    small_recipe(painted, tmp_path / "my run").save(tmp_path / "recipe.toml")
    code, printed, aside = upscore("train", "--recipe", tmp_path / "recipe.toml", "--out", tmp_path / "my run")
    assert code == 0, aside
    words = command_after("hint: validation was still rising: train longer with ", printed)
    assert words == ["train", "--resume", "--out", str(tmp_path / "my run"), "--epochs", "3"]
    code, printed, aside = upscore(*words)
    assert code == 0, aside
    assert "lengthened from 6 to 9 steps" in aside
    assert "rising" not in printed


def test_tuning_names_what_evaluates_it(upscore, painted, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, aside = upscore("tune", trained, painted, "--trials", 1, "--out", tmp_path / "my tuned")
    assert code == 0, aside
    words = command_after("next: ", printed)
    code, _, aside = upscore(*words)
    assert (words[0], code) == ("evaluate", 0), aside


def test_the_demo_names_what_explains_one_of_its_images(upscore, painted, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "demo_recipe", lambda out, seed: small_recipe(painted, out / "run", **{"run.epochs": 1}))
    monkeypatch.setattr(demo, "open_dataset", lambda name, split: open_dataset(painted, "val"))
    monkeypatch.setattr(demo, "IMAGES", 2)
    code, printed, aside = upscore("demo", "--out", tmp_path / "my demo")
    assert code == 0, aside
    words = command_after("next: ", printed)
    code, _, aside = upscore(*words, "--grid", "0x0")
    assert (words[0], code) == ("explain", 0), aside
    assert (tmp_path / "my demo" / "explained.html").is_file()


def interrupting(function, *, at):
    """Return ``function``, whose ``at``-th call is interrupted at its beginning."""
    calls = iter(range(1, 10_000))

    def run(*args, **values):
        if next(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **values)

    return run


def test_training_that_is_interrupted_goes_on_as_printed(upscore, painted, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.toml"
    small_recipe(painted, tmp_path / "unused").save(recipe)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupting(loop.train_step, at=3))
        code, _, aside = upscore("train", "--recipe", recipe, "--out", tmp_path / "my run")
    assert code == 130
    words = command_after("and saved: go on with ", aside)
    code, printed, aside = upscore(*words)
    assert code == 0, aside
    assert "best mIoU" in printed


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_prediction_that_is_interrupted_lists_what_is_done_and_goes_on_as_printed(upscore, painted, trained, tmp_path, monkeypatch, at):
    images, out = painted.parent / "images" / "train", tmp_path / "my labels"
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "segment_image", interrupting(predictor.segment_image, at=at))
        code, printed, aside = upscore("predict", trained, images, "--out", out, "--flips")
    assert (code, printed) == (130, "")
    account = json.loads((out / "predictions.json").read_text())
    assert account["labelled"] == len(account["predictions"]) == at - 1
    assert f"interrupted: {at - 1} of 6 images are labelled, {out / 'predictions.json'} lists them" in aside
    assert {path.stem for path in out.glob("*.png")} == {f"{i:03}" for i in range(at - 1)}
    words = command_after("label the rest with ", aside)
    assert words == ["predict", str(trained), str(images), "--out", str(out), "--flips", "--resume"]
    code, printed, aside = upscore(*words)
    assert code == 0, aside
    assert json.loads((out / "predictions.json").read_text())["labelled"] == 6
    for path in images.glob("*.png"):
        with Image.open(out / path.name) as written:
            assert written.mode == "P"


@pytest.mark.parametrize(
    ("words", "fails", "left"),
    [
        (("evaluate", "RUN", "DATA"), "upscore.evaluation.evaluate.predict_sample", "nothing was written: metrics are of all images"),
        (("tune", "RUN", "DATA"), "upscore.evaluation.tune.tune", "the settings are as they were"),
        (("explain", "RUN", "IMAGE"), "upscore.explain.explanation.measure_receptive_fields", "no page was written"),
        (("train", "DATA"), "upscore.training.plan.check_splits", "nothing was started, and nothing written"),
    ],
)
def test_other_commands_say_what_an_interrupt_leaves(upscore, painted, trained, tmp_path, monkeypatch, words, fails, left):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    given = {"RUN": trained, "DATA": painted, "IMAGE": painted.parent / "images" / "val" / "000.png"}
    monkeypatch.setattr(fails, lambda *args, **values: signal.raise_signal(signal.SIGINT))
    code, _, aside = upscore(*(given.get(word, word) for word in words))
    assert (code, aside.splitlines()[-1]) == (130, f"upscore: interrupted: {left}")
    assert os.listdir(tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "fails", "levers"),
    [
        (("evaluate", "RUN", "DATA"), "upscore.evaluation.report.shrink", "use smaller images, or another --device"),
        (("tune", "RUN", "DATA"), "upscore.evaluation.tune.tune", "use smaller images, or another --device"),
        (("explain", "RUN", "IMAGE"), "upscore.explain.explanation.measure_receptive_fields", "lower --max-pixels (now 307200)"),
        (("proposal-sweep", "RUN", "DATA"), "upscore.evaluation.proposal_sweep.sweep_proposals", "use smaller images"),
        (("train", "DATA"), "upscore.training.plan.check_splits", "close other programs"),
    ],
)
def test_memory_that_runs_out_is_one_line_with_its_levers(upscore, painted, trained, tmp_path, monkeypatch, words, fails, levers):
    monkeypatch.chdir(tmp_path)
    given = {"RUN": trained, "DATA": painted, "IMAGE": painted.parent / "images" / "val" / "000.png"}
    monkeypatch.setattr(fails, lambda *args, **values: (_ for _ in ()).throw(MemoryError()))
    code, _, aside = upscore(*(given.get(word, word) for word in words))
    assert code == 1
    last = aside.splitlines()[-1]
    assert last.startswith(f"upscore: memory ran out: {levers}")
    assert "Traceback" not in aside


def test_an_account_that_cannot_be_read_lists_nothing(tmp_path):
    assert predict_files.list_labelled(tmp_path) == set()
    (tmp_path / "predictions.json").write_text("{")
    assert predict_files.list_labelled(tmp_path) == set()
