"""Launching a planned run: one process for each device, the loop in each of them, and the bundles it leaves.

A run folder holds ``recipe.toml`` (complete), ``log.csv``, ``checkpoint.safetensors`` (the
last state), ``best/`` and, once the run is finished, ``last/`` (bundles), ``skipped.txt`` where training
images were left out, and TensorBoard's event files where that is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

import upscore
from upscore.errors import RunInterrupted, TrainingError
from upscore.evaluation.result import policy_of
from upscore.files import write_atomically
from upscore.metrics import SegmentationMetrics
from upscore.models.backbones import import_timm
from upscore.models.bundle import Bundle
from upscore.settings import InferenceSettings
from upscore.text import visible
from upscore.training.auto_config import Machine
from upscore.training.checkpoint import CHECKPOINT, Progress, read_progress
from upscore.training.interrupts import recording_signals
from upscore.training.loop import fit
from upscore.training.memory import advise, checkpoint_clause, explain_out_of_memory
from upscore.training.network import architecture_arguments
from upscore.training.objective import build_class_weights
from upscore.training.plan import Plan, plan
from upscore.training.progress_listener import ProgressListener, RunLogger, SilentListener
from upscore.training.recipe import Recipe
from upscore.training.run_folder import refuse_taken, remove_remains, removed_if_not_begun
from upscore.training.run_state import TrainingInputs

__all__ = ["Run", "launch", "train"]

GRACE = 5.0  # seconds that the other processes have to end by themselves when one has ended badly

STOPPING = "upscore: stopping after this step; a second Ctrl-C stops at once, and what came after the last checkpoint is lost"
"""Shown when a run is asked to stop."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the bundle with the best validation mIoU in it, its progress and the plan's warnings."""

    folder: Path
    best: Path
    progress: Progress
    warnings: list[str]


def train(recipe: Recipe | Plan, *, listener: Callable[[], ProgressListener] = SilentListener) -> Run:
    """Train the network of ``recipe``, which is planned first unless it is a plan, and return the finished run.

    ``listener`` makes what is informed of progress, in the process that trains; importable by name when ``run.devices`` is more than 1.
    Raises an UpscoreError for anything a user can correct, before training where it can be known.
    """
    ready = recipe if isinstance(recipe, Plan) else plan(recipe)
    refuse_taken(ready.folder)
    with removed_if_not_begun(ready.folder):
        remove_remains(ready.folder)
        ready.recipe.save(ready.folder / "recipe.toml")
        return launch(ready, listener)


def launch(ready: Plan, listener: Callable[[], ProgressListener]) -> Run:
    """Train a plan in its folder, in as many processes as it has devices."""
    if ready.skipped:
        lines = [f"{visible(key)}\t{visible(reason)}\n" for key, reason in ready.skipped.items()]
        write_atomically(ready.folder / "skipped.txt", "".join(lines).encode("utf-8", "backslashreplace"))
    devices = ready.recipe.run.devices
    assert devices
    with explain_out_of_memory(ready.recipe, ready.folder):
        model = ready.take_model()
    if devices == 1 or "WORLD_SIZE" in os.environ:  # one process, or torchrun has made them
        _work(ready, model, listener)
    else:
        model.share_memory()
        # Where the processes find each other. It is open before they start, so that no other program can take its port.
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        _spawn(ready, (devices, store.port, _Timm(), ready, model, listener))
    # The checkpoint is the record of the run that every process agrees on.
    return Run(ready.folder, ready.folder / "best", read_progress(ready.folder / CHECKPOINT), ready.warnings)


def _spawn(ready: Plan, arguments: tuple[Any, ...]) -> None:
    """Run the processes of a run, and pass on to them the signals that this one receives."""
    processes: list[Any] = []

    def forward(number: int) -> None:
        for process in processes:
            with contextlib.suppress(OSError, ValueError):  # it has ended
                os.kill(process.pid, number)

    with recording_signals(message=STOPPING, forward=forward) as interrupts:
        try:
            context: Any = spawn(_worker, arguments, nprocs=arguments[0], join=False)  # type: ignore[no-untyped-call]
            processes += context.processes
            if interrupts.asked:  # while they were made
                forward(interrupts.asked)
            while not context.join(grace_period=GRACE):
                pass
        except ProcessRaisedException as error:
            if not interrupts.asked:
                raise _as_one_line(error) from None
        except ProcessExitedException as error:
            if not interrupts.asked and error.signal_name == "SIGKILL":
                raise TrainingError(
                    f"a training process was killed, as happens when memory runs out: {advise(ready.recipe)}"
                    f"{checkpoint_clause(ready.folder)}"
                ) from None
            if not interrupts.asked and error.exit_code <= 128:
                raise TrainingError(f"a training process ended by itself ({error}){checkpoint_clause(ready.folder)}") from None
            interrupts.asked = interrupts.asked or error.exit_code - 128
        except BaseException:  # asked twice
            for process in processes:
                process.kill()
            raise
    if interrupts.asked:
        saved = f"go on with upscore train --resume --out {ready.folder}" if (ready.folder / CHECKPOINT).exists() else "nothing was saved"
        raise RunInterrupted(f"interrupted: {saved}", number=interrupts.asked)


class _Timm:
    """Imports timm where it is unpickled: before a network of timm's, whose classes would be imported without care for torchvision."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return (import_timm, ())


def _worker(
    rank: int, world: int, port: int, timm: object, ready: Plan, model: nn.Module, listener: Callable[[], ProgressListener]
) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # torch's name for a store that the parent process holds
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    if ready.recipe.run.device == "cpu":
        _own_memory(model)
        torch.set_num_threads(max(1, Machine.detect("cpu").cores // world))
    try:
        _work(ready, model, listener)
    except RunInterrupted as stop:
        sys.exit(128 + stop.number)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _own_memory(model: nn.Module) -> None:
    """Copy the weights out of the memory that all processes were given."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _work(ready: Plan, model: nn.Module, listener: Callable[[], ProgressListener]) -> None:
    """Train in this process, and write the bundles if it is the first."""
    recipe, folder = ready.recipe, ready.folder

    def save_best(network: nn.Module, progress: Progress, metrics: SegmentationMetrics) -> None:
        policy = policy_of(metrics, precision=recipe.run.inference_precision)
        _bundle(ready, network, progress, metrics.as_dict(ready.train.labels) | {"policy": policy}).save(folder / "best")

    weights = build_class_weights(recipe.loss, ready.census)
    inputs = TrainingInputs(model, ready.train.labels, ready.train, ready.val, weights, save_best, folder)
    is_first = int(os.environ.get("RANK", "0")) == 0
    log: ProgressListener = RunLogger(listener(), folder, bool(recipe.run.tensorboard)) if is_first else SilentListener()
    alone = "WORLD_SIZE" not in os.environ  # else whoever started the processes stops them, or does not
    with recording_signals(insist=alone, message=STOPPING if alone else "") as interrupts, explain_out_of_memory(recipe, folder):
        progress = fit(recipe, inputs, listener=log, interrupts=interrupts)
        if is_first:
            _bundle(ready, model, progress, None).save(folder / "last")
    if interrupts.asked:
        raise RunInterrupted(f"interrupted, but the run in {folder} was just finished", number=interrupts.asked)


def _bundle(ready: Plan, network: nn.Module, progress: Progress, metrics: dict[str, Any] | None) -> Bundle:
    """Return the network with its recipe, its history and where it comes from."""
    recipe, labels = ready.recipe, ready.train.labels
    card = {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "recipe_digest": recipe.digest(),
        "data": {
            "path": recipe.data.path,
            "split": recipe.data.train,
            "images": len(ready.train),
            "fingerprint": recipe.data.fingerprint,
            "identity": ready.identity,
            "pixels": ready.digests.to_card(),
        }
        | ({"skipped": len(ready.skipped)} if ready.skipped else {}),
        "warnings": ready.warnings,
        "epoch": progress.history[-1]["epoch"],
        "history": progress.history,
        "versions": {"upscore": upscore.__version__, "torch": torch.__version__},
    } | ({"metrics": metrics} if metrics else {})
    inference = InferenceSettings(precision=recipe.run.inference_precision)
    return Bundle.of(recipe.model.name, architecture_arguments(recipe, labels), network, labels, inference=inference, card=card)


def _as_one_line(error: Exception) -> TrainingError:
    """Return the error of a process that was started: its traceback ends in ``upscore.errors.Name: message``."""
    last = str(error).strip().splitlines()[-1]
    return TrainingError(last.partition(": ")[2] or last)
