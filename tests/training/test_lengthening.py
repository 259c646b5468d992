"""More epochs for a run that is there: with --resume it is lengthened, with --start-from another one begins where it ended."""

import json
import shlex

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from painting import small_recipe
from upscore.cli.app import app
from upscore.errors import TrainingError
from upscore.models.bundle import Bundle
from upscore.training import run_state, train_step
from upscore.training.checkpoint import read_progress
from upscore.training.launch import train
from upscore.training.recipe import Recipe
from upscore.training.resume import resume

STEPS = 3  # an epoch, of six images


@pytest.fixture(scope="module")
def short(painted, tmp_path_factory):
    """A finished run of two epochs."""
    return train(small_recipe(painted, tmp_path_factory.mktemp("runs") / "short", **{"run.average": 0.9}))


@pytest.fixture
def copied(short, tmp_path):
    import shutil

    return shutil.copytree(short.folder, tmp_path / "run")


def poly(step, steps):
    return 1e-3 * (1 - step / steps) ** 0.9


def test_a_finished_run_is_lengthened_by_the_command_as_named(short, copied):
    said = CliRunner().invoke(app, ["train", "--resume", "--out", str(copied), "--epochs", "4"])
    assert said.exit_code == 0, said.output
    assert "lengthened from 6 to 12 steps: the learning rate is that of the longer schedule from here on" in said.output
    recipe, progress = Recipe.load(copied / "recipe.toml"), read_progress(copied / "checkpoint.safetensors")
    assert progress.step == 4 * STEPS
    assert progress.history[:2] == short.progress.history
    assert [row["lr"] for row in progress.history] == pytest.approx([poly(2, 6), poly(5, 6), poly(8, 12), poly(11, 12)], rel=1e-12)
    assert recipe.run.epochs == 4
    assert [step.model_dump() for step in recipe.run.lengthened] == [
        {"step": 6, "of": 6, "recipe": Recipe.load(short.folder / "recipe.toml").digest()}
    ]
    assert recipe.chosen["run.epochs"] == "lengthened from 2 after step 6"
    card = Bundle.load(copied / "last").card
    assert card["recipe"]["run"]["lengthened"][0]["step"] == 6
    assert len(card["history"]) == 4


def test_it_goes_on_from_the_optimizers_state_and_twice_is_the_same_as_in_one_go_after_a_kill(short, copied, tmp_path, monkeypatch):
    """Killed right after the recipe is written, and again in the middle."""
    import shutil

    other = shutil.copytree(copied, tmp_path / "other")
    whole = resume(copied, changes={"run.epochs": 4})
    for owner, name, after in ((run_state, "read_checkpoint", 0), (train_step, "average_weights", 4)):
        calls, plain = iter(range(100)), getattr(owner, name)

        def broken(*args, calls=calls, plain=plain, after=after, **values):
            if next(calls) == after:
                raise MemoryError("as good as a kill")
            return plain(*args, **values)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, broken)
            with pytest.raises(TrainingError, match="memory"):
                resume(other, changes={"run.epochs": 4, "run.checkpoint_minutes": 1e-9})
    again = resume(other)
    for name in ("checkpoint.safetensors", "last/weights.safetensors"):
        ours, theirs = load_file(whole.folder / name), load_file(again.folder / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(Recipe.load(other / "recipe.toml").run.lengthened) == 1
    third = resume(other, changes={"run.epochs": 5})
    assert [step.step for step in Recipe.load(other / "recipe.toml").run.lengthened] == [6, 12]
    assert third.progress.history[-1]["lr"] == pytest.approx(poly(14, 15), rel=1e-12)


def test_a_run_that_stopped_early_goes_on_when_it_is_lengthened(painted, tmp_path):
    values = {"run.epochs": 4, "run.patience": 1, "optimizer.lr": 1e-12, "run.average": 0.0}
    early = train(small_recipe(painted, tmp_path / "run", **values))
    assert early.progress.stopped
    assert early.progress.step == 2 * STEPS
    assert resume(early.folder).progress.step == 2 * STEPS
    longer = resume(early.folder, changes={"run.epochs": 5})
    assert longer.progress.step == 3 * STEPS  # and stopped again, after as much patience as it has
    assert longer.progress.stopped


def test_a_run_of_so_many_steps_is_lengthened_in_either_unit(painted, tmp_path):
    values = {"run.epochs": None, "run.steps": 2}
    for changes, steps, epochs in (({"run.epochs": 2}, 6, 2), ({"run.steps": 5}, 5, 2)):
        run = train(small_recipe(painted, tmp_path / str(steps), **values))
        assert run.progress.step == 2
        longer = resume(run.folder, changes=changes)
        assert longer.progress.step == steps
        assert [row["step"] for row in longer.progress.history] == [2, steps]
        assert Recipe.load(run.folder / "recipe.toml").run.epochs == epochs
        with pytest.raises(TrainingError, match="not shorten it"):
            resume(run.folder, changes={"run.steps": 1})


def test_a_run_that_kept_nothing_yet_just_gets_longer(painted, tmp_path, monkeypatch):
    recipe = small_recipe(painted, tmp_path / "run")
    train(recipe)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    run = resume(tmp_path / "run", changes={"run.epochs": 3})
    assert run.progress.history[0]["lr"] == pytest.approx(poly(2, 9), rel=1e-12)
    assert Recipe.load(tmp_path / "run" / "recipe.toml").run.lengthened == []


def test_another_length_is_another_plan_for_a_new_run(copied, painted, tmp_path):
    resume(copied, changes={"run.epochs": 3})
    kept = Recipe.load(copied / "recipe.toml")
    assert kept.run.lengthened
    assert kept.with_values({"run.epochs": 9}).run.lengthened == []
    again = train(kept.with_values({"run.out": str(tmp_path / "again")}))  # all of it, with the learning rates it had
    one, other = (load_file(folder / "last" / "weights.safetensors") for folder in (copied, again.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("change", [("--batch-size", "3"), ("--set", "augment.scale=[0.9,1.1]")])
def test_what_a_refused_change_names_as_the_way_works_as_it_stands(copied, tmp_path, monkeypatch, change):
    """The command is taken from the message and run."""
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["train", "--resume", "--out", str(copied), *change])
    message = str(refused.exception)
    assert isinstance(refused.exception, TrainingError)
    words = shlex.split(message.partition("from these weights: ")[2])
    assert words[:2] == ["upscore", "train"]
    followed = CliRunner().invoke(app, [*words[1:], "--set", "run.epochs=1"])
    assert followed.exit_code == 0, (followed.output, followed.exception)
    folder = next((tmp_path / "runs").iterdir())
    assert Recipe.load(folder / "recipe.toml").model.start_from == str(copied)
    assert json.loads((folder / "last" / "bundle.json").read_text())["card"]["history"][0]["loss"] < 1.05  # not from the beginning
