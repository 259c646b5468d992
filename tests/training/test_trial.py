"""The trial of a step leaves no trace; it is what halves the images computed at once, and what the estimate of a run's time comes from."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from painting import small_recipe
from upscore.errors import RecipeError, TrainingError
from upscore.losses import Objective
from upscore.models.bundle import Bundle
from upscore.training import plan as planning
from upscore.training import trial
from upscore.training.auto_config import Machine
from upscore.training.launch import train
from upscore.training.memory import step_memory
from upscore.training.plan import plan

CPU = Machine("cpu", 1, 2, False, False, 16 << 30)
OPEN = {"run.batch_size": None, "run.epochs": 1}


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "values", [{}, {"run.average": 0.9}, {"loss.sampling": 0.5}, {"model.arguments": {"width": 0.03125, "batch_norm": True}}]
)
def test_the_trained_weights_are_those_without_a_trial(painted, tmp_path, monkeypatch, values):
    recipe = small_recipe(painted, tmp_path / "tried", **OPEN, **values)
    torch.manual_seed(5)
    with_trial = plan(recipe, machine=CPU)
    assert with_trial.trial is not None
    drawn = torch.rand(3)
    trained = Bundle.load(train(with_trial).best)
    monkeypatch.setattr(planning, "find_parts", lambda model, recipe, **values: (1, trial.Trial(1.0, None)))
    torch.manual_seed(5)
    without = plan(recipe.with_values({"run.out": str(tmp_path / "not")}), machine=CPU)
    assert torch.equal(torch.rand(3), drawn), "the trial draws from generators of its own"
    plain = Bundle.load(train(without).best)
    assert trained.weights.keys() == plain.weights.keys()
    for name, tensor in plain.weights.items():
        assert torch.equal(trained.weights[name], tensor), name


def test_the_network_of_the_plan_is_not_touched(painted, tmp_path):
    recipe = plan(small_recipe(painted, tmp_path / "run"), machine=CPU).recipe
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5))
    model.eval()
    before = state_of(model)
    trial.try_step(model, recipe, classes=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_is_tried_unasked(painted, tmp_path):
    assert plan(small_recipe(painted, tmp_path / "run"), machine=CPU).trial is None
    assert plan(small_recipe(painted, tmp_path / "run"), machine=CPU, timed=True).trial is not None


def test_a_chosen_batch_that_runs_out_of_memory_is_computed_in_more_parts(painted, tmp_path, monkeypatch):
    """As a GPU does it: the real step raises."""
    tried = []

    class Greedy(trial._Step):
        def __init__(self, model, recipe, *, images, **values):
            tried.append((recipe.run.accumulate, images))
            if images > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__init__(model, recipe, images=images, **values)

    monkeypatch.setattr(trial, "_Step", Greedy)
    planned = plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=CPU)
    assert tried == [(1, 4), (2, 2), (4, 1)]
    assert (planned.recipe.run.batch_size, planned.recipe.run.accumulate) == (4, 4)
    (choice,) = [choice for choice in planned.choices if choice.setting == "run.accumulate"]
    assert choice.why == "4 images at once do not fit into 16.0 GiB of memory: 1 at a time, for the same objective"
    assert planned.recipe.chosen["run.accumulate"] == choice.why
    card = json.loads((train(planned).best / "bundle.json").read_text())["card"]
    assert card["recipe"]["run"]["accumulate"] == 4


@pytest.mark.parametrize("given", [{"run.batch_size": 4}, {"run.batch_size": None, "run.accumulate": 2}])
def test_what_a_user_gave_is_not_changed(painted, tmp_path, monkeypatch, given):
    calls = []
    monkeypatch.setattr(Objective, "__call__", lambda *args, **values: calls.append(1) or (_ for _ in ()).throw(MemoryError()))
    parts = given.get("run.accumulate", 1)
    with pytest.raises(TrainingError, match=rf"lower run\.batch_size \(now 4\) or augment.*raise run\.accumulate \(now {parts}\)"):
        plan(small_recipe(painted, tmp_path / "run", **given), machine=CPU, timed=True)
    assert len(calls) == 1
    assert not (tmp_path / "run").exists()


def test_other_errors_are_not_taken_for_memory(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(Objective, "__call__", lambda *args, **values: (_ for _ in ()).throw(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=CPU)


def measured(monkeypatch, *, before, growth_per_image):
    """Let the trial find a process that grows by so many bytes an image."""
    images = []

    class Counted(trial._Step):
        def __init__(self, model, recipe, *, images: int, **values):
            found.append(images)
            super().__init__(model, recipe, images=images, **values)

    found = images
    monkeypatch.setattr(trial, "_Step", Counted)
    monkeypatch.setattr(trial, "_resident", lambda: before + (growth_per_image * found[-1] if found else 0))
    return found


def test_on_a_cpu_a_few_images_tell_what_all_would_take(painted, tmp_path, monkeypatch):
    recipe = plan(small_recipe(painted, tmp_path / "run", **{"run.batch_size": 6}), machine=CPU).recipe
    model = plan(recipe, machine=CPU).take_model()
    memory = 3 * step_memory(model, recipe)  # the lower bound is no small part of it
    fixed = trial.weight_memory(model, recipe)
    images = measured(monkeypatch, before=1000, growth_per_image=fixed)
    found = trial.try_step(model, recipe, classes=3, memory=10**15)
    assert (images[-1], found.memory) == (6, 1000 + 6 * fixed), "a small step is tried whole"
    images.clear()
    found = trial.try_step(model, recipe, classes=3, memory=None)
    assert (images[-1], found.memory) == (2, 1000 + fixed + (2 * fixed - fixed) * 3), "three times as many images, the same weights"
    images = measured(monkeypatch, before=1000, growth_per_image=memory)
    with pytest.raises(RecipeError, match=r"a step needs .* or more, found"):
        trial.try_step(model, recipe, classes=3, memory=memory)
    assert images == [2]


def test_a_chosen_batch_that_would_be_killed_on_a_cpu_is_computed_in_more_parts(painted, tmp_path, monkeypatch):
    planned = plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=CPU)
    memory = 3 * step_memory(planned.take_model(), planned.recipe)
    images = measured(monkeypatch, before=0, growth_per_image=memory // 3)
    small = plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=replace(CPU, memory=memory))
    assert (small.recipe.run.batch_size, small.recipe.run.accumulate) == (4, 2)
    assert images == [2, 2]
    images.clear()
    with pytest.raises(RecipeError, match=r"lower run\.batch_size \(now 4\)"):
        plan(small_recipe(painted, tmp_path / "run", **{"run.batch_size": 4}), machine=replace(CPU, memory=memory), timed=True)


def test_a_batch_that_is_too_large_by_its_lower_bound_is_not_tried(painted, tmp_path, monkeypatch):
    planned = plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=CPU)
    bounds = [step_memory(planned.take_model(), planned.recipe.with_values({"run.accumulate": parts})) for parts in (1, 2)]
    images = measured(monkeypatch, before=0, growth_per_image=0)
    small = plan(small_recipe(painted, tmp_path / "run", **OPEN), machine=replace(CPU, memory=sum(bounds) // 2))
    assert small.recipe.run.accumulate == 2
    assert images == [2]


def test_the_memory_of_this_process_is_measured():
    with trial._peak(torch.device("cpu")) as peak:
        block = torch.ones(64 << 20, dtype=torch.uint8)
        trial.threading.Event().wait(0.1)
        del block
    assert 60 << 20 <= peak.bytes - peak.before < 200 << 20


def test_an_estimate_is_the_steps_and_the_validations(painted, tmp_path):
    planned = plan(small_recipe(painted, tmp_path / "run", **{"run.validate_every": 1, "run.epochs": 4}), machine=CPU)
    assert planned.seconds is None
    planned.trial = trial.Trial(2.0, None)
    validations = 4 * 3 * (48 * 56) / (48 * 48) * (2.0 / 2) / 3
    assert planned.seconds == pytest.approx(4 * 3 * 2.0 + validations)
