"""Objects of a caller's own: they are what the same parts by name are, survive a run that is broken off, and are said where they differ."""

import functools
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from painting import small_recipe
from squares import CountingSGD, Network, Squares, falling, make_adam, make_counting, make_network, make_sgd, mean_cross_entropy
from upscore.cli import main
from upscore.data.open_dataset import open_dataset
from upscore.errors import BundleError, RecipeError, TrainingError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.models.fcn import FCN
from upscore.models.vgg16 import VGG16
from upscore.training import run_state
from upscore.training.launch import train
from upscore.training.optimizers import build_optimizer
from upscore.training.own_objects import OwnObjects, separate_own
from upscore.training.plan import plan
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import OptimizerSection
from upscore.training.resume import resume

BRIEF = {"epochs": 2, "batch_size": 2, "device": "cpu", "precision": "fp32", "tensorboard": False, "crop_size": [32, 32], "progress": False}
OWN = {"model": make_network(), "loss": mean_cross_entropy, "optimizer": make_adam, "schedule": falling}


def data():
    return {"train": Squares(), "val": Squares(3, first=100)}


def weights_of(folder, which="last"):
    return load_file(folder / which / "weights.safetensors")


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        if tolerance:
            torch.testing.assert_close(tensor, expected[name], **tolerance)
        else:
            assert torch.equal(tensor, expected[name]), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(**data(), **OWN, **BRIEF, out=tmp_path_factory.mktemp("own") / "run", average=0.9)


def test_a_run_of_ones_own_objects_learns_and_says_where_they_are_defined(unbroken):
    recipe = Recipe.load(unbroken.folder / "recipe.toml")
    assert recipe.own == {
        "train": "squares:Squares",
        "val": "squares:Squares",
        "model": "squares:Network",
        "loss": "squares:mean_cross_entropy",
        "optimizer": "squares:make_adam",
        "schedule": "squares:falling",
    }
    assert (recipe.model.name, recipe.optimizer.lr, recipe.optimizer.name, recipe.data.path) == ("Network", 0.01, None, None)
    history = unbroken.progress.history
    assert history[-1]["loss"] < history[0]["loss"]
    assert [row["lr"] for row in history] == pytest.approx([0.01 * (1 - 2 / 6), 0.01 * (1 - 5 / 6)])
    assert "val_loss" not in history[0]


def test_each_group_of_an_optimizer_has_its_own_learning_rate():
    optimizer = build_optimizer(make_network(), OptimizerSection(), make_adam)
    assert [group["scale"] for group in optimizer.param_groups] == pytest.approx([1.0, 2.0])


def test_the_callers_network_is_not_changed(unbroken):
    assert_same(OWN["model"].state_dict(), make_network().state_dict())


def test_the_bundle_of_a_run_is_opened_by_what_builds_its_network(unbroken):
    with pytest.raises(BundleError, match=r"somebody's own code, 'squares:Network'"):
        Predictor(unbroken.best)
    predictor = Predictor(unbroken.best, build=Network)
    evaluation = evaluate(predictor, Squares(3, first=100))
    assert evaluation.metrics.mean_iou == unbroken.progress.best_miou
    live = Bundle.load(unbroken.best, build=make_network).build()
    assert evaluate(live, Squares(3, first=100)).matrix == evaluation.matrix


def test_a_dataset_of_ones_own_is_the_same_as_one_of_files(painted, tmp_path):
    class Copy:
        def __init__(self, split):
            self.samples = open_dataset(painted, split)
            self.labels, self.keys = list(self.samples.labels.names), self.samples.keys

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            return self.samples[index].image, self.samples[index].label

    recipe = small_recipe(painted, tmp_path / "files")
    files = train(recipe)
    recipe.run.out = str(tmp_path / "own")
    own = train(recipe, train=Copy("train"), val=Copy("val"))
    assert_same(weights_of(own.folder), weights_of(files.folder))
    assert [row["miou"] for row in own.progress.history] == [row["miou"] for row in files.progress.history]


def test_ones_own_parts_are_the_same_as_those_by_name(painted, tmp_path):
    values = {
        "optimizer.name": "sgd", "optimizer.lr": 0.05, "optimizer.weight_decay": 0.0, "schedule.name": "constant",
        "schedule.warmup_steps": 0, "run.channels_last": False,
    }  # fmt: skip
    named = train(small_recipe(painted, tmp_path / "named", **values))
    recipe = small_recipe(painted, tmp_path / "own", **{"model.backbone": None, "model.arguments": {}, "run.channels_last": False})
    torch.manual_seed(0)
    backbone = VGG16(width=1 / 32)
    own = train(
        recipe,
        backbone=backbone,
        decoder=functools.partial(fcn8s),
        loss=mean_cross_entropy,
        optimizer=make_sgd,
        schedule=lambda step, of: 1,
    )
    assert_same(weights_of(own.folder), weights_of(named.folder), atol=1e-5, rtol=1e-4)
    assert Recipe.load(own.folder / "recipe.toml").own["decoder"] == f"{fcn8s.__module__}:fcn8s"

    def build():
        return create_model(fcn8s, backbone=VGG16(width=1 / 32), num_classes=3)

    image = np.zeros((20, 30, 3), np.uint8)
    again = Predictor(own.best, build=build).predict(image, probs=True)
    torch.testing.assert_close(again.probs, Predictor(named.best).predict(image, probs=True).probs, atol=1e-4, rtol=1e-3)


def fcn8s(backbone, num_classes):
    return FCN(backbone, num_classes=num_classes, finest=8)


def test_parts_of_a_step_add_up_for_a_loss_of_ones_own(tmp_path):
    runs = [train(**data(), **OWN, **BRIEF, out=tmp_path / str(parts), accumulate=parts, workers=0) for parts in (1, 2)]
    assert_same(weights_of(runs[0].folder), weights_of(runs[1].folder), atol=1e-6, rtol=1e-4)


def test_processes_add_up_and_get_the_objects(tmp_path):
    alone, together = (train(**data(), **OWN, **BRIEF, out=tmp_path / str(devices), devices=devices) for devices in (1, 2))
    assert_same(weights_of(alone.folder), weights_of(together.folder), atol=1e-6, rtol=1e-4)


class Unsendable(Squares):
    def __reduce__(self):
        raise TypeError("an open file")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": lambda logits, labels: mean_cross_entropy(logits, labels)}, r"loss= cannot be given to: .*<lambda> cannot be pickled"),
        ({"train": Unsendable()}, r"train= .*Unsendable cannot be pickled \(an open file\): define it at the top of a module"),
        ({"progress": lambda row: None}, r"progress= .*cannot be pickled"),
    ],
)
def test_what_no_process_can_get_is_refused(tmp_path, given, said):
    with pytest.raises(RecipeError, match=said):
        train(**{**data(), **OWN, **BRIEF, **given}, out=tmp_path / "run", devices=2)
    assert not (tmp_path / "run").exists()


class _Bang(Exception):
    pass


@pytest.mark.parametrize("make", [make_adam, make_counting, make_sgd])
def test_a_run_that_was_broken_off_ends_in_the_same_weights(tmp_path, monkeypatch, make):
    own = OWN | {"optimizer": make}
    whole = train(**data(), **own, **BRIEF, out=tmp_path / "whole")
    written, calls = run_state.write_checkpoint, []

    def write(*arguments, **values):
        if calls:
            raise _Bang
        calls.append(written(*arguments, **values))

    with monkeypatch.context() as patch:
        patch.setattr(run_state, "write_checkpoint", write)
        with pytest.raises(_Bang):
            train(**data(), **own, **BRIEF, out=tmp_path / "broken", checkpoint_minutes=1e-9)
    finished = resume(tmp_path / "broken", **data(), **own, progress=False)
    assert_same(weights_of(finished.folder), weights_of(whole.folder))
    assert_same(weights_of(finished.folder, "best"), weights_of(whole.folder, "best"))


def test_the_numbers_of_an_optimizer_are_stored():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = make_counting([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert isinstance(optimizer, CountingSGD)
    assert optimizer.state[parameter]["count"] == optimizer.param_groups[0]["taken"] == 1


def test_a_run_is_lengthened_with_the_same_objects(unbroken, tmp_path):
    shutil.copytree(unbroken.folder, tmp_path / "run")
    longer = resume(tmp_path / "run", changes={"run.epochs": 3}, **data(), **OWN, progress=False)
    assert len(longer.progress.history) == 3


def other_loss(logits, labels):
    return mean_cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"loss": None}, RecipeError, "its own loss, squares:mean_cross_entropy, .* give loss= to upscore.train or upscore.resume"),
        ({"train": None, "val": None}, RecipeError, "its own train, squares:Squares"),
        ({"loss": other_loss}, TrainingError, "has squares:mean_cross_entropy as loss, found .*other_loss"),
        ({"optimizer": make_sgd}, TrainingError, "has squares:make_adam as optimizer, found squares:make_sgd"),
        ({"decoder": fcn8s}, RecipeError, "model= and a backbone or decoder"),
        ({"model": make_network(4)}, TrainingError, "another network: it has 'features.0.weight' of shape"),
        ({"train": Squares(5)}, TrainingError, "Squares: the images or masks have changed"),
    ],
    ids=["no loss", "no data", "another loss", "another optimizer", "a decoder too", "another width", "other data"],
)
def test_a_resumed_run_has_the_objects_it_was_begun_with(unbroken, changed, error, said):
    before = (unbroken.folder / "recipe.toml").read_text()
    with pytest.raises(error, match=said) as raised:
        resume(unbroken.folder, changes={"run.epochs": 9}, **{**data(), **OWN, **changed}, progress=False)
    assert "\n" not in str(raised.value)
    assert (unbroken.folder / "recipe.toml").read_text() == before


def test_an_optimizer_of_another_class_or_rate_is_not_resumed(unbroken):
    def make_adam(parameters):
        return torch.optim.AdamW(parameters, lr=0.01)

    make_adam.__module__, make_adam.__qualname__ = "squares", "make_adam"
    with pytest.raises(TrainingError, match=r"has the optimizer torch.optim.adam:Adam, found torch.optim.adamw:AdamW"):
        resume(unbroken.folder, changes={"run.epochs": 9}, **data(), **{**OWN, "optimizer": make_adam}, progress=False)
    faster = functools.partial(lambda make, parameters: make([{"params": parameters, "lr": 0.5}]), torch.optim.Adam)
    faster.func.__module__, faster.func.__qualname__ = "squares", "make_adam"
    with pytest.raises(RecipeError, match=r"learning rate of 0.5, this run's is 0.01"):
        resume(unbroken.folder, changes={"run.epochs": 9}, **data(), **{**OWN, "optimizer": faster}, progress=False)


@pytest.mark.parametrize("words", [["--resume", "--out"], ["--recipe"]])
def test_the_command_line_says_that_such_a_run_is_continued_from_python(unbroken, words, monkeypatch, capsys):
    path = unbroken.folder if words[0] == "--resume" else unbroken.folder / "recipe.toml"
    monkeypatch.setattr(sys, "argv", ["upscore", "train", *words, str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 1
    assert re.fullmatch(r"upscore: the recipe has its own train, squares:Squares, .*from Python", said.replace("\n", " "))


def test_the_recipe_of_such_a_run_can_be_run_again_with_objects(unbroken, tmp_path):
    again = train(unbroken.folder / "recipe.toml", **data(), **OWN, out=tmp_path / "again", progress=False)
    assert_same(weights_of(again.folder), weights_of(unbroken.folder))


def test_a_plan_is_launched_with_its_objects(tmp_path):
    recipe, own = separate_own(Recipe(), **data(), **OWN)
    values = {"run.epochs": 1, "run.batch_size": 2, "run.device": "cpu", "run.precision": "fp32", "run.out": str(tmp_path / "run")}
    ready = plan(recipe.with_values(values), own=own)
    with pytest.raises(RecipeError, match="found loss= beside a plan"):
        train(ready, loss=mean_cross_entropy)
    assert len(train(ready, progress=False).progress.history) == 1
    with pytest.raises(RecipeError, match="its own train"):
        plan(recipe, own=OwnObjects())


def test_names_and_settings_stand_for_those_of_a_recipe(painted, tmp_path):
    recipe, own = separate_own(
        Recipe(), train=painted, model="segnet", optimizer="sgd", schedule="cosine", loss={"dice": 0.5, "cross_entropy": 1.0}
    )
    assert own.paths == {}
    assert (recipe.data.path, recipe.model.name, recipe.optimizer.name, recipe.schedule.name) == (str(painted), "segnet", "sgd", "cosine")
    assert recipe.loss.terms == {"dice": 0.5, "cross_entropy": 1.0}
    assert separate_own(Recipe(), loss="focal")[0].loss.terms == {"focal": 1.0}
