"""A run from recipe to bundle: the same weights however it was interrupted, read or divided."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from painting import paint, small_recipe
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError, ModelError, RecipeError, TrainingError, UpscoreError
from upscore.losses import Objective
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.training import loop, network, run_state, validation
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.resume import resume


def weights_of(folder):
    return load_file(folder / "last" / "weights.safetensors") | {
        f"best/{name}": tensor for name, tensor in load_file(folder / "best" / "weights.safetensors").items()
    }


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def unbroken(painted, tmp_path_factory):
    """A run that nothing disturbed, to compare with."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    return train(small_recipe(painted, out, **{"run.average": 0.9}))


def test_a_run_leaves_everything_needed_to_use_and_repeat_it(unbroken, painted):
    folder = unbroken.folder
    assert {path.name for path in folder.iterdir()} == {"recipe.toml", "log.csv", "checkpoint.safetensors", "best", "last"}
    recipe = Recipe.load(folder / "recipe.toml")
    assert set(recipe.open_settings()) <= {"input.mean", "input.std", "model.start_from", "run.steps"}
    assert recipe.chosen["optimizer.lr"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert all(0 <= float(row["miou"]) <= 1 for row in rows)
    card = json.loads((folder / "best" / "bundle.json").read_text())["card"]
    assert card["recipe_digest"] == recipe.digest()
    assert 0 <= card["metrics"]["mean_iou"] <= 1
    assert Bundle.load(folder).labels.names == ("ground", "square", "bar")


def test_the_same_recipe_gives_the_same_weights(unbroken, painted, tmp_path):
    again = train(Recipe.load(unbroken.folder / "recipe.toml").with_values({"run.out": str(tmp_path / "again"), "run.workers": 2}))
    assert_same_weights(weights_of(unbroken.folder), weights_of(again.folder))
    assert [r["miou"] for r in again.progress.history] == [r["miou"] for r in unbroken.progress.history]


class _Bang(Exception):
    pass


def _breaking(function, after):
    """Return ``function`` as it is for ``after`` calls, and broken from then on."""
    calls = iter(range(after))

    def run(*args, **values):
        if next(calls, None) is None:
            raise _Bang
        return function(*args, **values)

    return run


@pytest.mark.parametrize("moment", ["step 2", "step 5", "validation", "checkpoint", "bundle"])
def test_a_run_broken_off_at_any_moment_ends_in_the_same_weights(unbroken, painted, tmp_path, monkeypatch, moment):
    owner, target, after = {
        "step 2": (Objective, "__call__", 1),
        "step 5": (Objective, "__call__", 7),  # after three steps and three images of a validation, and one step
        "validation": (validation, "evaluate", 1),
        "checkpoint": (run_state, "write_checkpoint", 2),
        "bundle": (run_state, "write_checkpoint", 1),
    }[moment]
    out = tmp_path / "broken"
    recipe = small_recipe(painted, out, **{"run.average": 0.9, "run.checkpoint_minutes": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr(owner, target, _breaking(getattr(owner, target), after))
        with pytest.raises(_Bang):
            train(recipe)
    finished = resume(out)
    assert_same_weights(weights_of(unbroken.folder), weights_of(finished.folder))
    assert [r["loss"] for r in finished.progress.history] == [r["loss"] for r in unbroken.progress.history]


def test_precise_statistics_are_those_of_the_kept_weights_and_disturb_nothing(painted, tmp_path, monkeypatch):
    """Training, its checkpoint and a broken run's end are as without them; only what is evaluated and kept differs."""
    values = {"model.backbone": "test_resnet", "model.arguments": {}, "run.average": 0.9, "run.checkpoint_minutes": 1e-9}
    plain = train(small_recipe(painted, tmp_path / "plain", **values))
    whole = train(small_recipe(painted, tmp_path / "whole", **values, **{"run.precise_bn": 3}))
    assert [r["loss"] for r in whole.progress.history] == [r["loss"] for r in plain.progress.history]
    assert_same_weights(*(load_file(run.folder / "checkpoint.safetensors") for run in (plain, whole)))
    measured, running = weights_of(whole.folder), weights_of(plain.folder)
    statistics = {name for name in measured if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    differing = {name for name in measured if not name.startswith("best/") and not torch.equal(measured[name], running[name])}
    assert differing
    assert differing <= statistics
    assert {int(measured[name]) for name in measured if name.endswith("num_batches_tracked")} == {3}

    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", _breaking(validation.evaluate, 1))
        with pytest.raises(_Bang):
            train(small_recipe(painted, tmp_path / "broken", **values, **{"run.precise_bn": 3}))
    finished = resume(tmp_path / "broken")
    assert_same_weights(measured, weights_of(finished.folder))
    resume(finished.folder)
    assert_same_weights(measured, weights_of(finished.folder))


def test_a_killed_process_leaves_a_run_that_ends_in_the_same_weights(unbroken, painted, tmp_path):
    """SIGKILL at arbitrary times, again and again, until the run gets through."""
    out = tmp_path / "killed"
    recipe = tmp_path / "recipe.toml"
    small_recipe(painted, out, **{"run.average": 0.9, "run.checkpoint_minutes": 1e-9}).save(recipe)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    for delay in (0.02, 0.3, 0.6, 0.9, None):
        if (out / "recipe.toml").exists():
            words = ["train", "--resume", "--out", str(out)]
        else:
            words = ["train", "--recipe", str(recipe), "--out", str(out)]
        process = subprocess.Popen(
            [sys.executable, "-m", "upscore.cli", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if delay is not None:
            while process.poll() is None and not (out / "recipe.toml").exists():
                time.sleep(0.01)
            time.sleep(delay)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        said = process.communicate()[0]
        if process.returncode == 0:
            break
    assert kills
    assert process.returncode == 0, said
    assert_same_weights(weights_of(unbroken.folder), weights_of(out))
    assert not list(out.glob(".*.part"))


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_when_there_is_room(unbroken, painted, tmp_path):
    out, recipe = tmp_path / "full", tmp_path / "recipe.toml"
    small_recipe(painted, out, **{"run.average": 0.9}).save(recipe)
    limit = 2 * (unbroken.folder / "best" / "weights.safetensors").stat().st_size  # the bundle fits, the checkpoint does not
    assert limit < (unbroken.folder / "checkpoint.safetensors").stat().st_size
    full = subprocess.run(
        [sys.executable, "-m", "upscore.cli", "train", "--recipe", str(recipe), "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 1
    assert [line for line in full.stderr.splitlines() if line.startswith("upscore:")] == full.stderr.splitlines()[-1:]
    assert "checkpoint.safetensors: cannot be written" in full.stderr
    assert {path.name for path in out.iterdir()} == {"recipe.toml", "best"}
    assert_same_weights(weights_of(unbroken.folder), weights_of(resume(out).folder))


def test_epochs_too_short_to_be_worth_a_checkpoint_are_not_all_kept(painted, tmp_path, monkeypatch):
    kept = []

    def save(path, **values):
        kept.append(len(values["progress"].history))
        write_checkpoint(path, **values)

    write_checkpoint = run_state.write_checkpoint
    monkeypatch.setattr(run_state, "write_checkpoint", save)
    monkeypatch.setattr(loop, "MIN_INTERVAL", 1e9)
    run = train(small_recipe(painted, tmp_path / "run", **{"run.epochs": 4}))
    assert kept == [1, 4]  # what one takes is known after the first
    assert len(run.progress.history) == 4


def test_a_long_epoch_is_evaluated_in_parts_and_broken_off_in_one_goes_on(painted, tmp_path, monkeypatch):
    """Three steps an epoch, evaluated twice in each: nothing but the evaluations and the rows is other than without."""
    values = {"run.batch_size": 2, "run.average": 0.9, "run.checkpoint_minutes": 1e-9}
    plain = train(small_recipe(painted, tmp_path / "plain", **values))
    parts = train(small_recipe(painted, tmp_path / "parts", **values, **{"run.validate_every": 0.5}))
    assert [(row["epoch"], row["step"]) for row in parts.progress.history] == [(0.5, 2), (1, 3), (1.5, 5), (2, 6)]
    assert all("miou" in row for row in parts.progress.history)
    assert parts.progress.best_epoch in (0.5, 1, 1.5, 2)
    assert_same_weights(*(load_file(run.folder / "last" / "weights.safetensors") for run in (plain, parts)))
    assert parts.progress.history[1]["miou"] == plain.progress.history[0]["miou"]

    broken = small_recipe(painted, tmp_path / "broken", **values, **{"run.validate_every": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", _breaking(Objective.__call__, 10))  # in the third part: after four steps and two validations
        with pytest.raises(_Bang):
            train(broken)
    assert_same_weights(weights_of(parts.folder), weights_of(resume(tmp_path / "broken").folder))


def test_a_part_of_an_epoch_is_a_step_at_least_and_the_last_one_is_cut_short(painted, tmp_path):
    values = {"run.epochs": None, "run.steps": 2, "run.batch_size": 2, "run.validate_every": 0.001}
    run = train(small_recipe(painted, tmp_path / "run", **values))
    assert [(row["epoch"], row["step"]) for row in run.progress.history] == [(0.3333, 1), (0.6667, 2)]


def test_a_finished_run_resumed_stays_as_it_is(unbroken):
    before = weights_of(unbroken.folder)
    resume(unbroken.folder)
    assert_same_weights(before, weights_of(unbroken.folder))


def test_two_processes_follow_the_objective_of_one(painted, tmp_path):
    """Without dropout, parts and ranks change the weights by rounding only."""
    values = {
        "model.arguments": {"width": 0.03125, "dropout": 0.0},
        "run.epochs": 1,
        "run.batch_size": 4,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.05,
    }
    one = train(small_recipe(painted, tmp_path / "one", **values))
    parts = train(small_recipe(painted, tmp_path / "parts", **values, **{"run.accumulate": 2}))
    ranks = train(small_recipe(painted, tmp_path / "ranks", **values, **{"run.devices": 2}))
    for other in (parts, ranks):
        for name, tensor in weights_of(one.folder).items():
            torch.testing.assert_close(tensor, weights_of(other.folder)[name], rtol=1e-4, atol=1e-6, msg=name)
        assert other.progress.history[0]["miou"] == pytest.approx(one.progress.history[0]["miou"], abs=1e-3)


def test_two_processes_take_a_network_of_timms(painted, tmp_path):
    """It is unpickled in each of them, where nobody has imported timm yet."""
    values = {"model.backbone": "resnet10t", "model.arguments": {}, "run.epochs": 1, "run.batch_size": 6, "run.devices": 2}
    assert train(small_recipe(painted, tmp_path / "run", **values)).progress.step == 1


def test_parts_change_no_loss_by_more_than_rounding(painted, tmp_path):
    """Losses of regions and of hard pixels are taken of each image by itself."""
    values = {
        "model.arguments": {"width": 0.03125, "dropout": 0.0},
        "run.epochs": 1,
        "run.batch_size": 6,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.05,
        "loss.terms": {"dice": 1.0, "lovasz": 1.0, "ohem": 1.0, "focal": 1.0, "boundary": 0.1},
        "loss.class_weights": "median",
        "run.average": 0.0,
    }
    one = train(small_recipe(painted, tmp_path / "one", **values))
    parts = train(small_recipe(painted, tmp_path / "parts", **values, **{"run.accumulate": 3}))
    assert parts.progress.history[0]["loss"] == pytest.approx(one.progress.history[0]["loss"], rel=1e-5)
    for name, tensor in weights_of(one.folder).items():
        torch.testing.assert_close(tensor, weights_of(parts.folder)[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_recipe_trains_with_unets_weights_and_deformation(painted, tmp_path, monkeypatch):
    """w(x) is the weight of the class and the separation's term, once: the objective adds no weight of classes to it."""
    seen = []

    def call(objective, logits, labels, *, pixel_weights=None, **values):
        if logits.requires_grad:  # not in validation
            seen.append((objective.class_weights, labels, pixel_weights))
        return real(objective, logits, labels, pixel_weights=pixel_weights, **values)

    real = Objective.__call__
    monkeypatch.setattr(Objective, "__call__", call)
    values = {"loss.border_weight": 10.0, "loss.border_of": ["square", "bar"], "loss.class_weights": "median", "augment.elastic": 4.0}
    run = train(small_recipe(painted, tmp_path / "run", **values, **{"augment.border": "mirror", "run.epochs": 1}))
    assert np.isfinite(run.progress.history[0]["loss"])
    lightest = set()
    for class_weights, labels, weights in seen:
        assert class_weights is None
        assert weights.shape == labels.shape
        lightest |= {(label, round(float(weights[labels == label].min()), 4)) for label in range(3) if (labels == label).any()}
        assert float(weights[labels == 0].max()) > float(weights[labels == 0].min())
        assert float(weights[labels == 1].max()) == float(weights[labels == 1].min())
    assert len(lightest) == 3  # the weight of each class


def test_a_recipe_trains_with_loss_sampling(unbroken, painted, tmp_path):
    """Fewer pixels of each step, drawn by (seed, step, rank): other weights, and the same again."""
    values = {"run.average": 0.9, "loss.sampling": 0.25}
    one, again = (train(small_recipe(painted, tmp_path / name, **values)) for name in ("one", "again"))
    assert_same_weights(weights_of(one.folder), weights_of(again.folder))
    assert one.progress.history[0]["loss"] != unbroken.progress.history[0]["loss"]
    assert one.progress.history[0]["loss"] == pytest.approx(unbroken.progress.history[0]["loss"], rel=0.2)  # its expectation


def learned_by_heart(data, out, **values) -> float:
    """Train on four images and validate on the same; return the pixel accuracy."""
    always = {"run.validate_every": 1000, "run.patience": 1000, "run.average": 0.0, "run.batch_size": 4, "data.val": "train"}
    still = {"augment.scale": [1.0, 1.0], "augment.flip": 0.0} | {
        f"augment.{name}": 0.0 for name in ("brightness", "contrast", "saturation", "hue")
    }
    run = train(small_recipe(data, out, **(always | still | {"model.arguments": {}} | values)))
    return run.progress.history[-1]["pixel_accuracy"]


def test_the_loop_learns(tmp_path):
    data = paint(tmp_path / "data", train=4, scale=4)
    values = {"model.backbone": "test_resnet", "augment.crop_size": [192, 224], "run.epochs": 60, "optimizer.lr": 3e-3}
    assert learned_by_heart(data, tmp_path / "run", **values) > 0.97


def test_the_loop_learns_four_real_photographs(shared_data, tmp_path):
    """A piece of four images of CamVid by heart, ten classes in it.

    Scores on a grid of stride 8 bound what can be had: fitted to the truth themselves, without a
    network, they give 98.8 % here. (97.4 % on as large a piece of the middle, whose far poles and
    people are thinner than a cell, and 98.0 % on the whole images.)
    """
    camvid, piece = shared_data / "camvid", (0, 200, 160, 328)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / kind / "train").mkdir(parents=True)
        for path in sorted((camvid / kind / "train").glob(f"*.{suffix}"))[:320:80]:
            with Image.open(path) as image:
                image.crop(piece).save(tmp_path / kind / "train" / f"{path.stem}.png")
    (tmp_path / "dataset.yaml").write_text((camvid / "dataset.yaml").read_text())
    values = {
        "model.backbone": "mobilenetv2_100",
        "model.weights": str(shared_data.parent / "weights" / "mobilenet_v2-b0353104.pth"),
        "augment.crop_size": [128, 160],
        "run.epochs": 60,
        "optimizer.lr": 1e-2,
    }
    assert learned_by_heart(tmp_path / "dataset.yaml", tmp_path / "run", **values) > 0.97


def test_stages_start_where_the_coarser_network_ended(painted, tmp_path):
    coarse = train(small_recipe(painted, tmp_path / "32s", **{"model.name": "fcn32s", "run.epochs": 1}))
    ready = plan(small_recipe(painted, tmp_path / "16s", **{"model.name": "fcn16s", "model.start_from": str(coarse.folder)}))
    assert ready.recipe.optimizer.lr == pytest.approx(1e-4)
    from upscore.training.network import build_network

    finer, coarser = build_network(ready.recipe, ready.census.labels).state_dict(), Bundle.load(coarse.folder).weights
    assert all(torch.equal(finer[name], tensor) for name, tensor in coarser.items())
    assert not finer["decoder.score_pool4.weight"].any()


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(painted, tmp_path, monkeypatch):
    real, calls = Objective.__call__, {"n": 0}

    def poisoned(*args, **values):
        calls["n"] += torch.is_grad_enabled()  # not in validation
        return real(*args, **values) * (float("nan") if calls["n"] == 5 else 1)

    monkeypatch.setattr(Objective, "__call__", poisoned)
    with pytest.raises(TrainingError, match="epoch 2, step 5") as caught:
        train(small_recipe(painted, tmp_path / "nan"))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(Objective, "__call__", real)
    weights = load_file(tmp_path / "nan" / "checkpoint.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_run_without_improvement_stops_early(painted, tmp_path):
    run = train(
        small_recipe(painted, tmp_path / "early", **{"run.epochs": 20, "run.patience": 1, "optimizer.lr": 1e-12, "run.average": 0.0})
    )
    assert run.progress.stopped
    assert len(run.progress.history) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data.path": "nowhere"}, "nowhere"),
        ({"model.name": "fcn9s"}, "fcn8s"),
        ({"model.backbone": "vgg61"}, "vgg16"),
        ({"model.name": "segnet"}, "has its own encoder"),
        ({"model.name": "deconvnet", "model.backbone": None, "model.arguments": {"width": "wide"}}, "above 0"),
        ({"model.weights": "missing.pth"}, "missing.pth"),
        ({"run.batch_size": 3, "run.accumulate": 2}, "multiple of 2"),
        ({"run.device": "cuda"}, "cpu"),
        ({"model.arguments": {"widht": 1}}, "width"),
        ({"data.val": "elsewhere"}, "elsewhere"),
        ({"loss.terms": {"dice": 1.0}, "loss.sampling": 0.5}, "found sampling but no loss term that reads it: add one of cross_entropy"),
        (
            {"loss.terms": {"dice": 1.0}, "loss.border_weight": 10.0, "loss.border_of": ["bar"]},
            "found loss.border_weight 10 but no loss term",
        ),
        ({"run.precise_bn": 2}, "no batch normalisation"),
        ({"loss.border_weight": 10.0}, "loss.border_of"),
        ({"loss.border_weight": 10.0, "loss.border_of": ["baar"]}, "did you mean 'bar'"),
        ({"loss.separate_with": "grund"}, "did you mean 'ground'"),
        ({"loss.border_of": ["bar"]}, "loss.border_weight"),
        ({"loss.terms": {"dice": 1.0}, "loss.class_weights": "median"}, "found class weights but no loss term"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(painted, tmp_path, values, words):
    if values.get("run.device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UpscoreError) as caught:
        plan(small_recipe(painted, tmp_path / "run", **values))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_be_fetched_are_left_out_unless_asked_for(painted, tmp_path, monkeypatch):
    def unreachable(*args, weights, **values):
        if weights == "imagenet":
            raise ModelError("cannot be downloaded")
        return create_model(*args, weights=weights, **values)

    monkeypatch.setattr(network, "create_model", unreachable)
    values = {"model.backbone": "test_resnet", "model.arguments": {}}
    left_open = plan(small_recipe(painted, tmp_path / "run", **values, **{"model.weights": None}))
    assert left_open.recipe.model.weights == "none"
    assert "cannot be downloaded" in left_open.recipe.chosen["model.weights"]
    assert "cannot be downloaded" in next(choice.why for choice in left_open.choices if choice.setting == "model.weights")
    with pytest.raises(ModelError, match="cannot be downloaded"):
        plan(small_recipe(painted, tmp_path / "run", **values, **{"model.weights": "imagenet"}))


def test_a_folder_in_use_and_a_folder_that_is_no_run_are_refused(unbroken, painted, tmp_path):
    with pytest.raises(TrainingError, match="--resume"):
        plan(small_recipe(painted, unbroken.folder))
    ready = plan(small_recipe(painted, tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match="is no run: choose another --out"):
        train(ready)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    with pytest.raises(TrainingError, match=r"recipe\.toml"):
        resume(tmp_path)


def test_resuming_takes_no_setting_that_would_make_it_another_run(unbroken):
    before = (unbroken.folder / "recipe.toml").read_bytes()
    with pytest.raises(TrainingError, match=r"run\.seed = 0, found 9") as caught:
        resume(unbroken.folder, changes={"run.seed": 9})
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="not shorten it"):
        resume(unbroken.folder, changes={"run.epochs": 1})
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        resume(unbroken.folder, changes={"run.epoch": 9})
    assert (unbroken.folder / "recipe.toml").read_bytes() == before
    resume(unbroken.folder, changes={"run.epochs": 2, "run.out": "elsewhere"})


def test_a_run_goes_on_where_its_data_moved_and_its_weights_file_is_gone(unbroken, painted, tmp_path, monkeypatch):
    """On another machine the same images lie elsewhere, and what the run began from is not needed again."""
    coarse = train(small_recipe(painted, tmp_path / "coarse", **{"model.name": "fcn16s", "run.epochs": 1}))
    values = {"model.start_from": str(coarse.folder)}
    whole = train(small_recipe(painted, tmp_path / "whole", **values))
    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", _breaking(validation.evaluate, 1))
        with pytest.raises(_Bang):
            train(small_recipe(painted, tmp_path / "broken", **values))
    coarse.folder.rename(tmp_path / "gone")
    moved = shutil.copytree(painted.parent, tmp_path / "moved") / painted.name
    finished = resume(tmp_path / "broken", changes={"data.path": str(moved), "run.workers": 1})
    assert_same_weights(weights_of(whole.folder), weights_of(finished.folder))
    assert Recipe.load(finished.folder / "recipe.toml").data.path == str(moved)


def test_bundles_of_a_run_from_caffes_weights_see_what_those_saw(painted, tmp_path):
    torch.manual_seed(0)
    settings = {"backbone": "vgg16", "width": 1 / 64}
    backbone = create_model("fcn32s", num_classes=3, **settings).backbone.state_dict()
    np.savez(
        tmp_path / "vgg16.npz", **{f"{k.removesuffix('.weight').removesuffix('.bias')}/{int('bias' in k)}": t for k, t in backbone.items()}
    )
    values = {"model.name": "fcn32s", "model.backbone": "vgg16", "model.weights": str(tmp_path / "vgg16.npz"), "run.epochs": 1}
    values |= {"model.arguments.width": 1 / 64, "model.arguments.dropout": 0.0}
    ready = plan(small_recipe(painted, tmp_path / "run", **values))
    assert ready.recipe.model.arguments["normalization"] == "caffe"
    assert "model.arguments.normalization" in [choice.setting for choice in ready.choices]
    finished = train(ready)
    (tmp_path / "vgg16.npz").unlink()
    resume(finished.folder)
    for name in ("best", "last"):
        bundle = Bundle.load(finished.folder / name)
        assert bundle.arguments["normalization"] == "caffe"
        assert bundle.build().normalization.bgr
    finer = {"model.name": "fcn16s", "model.weights": "none", "model.start_from": str(finished.folder)}
    assert plan(small_recipe(painted, tmp_path / "finer", **values | finer)).recipe.model.arguments["normalization"] == "caffe"
    other = plan(small_recipe(painted, tmp_path / "other", **values | {"model.weights": "none"}))
    assert "normalization" not in other.recipe.model.arguments


def test_damaged_and_foreign_checkpoints_are_refused(unbroken, painted, tmp_path):
    run = train(small_recipe(painted, tmp_path / "run", **{"run.epochs": 1}))
    checkpoint = run.folder / "checkpoint.safetensors"
    good = checkpoint.read_bytes()
    checkpoint.write_bytes(good[: len(good) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        resume(run.folder)
    checkpoint.write_bytes((unbroken.folder / "checkpoint.safetensors").read_bytes())
    with pytest.raises(TrainingError, match="belongs to recipe"):
        resume(run.folder)


def test_data_that_changed_under_a_run_is_noticed(tmp_path):
    data = paint(tmp_path / "data")
    run = train(small_recipe(data, tmp_path / "run", **{"run.epochs": 1}))
    for path in (tmp_path / "data").rglob("train/000.png"):
        path.unlink()
    with pytest.raises(TrainingError, match="changed"):
        resume(run.folder)


def test_validation_evaluates_each_image_once_at_its_own_size(unbroken, painted):
    from upscore.evaluation.evaluate import evaluate

    dataset = open_dataset(str(painted), "val")
    evaluation = evaluate(unbroken.best, dataset)
    assert int(evaluation.matrix.counts.sum()) == sum(int(np.sum(dataset[i].label != 255)) for i in range(len(dataset)))
    assert evaluation.metrics.mean_iou == pytest.approx(unbroken.progress.best_miou)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_fails_in_the_middle_of_a_run_is_one_line(tmp_path, workers):
    data = paint(tmp_path / "data", train=2, val=1)
    path = tmp_path / "data" / "images" / "train" / "001.png"
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)  # its header and end are whole
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        train(small_recipe(data, tmp_path / "run", **{"run.workers": workers}))
    assert "001.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def copied(painted, folder, **keys):
    """Return a copy of the painted data with other keys in its dataset.yaml."""
    shutil.copytree(painted.parent, folder)
    file = folder / "dataset.yaml"
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": "[ground, square, bar]", **keys}
    file.write_text("".join(f"{key}: {value}\n" for key, value in content.items()))
    return file


def test_a_plan_warns_of_images_that_are_evaluated_and_learned_from(painted, tmp_path):
    def warnings(data):
        return plan(small_recipe(data, tmp_path / "none")).warnings

    assert warnings(painted) == []
    (same,) = warnings(copied(painted, tmp_path / "same", val="images/train"))
    assert same.startswith(
        "[splits.shared-images] all 6 images of the validation data (val) are also in the training data (000, 001, 002 and 3 more)"
    )
    one = copied(painted, tmp_path / "one")
    for part in ("images", "masks"):
        shutil.copy(one.parent / part / "train" / "004.png", one.parent / part / "val" / "zz.png")
    (few,) = warnings(one)
    assert few.startswith("[splits.shared-images] 1 of 4 images of the validation data (val) are also in the training data (zz, there 004)")
    assert not (tmp_path / "none").exists()


def test_a_plan_refuses_what_cannot_be_learned_and_warns_of_classes_that_are_not_shown(painted, tmp_path):
    data = copied(painted, tmp_path / "data")
    for path in (data.parent / "masks" / "val").iterdir():
        values = np.array(Image.open(path))
        Image.fromarray(np.where(values == 2, 0, values).astype(np.uint8)).save(path)
    ready = plan(small_recipe(data, tmp_path / "run"))
    (warning,) = ready.warnings
    assert "(val): no mask shows bar" in warning
    finished = train(small_recipe(data, tmp_path / "run", **{"run.epochs": 1}))
    assert finished.warnings == ready.warnings
    for path in data.parent.glob("masks/*/*"):
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    with pytest.raises(DataError, match=r"no mask shows square, bar, all 6 masks show ground and nothing else"):
        plan(small_recipe(data, tmp_path / "other"))


def test_a_card_says_which_images_were_learned_from(unbroken, painted, tmp_path):
    data = json.loads((unbroken.folder / "best" / "bundle.json").read_text())["card"]["data"]
    assert data["split"] == "train"
    assert data["identity"] == plan(small_recipe(painted, tmp_path / "other")).identity
