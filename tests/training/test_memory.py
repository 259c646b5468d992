"""Memory that runs out in training: refused where it can be known before, one line with what to change where it cannot."""

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from painting import small_recipe
from upscore.cli.app import app
from upscore.errors import RecipeError, TrainingError
from upscore.losses import Objective
from upscore.models.factory import create_model
from upscore.training import auto_config, batches, validation
from upscore.training.auto_config import Machine
from upscore.training.launch import train
from upscore.training.memory import _saved_for_backward, step_memory
from upscore.training.plan import plan

CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"


def failing(function, error, *, at):
    """Return a function that fails when it is called for the ``at``-th time with gradients, as validation calls it without."""
    calls = iter(range(1, 10_000))

    def run(*args, **values):
        if torch.is_grad_enabled() and next(calls) == at:
            raise error
        return function(*args, **values)

    return run


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
        RuntimeError(f"[enforce fail at alloc_cpu.cpp:118] err == 0. {CPU}"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("step", [1, 4])
def test_memory_that_runs_out_in_a_step_is_one_line_with_its_levers(painted, tmp_path, monkeypatch, error, step):
    monkeypatch.setattr(Objective, "__call__", failing(Objective.__call__, error, at=step))
    with pytest.raises(TrainingError) as caught:
        train(small_recipe(painted, tmp_path / "run"))
    said = str(caught.value)
    assert said.startswith(
        "memory ran out in training: lower run.batch_size (now 2) or augment.crop_size (now 48×48), "
        "or raise run.accumulate (now 1), which computes a step in more parts, or set run.precision to bf16 (now fp32)"
    )
    assert ("the last checkpoint is in" in said) == (step == 4) == (tmp_path / "run").exists()


def test_memory_that_really_runs_out_is_recognised(painted, tmp_path, monkeypatch):
    def greedy(objective, logits, labels, **values):
        return torch.empty(1 << 58)

    monkeypatch.setattr(Objective, "__call__", greedy)
    said = CliRunner().invoke(app, ["train", str(painted), "--out", str(tmp_path / "run"), *TINY])
    assert isinstance(said.exception, TrainingError)
    assert "memory ran out in training: lower run.batch_size" in str(said.exception)
    assert not (tmp_path / "run").exists()


TINY = ["--backbone", "vgg16", "--weights", "none", "--set", "model.arguments.width=0.03125", "--batch-size", "2"]
TINY += ["--device", "cpu", "--epochs", "1", "--workers", "0", "--crop-size"]
BIG, TINY = [*TINY, "16000"], [*TINY, "48"]


@pytest.mark.parametrize(("owner", "name"), [(validation, "evaluate"), (validation, "Predictor")])
def test_memory_that_runs_out_in_validation_says_so(painted, tmp_path, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), MemoryError(), at=1))
    with pytest.raises(TrainingError, match=r"in validation, which labels images at their own size: set run\.precision to bf16"):
        train(small_recipe(painted, tmp_path / "run"))


def test_other_errors_stay_what_they_are(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(Objective, "__call__", failing(Objective.__call__, RuntimeError("shapes cannot be multiplied"), at=1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(small_recipe(painted, tmp_path / "run"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("DataLoader worker (pid 17) is killed by signal: Killed. ", r"memory runs out: lower run\.workers \(now 0, 0 reads in"),
        ("DataLoader worker (pid(s) 17) exited unexpectedly", r"or augment\.crop_size"),
        (
            "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. "
            "Please try to raise your shared memory limit.",
            r"/dev/shm.*run\.workers = 0",
        ),
        ("unable to write to file </torch_12_3>: No space left on device (28)", "/dev/shm"),
    ],
)
def test_readers_that_die_or_cannot_hand_over_are_one_line(painted, tmp_path, monkeypatch, error, words):
    monkeypatch.setattr(DataLoader, "__iter__", failing(DataLoader.__iter__, RuntimeError(error), at=1))
    with pytest.raises(TrainingError, match=words):
        train(small_recipe(painted, tmp_path / "run", **{"run.workers": 0}))
    assert not (tmp_path / "run").exists()


class _Deadly(batches.AugmentedDataset):
    def __getitem__(self, place):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_reader_that_the_system_kills_is_one_line(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "AugmentedDataset", _Deadly)
    with pytest.raises(TrainingError, match=r"was ended from outside, as happens when memory runs out: lower run\.workers \(now 1"):
        train(small_recipe(painted, tmp_path / "run", **{"run.workers": 1}))


def test_a_crop_that_cannot_fit_is_refused_before_anything_is_written(painted, tmp_path, monkeypatch):
    """None of what it needs is allocated to know that."""
    monkeypatch.setattr(auto_config, "_memory", lambda device: 16 << 30)
    said = CliRunner().invoke(app, ["train", str(painted), "--out", str(tmp_path / "new" / "run"), *BIG, "--dry-run"])
    assert isinstance(said.exception, RecipeError)
    message = str(said.exception)
    assert message.startswith("a step needs ")
    assert "found 16.0 GiB: lower run.batch_size (now 2) or augment.crop_size (now 16000×16000)" in message
    assert not (tmp_path / "new").exists()


def test_what_is_counted_without_memory_is_what_a_forward_pass_keeps(painted, tmp_path):
    """Against the same network run on a processor, with tensors that are there; parts and bfloat16 need less."""
    for name, backbone in (("fcn8s", "test_resnet"), ("fcn8s", "vgg16"), ("segnet", None), ("unet", None)):
        narrow = {} if backbone == "test_resnet" else {"width": 0.0625}
        here = create_model(name, backbone=backbone, num_classes=3, **narrow)
        with torch.device("meta"):
            there = create_model(name, backbone=backbone, num_classes=3, **narrow)
        torch.manual_seed(0)
        counted = _saved_for_backward(there, torch.empty(2, 3, 64, 64, device="meta"))
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        weights = {parameter.untyped_storage().data_ptr() for parameter in here.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            here.train()(torch.rand(2, 3, 64, 64))
        real = sum(storage.nbytes() for place, storage in kept.items() if place not in weights)
        assert 0.5 * real <= counted <= 1.01 * real, (name, backbone, counted, real)  # the least: never more than there is
    recipe = plan(small_recipe(painted, tmp_path / "run")).recipe
    sizes = [
        step_memory(create_model("fcn8s", backbone="vgg16", num_classes=3, width=0.03125), recipe.with_values(values))
        for values in ({}, {"run.accumulate": 2}, {"run.precision": "bf16"}, {"augment.crop_size": [96, 96]})
    ]
    assert sizes[1] < sizes[0] < sizes[3]
    assert sizes[2] < sizes[0]


def test_the_memory_there_is_is_known_here():
    assert Machine.detect("cpu").memory > 100 << 20
