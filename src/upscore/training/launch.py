"""Launching a planned run: one process for each device, the loop in each of them, and the bundles it leaves.

A run folder holds ``recipe.toml`` (complete), ``log.csv``, ``checkpoint.safetensors`` (the
last state), ``best/`` and, once the run is finished, ``last/`` (bundles), ``skipped.txt`` where training
images were left out, and TensorBoard's event files where that is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

import upscore
from upscore.errors import RecipeError, RunInterrupted, TrainingError
from upscore.evaluation.result import policy_of
from upscore.files import write_atomically
from upscore.import_path import import_path
from upscore.metrics import SegmentationMetrics
from upscore.models.backbones import import_timm
from upscore.models.bundle import Bundle
from upscore.settings import InferenceSettings
from upscore.text import reason, visible
from upscore.training.auto_config import Machine
from upscore.training.checkpoint import CHECKPOINT, Progress, read_progress
from upscore.training.interrupts import recording_signals
from upscore.training.loop import fit
from upscore.training.memory import advise, checkpoint_clause, explain_out_of_memory
from upscore.training.network import architecture_arguments
from upscore.training.objective import build_class_weights
from upscore.training.own_objects import Data, Decoder, Loss, MakeOptimizer, Schedule, separate_own
from upscore.training.plan import Plan, plan
from upscore.training.progress_bar import Show, listener_for, reading_bar, show_warnings
from upscore.training.progress_listener import ProgressListener, RunLogger, SilentListener
from upscore.training.recipe import Recipe, read_recipe
from upscore.training.run_folder import refuse_taken, remove_remains, removed_if_not_begun, resume_command
from upscore.training.run_state import TrainingInputs
from upscore.types import LabelSpace

__all__ = ["Run", "launch", "train"]

GRACE = 5.0  # seconds that the other processes have to end by themselves when one has ended badly

STOPPING = "upscore: stopping after this step; a second Ctrl-C stops at once, and what came after the last checkpoint is lost"
"""Shown when a run is asked to stop."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the bundle with the best validation mIoU in it, its progress, the plan's warnings and its recipe."""

    folder: Path
    best: Path
    progress: Progress
    warnings: list[str]
    recipe: Recipe


def train(
    recipe: Recipe | Plan | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    train: Data | None = None,
    val: Data | None = None,
    labels: LabelSpace | Sequence[str] | None = None,
    model: nn.Module | str | None = None,
    backbone: nn.Module | str | None = None,
    decoder: Decoder | None = None,
    loss: Loss | str | Mapping[str, float] | None = None,
    optimizer: MakeOptimizer | str | None = None,
    schedule: Schedule | str | None = None,
    progress: Show = True,
    listener: Callable[[], ProgressListener] | None = None,
    **settings: Any,
) -> Run:
    """Train a network, and return the finished run.

    What is given here replaces what the recipe names. An object of your own is used as it is, or a copy of it where training would
    change it; the recipe in the run folder records where it is defined, and :func:`upscore.resume` is given it again.

    Parameters
    ----------
    recipe : Recipe, Plan, mapping, path or name, optional
        Everything a run needs, and what is left open is chosen: as a value, as nested tables, or as a TOML file or one of upscore's own
        recipes. A plan is launched as it is, with the objects that it was made with.
    train, val : path or dataset
        One path, in ``train``, stands for both splits. A dataset of your own has ``labels``, a length and samples by index
        (:class:`upscore.data.own_dataset.ImagesWithMasks`), and both are given.
    labels : LabelSpace or sequence of str, optional
        Classes of datasets that do not name them.
    model : nn.Module or str
        Images (N, 3, H, W) in [0, 1], of any size, to logits (N, K, H, W), normalised by itself; or an architecture's name.
    backbone : nn.Module or str
        A :class:`upscore.models.backbone.Backbone` with its weights, under the recipe's decoder; or a backbone's name.
    decoder : callable
        (backbone, K) to a :class:`upscore.models.on_backbone.Decoder`.
    loss : callable, str or mapping
        (logits (N, K, H, W) float32, labels (N, H, W) int64 with 255 where ignored) to the mean over the labelled pixels, a scalar
        tensor. Parts of a step, on several devices or with ``accumulate``, are weighted by their labelled pixels. Or a loss by name,
        or a weight for each of several.
    optimizer : callable or str
        The list of trainable parameters to a ``torch.optim.Optimizer``, whose groups have their peak learning rates; or a name.
    schedule : callable or str
        (step from 0, steps of the run) to the factor of the peak learning rate, from 0, without a warm-up; or a name.
    progress : bool or callable
        Show a bar where a person sees it, in a terminal or a notebook; False for silence. Or a function that is called with each row of
        the log, a mapping of ``epoch``, ``step``, ``loss``, ``lr``, ``miou`` and so on to numbers.
    listener : callable, optional
        Makes a :class:`upscore.training.progress_listener.ProgressListener`, which is informed of every step, in place of ``progress``.
    **settings
        Settings of the recipe by the last part of their names, where it is unique: ``epochs=20``, ``lr=1e-3``, ``out="runs/first"``.

    Returns
    -------
    Run
        ``run.best`` is the folder of the best network's bundle. That of a network of your own is opened with what builds it:
        ``Predictor(run.best, build=...)``.

    Raises
    ------
    UpscoreError
        For anything a user can correct, before training where it can be known.

    Notes
    -----
    With ``devices`` above 1 every process gets the objects by pickling, so that functions and classes have to be defined at the top of a
    module.
    """
    own = {
        "train": train, "val": val, "labels": labels, "model": model, "backbone": backbone, "decoder": decoder,
        "loss": loss, "optimizer": optimizer, "schedule": schedule,
    }  # fmt: skip
    make_listener = listener or listener_for(progress)
    if isinstance(recipe, Plan):
        if given := next((name for name, value in (own | settings).items() if value is not None), None):
            raise RecipeError(f"found {given}= beside a plan, which has its objects and settings already: leave it out")
        ready = recipe
    else:
        complete, objects = separate_own(read_recipe(recipe, settings), **cast(Any, own))
        with reading_bar(False if listener else progress) as bar:
            ready = plan(complete, own=objects, progress=bar)
        show_warnings(ready.warnings, False if listener else progress)
    refuse_taken(ready.folder)
    with removed_if_not_begun(ready.folder):
        remove_remains(ready.folder)
        ready.recipe.save(ready.folder / "recipe.toml")
        return launch(ready, make_listener)


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
        _check_can_be_sent(ready, listener)
        model.share_memory()
        # Where the processes find each other. It is open before they start, so that no other program can take its port.
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        _spawn(ready, (devices, store.port, _Timm(), ready, model, listener))
    # The checkpoint is the record of the run that every process agrees on.
    return Run(ready.folder, ready.folder / "best", read_progress(ready.folder / CHECKPOINT), ready.warnings, ready.recipe)


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
        go_on = f"go on with {resume_command(ready.folder, ready.recipe.own)}"
        saved = go_on if (ready.folder / CHECKPOINT).exists() else "nothing was saved"
        raise RunInterrupted(f"interrupted: {saved}", number=interrupts.asked)


def _check_can_be_sent(ready: Plan, listener: Callable[[], ProgressListener]) -> None:
    """Raise RecipeError where an object of the caller's own cannot be given to another process."""
    sent = {name: getattr(ready.own, name) for name in ready.own.paths} | {"progress": listener}
    interactive = not hasattr(sys.modules["__main__"], "__file__")
    for name, thing in sent.items():
        defined = import_path(getattr(thing, "dataset", thing))
        try:
            ForkingPickler.dumps(thing)
            why = "is defined in an interactive session" if interactive and defined.startswith("__main__:") else ""
        except Exception as error:  # of anybody's code
            why = f"cannot be pickled ({reason(error)})"
        if why:
            raise RecipeError(
                f"run.devices = {ready.recipe.run.devices} starts processes, which {name}= cannot be given to: {defined} {why}: define it "
                "at the top of a module, or use devices=1"
            )


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
    inputs = TrainingInputs(model, ready.train.labels, ready.train, ready.val, weights, save_best, folder, ready.own)
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
            "path": recipe.data.path or ready.train.name,
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
    images = recipe.input.spec()
    if ready.own.network:
        return Bundle.of_trained(network, labels, defined=ready.own.network, input=images, inference=inference, card=card)
    arguments = architecture_arguments(recipe, labels)
    return Bundle.of(recipe.model.name, arguments, network, labels, input=images, inference=inference, card=card)


def _as_one_line(error: Exception) -> TrainingError:
    """Return the error of a process that was started: its traceback ends in ``upscore.errors.Name: message``."""
    last = str(error).strip().splitlines()[-1]
    return TrainingError(last.partition(": ")[2] or last)
