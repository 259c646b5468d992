"""Settings that lead through to the values they name."""

import pytest
import torch

from painting import small_recipe
from upscore.errors import RecipeError
from upscore.losses import class_weights
from upscore.models.bundle import Bundle
from upscore.training import network, train_step
from upscore.training.launch import _own_memory, train
from upscore.training.objective import build_objective
from upscore.training.plan import plan
from upscore.training.recipe import Recipe


def test_a_plan_builds_the_network_once_and_a_second_launch_another(painted, tmp_path, monkeypatch):
    built = []
    plain = network.create_model
    monkeypatch.setattr(network, "create_model", lambda *args, **values: built.append(args) or plain(*args, **values))
    ready = plan(small_recipe(painted, tmp_path / "run", **{"run.epochs": 1}))
    first = train(ready)
    assert len(built) == 1
    ready.recipe.run.out = str(tmp_path / "again")
    again = train(ready)
    assert len(built) == 2
    one, other = (Bundle.load(run.folder / "last").weights for run in (first, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_process_has_the_weights_in_its_own_memory():
    """On a processor all of them are started with the same memory: they would change each other's weights."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.share_memory()
    _own_memory(model)
    for name, tensor in model.state_dict().items():
        assert not tensor.is_shared()
        assert torch.equal(tensor, before[name])
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_class_weights_may_be_numbers(painted, tmp_path):
    """Those that a weighting computes, given as numbers, give the same network bit for bit."""
    median = plan(small_recipe(painted, tmp_path / "median", **{"loss.class_weights": "median", "run.epochs": 1}))
    numbers = class_weights(median.census.class_pixels, median.census.pixels_with_class, weighting="median").tolist()
    runs = train(median), train(small_recipe(painted, tmp_path / "numbers", **{"loss.class_weights": numbers, "run.epochs": 1}))
    one, other = (Bundle.load(run.folder / "last").weights for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(RecipeError, match="found 2 class weights for 3 classes"):
        plan(small_recipe(painted, tmp_path / "two", **{"loss.class_weights": [1, 2]}))
    assert not (tmp_path / "two").exists()


def test_label_smoothing_and_vertical_flips_reach_what_they_name():
    recipe = Recipe().with_values({"augment.crop_size": [8, 8], "augment.scale": [1, 1], "augment.vertical_flip": 0.25})
    for name in ("flip", "rotation", "brightness", "contrast", "saturation", "hue"):
        setattr(recipe.augment, name, 0.0)
    assert recipe.augment.augmentation().vertical_flip == 0.25
    assert build_objective(Recipe().with_values({"loss.label_smoothing": 0.1}).loss).label_smoothing == 0.1


def test_the_bound_of_the_gradients_and_the_scale_of_the_loss_reach_the_update(painted, tmp_path, monkeypatch):
    seen = []
    plain = train_step.update_weights
    monkeypatch.setattr(train_step, "update_weights", lambda *args, **values: seen.append(values) or plain(*args, **values))
    train(small_recipe(painted, tmp_path / "run", **{"optimizer.max_grad_norm": 2.0, "run.epochs": 1}))
    assert seen == [{"max_grad_norm": 2.0, "scaler": None}] * 3


def test_a_recipe_with_every_new_setting_trains(painted, tmp_path):
    values = {
        "schedule.name": "cosine",
        "optimizer.name": "adam",
        "optimizer.max_grad_norm": 1.0,
        "optimizer.lr_factors": {"decoder": 2.0},
        "loss.label_smoothing": 0.1,
        "loss.class_weights": [1, 2, 3],
        "augment.vertical_flip": 0.5,
        "model.freeze": ["backbone.conv1_1"],
        "run.epochs": 3,
    }
    run = train(small_recipe(painted, tmp_path / "run", **values))
    assert run.progress.history[-1]["loss"] < run.progress.history[0]["loss"]
    assert Recipe.load(run.folder / "recipe.toml").optimizer.lr_factors == {"decoder": 2.0}
