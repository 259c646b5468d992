"""A run that did not begin leaves nothing where it would have been, and says nothing of a checkpoint that is not there."""

import pytest
import torch

from painting import small_recipe
from upscore.errors import OutputError, TrainingError, UpscoreError
from upscore.losses import Objective
from upscore.training import launch
from upscore.training import recipe as recipes
from upscore.training.launch import train
from upscore.training.plan import plan
from upscore.training.resume import resume
from upscore.training.run_state import RunState


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.arguments": {"width": 0.03125, "in_channels": 4}}, "in_channels = 4: expected 3 for images of 3 bands of uint8"),
        ({"model.arguments": {"width": 0.03125, "in_channels": 2}}, "leave it out"),
        ({"augment.crop_size": [20000, 20000]}, r"\(20000, 20000\), expected height and width from 1 to 16384"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_nothing_written(painted, tmp_path, values, words):
    with pytest.raises(UpscoreError, match=words):
        plan(small_recipe(painted, tmp_path / "new" / "run", **values))
    assert not (tmp_path / "new").exists()


def test_a_network_that_reads_luminance_is_not_refused(painted, tmp_path):
    plan(small_recipe(painted, tmp_path / "run", **{"model.arguments": {"width": 0.03125, "in_channels": 1}}))


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (launch, "build_class_weights", RuntimeError("no weights")),
        (recipes, "write_atomically", OutputError("no room")),
        (launch, "fit", KeyboardInterrupt()),
        (RunState, "begin", RuntimeError("no device")),
        (Objective, "__call__", RuntimeError("the first step")),
    ],
    ids=["network", "recipe", "interrupt", "device", "first step"],
)
@pytest.mark.parametrize("there", [False, True], ids=["", "into an empty folder"])
def test_a_run_that_fails_before_it_kept_anything_leaves_the_place_as_it_was(painted, tmp_path, monkeypatch, owner, name, error, there):
    out = tmp_path / "new" / "run"
    if there:
        out.mkdir(parents=True)
    ready = plan(small_recipe(painted, out, **{"run.tensorboard": False}))

    def broken(*args, **values):
        if name == "write_atomically":
            out.mkdir(parents=True, exist_ok=True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(type(error)):
            train(ready)
    assert sorted(tmp_path.rglob("*")) == ([tmp_path / "new", out] if there else [])
    assert train(ready).progress.step == 6  # and the same command begins it


def test_what_is_not_the_runs_own_is_never_taken_away(painted, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def broken(*args, **values):
        (out / "notes.txt").write_text("mine")
        raise RuntimeError("no")

    monkeypatch.setattr(launch, "fit", broken)
    with pytest.raises(RuntimeError):
        train(small_recipe(painted, out))
    assert (out / "notes.txt").read_text() == "mine"


def test_a_loss_that_is_not_finite_tells_of_a_checkpoint_only_where_there_is_one(painted, tmp_path, monkeypatch):
    for step in (1, 5):
        real, calls = Objective.__call__, iter(range(1, 100))

        def poisoned(*args, real=real, calls=calls, step=step, **values):
            return real(*args, **values) * (float("nan") if torch.is_grad_enabled() and next(calls) == step else 1)

        with monkeypatch.context() as patch:
            patch.setattr(Objective, "__call__", poisoned)
            with pytest.raises(TrainingError, match="the loss became nan") as caught:
                train(small_recipe(painted, tmp_path / str(step)))
        assert ("the last checkpoint is in" in str(caught.value)) == (step == 5) == (tmp_path / str(step)).exists()
    assert resume(tmp_path / "5").progress.step == 6
