"""The training loop, on one screen: batches in, steps, a validation after each epoch or part of one, a checkpoint.

``fit`` is the outline; what it calls stands below it, over a ``RunState``.

Everything random is a function of (seed, epoch, key) or (seed, step, rank), everything
scheduled a function of the step; so a run that was killed continues to the same weights,
bit for bit on a processor, from its last checkpoint. State is saved between steps and nowhere
else: a signal that asks the run to stop waits for that.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from upscore.errors import RunInterrupted, TrainingError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.inference.segmenter import runs_channels_last
from upscore.losses import Objective, count_valid
from upscore.metrics import ConfusionMatrix, SegmentationMetrics
from upscore.training.batches import batches_from
from upscore.training.checkpoint import CHECKPOINT, Progress, load_checkpoint, save_checkpoint
from upscore.training.interrupts import SIGNALS, Interrupts
from upscore.training.memory import kept_in, memory_errors_explained
from upscore.training.optimization import average_weights, build_optimizer, learning_rate, objective_of
from upscore.training.precise_bn import measure_statistics
from upscore.training.recipe import LossSection, Recipe
from upscore.types import Batch, LabelSpace

__all__ = ["ProgressListener", "SilentListener", "fit"]

LEAST_INTERVAL = 20
"""Epochs shorter than this many times what a checkpoint takes are not all kept: a run goes to training, not to writing."""


class ProgressListener(Protocol):
    """Where a run shows how it goes; the loop calls it on the first process only."""

    def begin(self, *, recipe: Recipe, progress: Progress, steps_an_epoch: int) -> None:
        """The run starts, or goes on from ``progress``."""

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """A step of ``images`` images is done."""

    def validating(self, done: int, total: int) -> None:
        """``done`` of ``total`` validation images are evaluated."""

    def row(self, row: dict[str, float]) -> None:
        """An epoch is done, or the part of one that is evaluated; ``row`` is its line in the log."""

    def end(self, progress: Progress) -> None:
        """The run is over, or broken off."""


class SilentListener:
    """A display that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **values: None


@dataclass(frozen=True)
class TrainingInputs:
    """What a run is made of, besides its recipe."""

    model: nn.Module
    labels: LabelSpace
    train: Any
    val: Any
    class_weights: Tensor | None
    keep_best: Callable[[nn.Module, Progress, SegmentationMetrics], None]
    folder: Path


@dataclass
class RunState:
    """A run under way: what its checkpoint holds, what that was made for, and where the run is going.

    Parameters
    ----------
    recipe, materials, interrupts
        As :func:`fit` has them.
    accelerator : Accelerator
        Device and processes.
    objective : callable
        (logits, labels) -> what a step makes small, summed.
    model : Module
        Is trained; on the accelerator's device.
    network : Module
        The same, wrapped for several processes.
    averaged : Module
        Holds the running mean of the weights; the model itself where there is none.
    average : dict of str to Tensor, optional
        The mean's tensors by name.
    validated : Module
        What is validated and kept: the averaged network, or a copy of it where that must not be changed.
    optimizer : Optimizer
        Over the model's parameters.
    progress : Progress
        Counters and history.
    batches : iterator of Batch
        This process's, from the next step on.
    """

    recipe: Recipe
    materials: TrainingInputs
    interrupts: Interrupts
    accelerator: Accelerator
    objective: Objective
    model: nn.Module
    network: nn.Module
    averaged: nn.Module
    average: dict[str, Tensor] | None
    validated: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    batches: Iterator[Batch]
    agreed: int = 0
    """Number of the signal by which a process was asked to stop, once all of them know."""
    saved_at: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written, or the run began."""
    saving_took: float = 0.0
    """Seconds."""
    saved: tuple[int, int] | None = None
    """Steps and rows in the last checkpoint that this process wrote or read."""

    @classmethod
    def begin(cls, recipe: Recipe, materials: TrainingInputs, interrupts: Interrupts) -> RunState:
        """Put everything on its device, and go on from the checkpoint if there is one."""
        run, checkpoint = recipe.run, materials.folder / CHECKPOINT
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=run.device == "cpu", mixed_precision="bf16" if run.precision == "bf16" else "no")
        layout = torch.channels_last if run.channels_last else torch.contiguous_format
        model = cast(Any, materials.model).to(accelerator.device, memory_format=layout)  # its stub lacks memory_format
        averaged = copy.deepcopy(model) if run.average else model
        average = dict(averaged.state_dict()) if run.average else None
        optimizer = build_optimizer(model, recipe.optimizer)
        progress, saved = Progress(), None
        if checkpoint.exists():
            progress = load_checkpoint(checkpoint, model=model, average=average, optimizer=optimizer, runs=recipe.digests())
            saved = (progress.step, len(progress.history))
        validated = _for_validation(averaged, recipe, accelerator.device)  # before the model's forward is wrapped
        weights = None if materials.class_weights is None else materials.class_weights.to(accelerator.device)
        assert run.batch_size
        batches = batches_from(
            materials.train,
            recipe,
            first_step=progress.step,
            steps=run.steps_in_all(an_epoch=-(-len(materials.train) // run.batch_size)),
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            class_weights=materials.class_weights,
        )
        return cls(
            recipe,
            materials,
            interrupts,
            accelerator,
            objective_of(recipe.loss, class_weights=weights),
            model,
            accelerator.prepare_model(model),
            averaged,
            average,
            validated,
            optimizer,
            progress,
            batches,
            saved=saved,
        )

    @property
    def first(self) -> bool:
        """Whether this process writes and shows."""
        return bool(self.accelerator.is_main_process)

    @property
    def images_a_step(self) -> int:
        """Images in a step, over all processes."""
        assert self.recipe.run.batch_size
        return self.recipe.run.batch_size

    @property
    def steps_an_epoch(self) -> int:
        """Steps in which every image is read once."""
        return -(-len(self.materials.train) // self.images_a_step)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.run.steps_in_all(an_epoch=self.steps_an_epoch)

    @property
    def parts_an_epoch(self) -> int:
        """Rows of the log in an epoch."""
        return self.recipe.run.parts_of(an_epoch=self.steps_an_epoch)

    @property
    def rows(self) -> int:
        """Rows of the whole log."""
        return (self.steps - 1) * self.parts_an_epoch // self.steps_an_epoch + 1

    def end_of(self, row: int) -> int:
        """Return the step that ends a row of the log, which is counted from 1."""
        return min(-(-row * self.steps_an_epoch // self.parts_an_epoch), self.steps)

    def epoch_of(self, row: int) -> float:
        """Return how many epochs are done when a row ends."""
        return row / self.parts_an_epoch if self.parts_an_epoch > 1 else row

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, which is counted from 0: a function of the schedule alone."""
        assert self.recipe.optimizer.lr is not None
        planned = self.recipe.run.steps_planned(step, an_epoch=self.steps_an_epoch)
        return self.recipe.optimizer.lr * learning_rate(self.recipe.schedule, step=step, steps=planned, steps_an_epoch=self.steps_an_epoch)

    @property
    def stopped_early(self) -> bool:
        """Whether validation stopped the run, and nobody lengthened it there."""
        return self.progress.stopped and not self.recipe.run.lengthened_at(self.progress.step)

    @property
    def asked_to_stop(self) -> bool:
        """Whether this run is to stop here; the same in all processes."""
        return self.agreed > 0 or (self.accelerator.num_processes == 1 and self.interrupts.asked > 0)

    def agree(self) -> None:
        """Let every process know if one of them was asked to stop."""
        if self.accelerator.num_processes > 1:
            self.note_agreed(self.accelerator.reduce(self.asked_by(), reduction="sum").tolist())

    def asked_by(self) -> Tensor:
        """Return 1 for the signal that this process was asked by, 0 for others; (signals,) float32."""
        return torch.tensor([float(self.interrupts.asked == number) for number in SIGNALS], device=self.accelerator.device)

    def note_agreed(self, processes: list[float]) -> None:
        """Take note of how many processes were asked by each signal."""
        self.agreed = next((int(number) for number, count in zip(SIGNALS, processes, strict=True) if count > 0), self.agreed)


def fit(recipe: Recipe, materials: TrainingInputs, *, display: ProgressListener, interrupts: Interrupts | None = None) -> Progress:
    """Train until the last epoch, or until validation has not improved for ``run.patience`` times.

    Parameters
    ----------
    recipe : Recipe
        Complete: nothing left to choose.
    materials : TrainingInputs
        Network, data and the folder; a checkpoint there is continued.
    display : ProgressListener
        Shows progress.
    interrupts : Interrupts, optional
        Looked at between steps, between the images of a validation and between the batches of a measurement; a run
        that was asked to stop saves its state and does. An exception raised anywhere saves nothing.

    Returns
    -------
    Progress
        Of the finished run.

    Raises
    ------
    TrainingError
        The loss is not finite, or memory ran out; says where. The last checkpoint is kept.
    RunInterrupted
        The run was asked to stop.
    """
    state = RunState.begin(recipe, materials, interrupts or Interrupts())
    progress = state.progress
    display.begin(recipe=recipe, progress=progress, steps_an_epoch=state.steps_an_epoch)
    try:
        for number in range(len(progress.history) + 1, state.rows + 1):
            while progress.step < state.end_of(number) and not state.stopped_early:
                loss = take_step(state)
                display.step(epoch=math.ceil(state.epoch_of(number)), loss=loss, images=state.images_a_step)
                if time.monotonic() - state.saved_at > 60 * recipe.run.checkpoint_minutes:
                    save_state(state)
            if state.stopped_early:
                break
            row, better = finish_row(state, number, display)
            if better is not None and state.first:
                materials.keep_best(state.validated, progress, better)
            if number == state.rows or progress.stopped or time.monotonic() - state.saved_at > LEAST_INTERVAL * state.saving_took:
                save_state(state)
            display.row(row)
        if recipe.run.precise_bn:
            measure(state, state.model)  # the last network, after its last checkpoint
            state.agree()
            leave_if_asked(state)
    finally:
        display.end(progress)
    return progress


def take_step(state: RunState) -> float:
    """Forward, backward and one step over ``run.accumulate`` parts; return the objective."""
    leave_if_asked(state)
    with memory_errors_explained(state.recipe, state.materials.folder):
        return _take_step(state)


def _take_step(state: RunState) -> float:
    recipe, run, progress, accelerator = state.recipe, state.recipe.run, state.progress, state.accelerator
    started = time.monotonic()
    if run.lengthened_at(progress.step):
        progress.stopped, progress.stale = False, 0
    # Dropout and loss sampling.
    torch.manual_seed((run.seed * 1_000_003 + progress.step) * 1024 + accelerator.process_index)
    rate = state.rate_at(progress.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    parts = _next_parts(state)
    # The divisor is that of the whole step, over parts and ranks: neither changes the objective.
    if recipe.loss.normalize == "valid":
        share = torch.stack([count_valid(part.labels) for part in parts]).sum().to(accelerator.device)
    else:
        share = torch.tensor(sum(len(part.labels) for part in parts), device=accelerator.device)
    divisor = accelerator.reduce(share, reduction="sum").clamp(min=1)
    total = torch.zeros((), device=accelerator.device)
    state.network.train()
    for i, part in enumerate(parts):
        images = part.images.to(accelerator.device, non_blocking=True)
        labels = part.labels.to(accelerator.device, non_blocking=True)
        if not run.channels_last:
            images = images.contiguous()
        last = i == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(state.network):
            pixels = None if part.weights is None else part.weights.to(accelerator.device, non_blocking=True)
            loss = state.objective(state.network(images), labels, pixel_weights=pixels) / divisor
            accelerator.backward(loss * accelerator.num_processes)  # DDP takes the mean over ranks; the objective is their sum
        total += loss.detach()
    value = _sum_over_ranks(state, total)
    if not _is_finite(value):
        keys = ", ".join(key for part in parts for key in part.keys)
        raise TrainingError(
            f"the loss became {value} in epoch {progress.step // state.steps_an_epoch + 1}, step {progress.step + 1}, on {keys}: "
            f"lower optimizer.lr (now {recipe.optimizer.lr:g}){kept_in(state.materials.folder)}"
        )
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    if state.average is not None:
        average_weights(state.average, state.model, decay=run.average or 0, step=progress.step)
    progress.seconds += time.monotonic() - started
    progress.running_loss = [progress.running_loss[0] + value, progress.running_loss[1] + 1]
    return value


def _next_parts(state: RunState) -> list[Batch]:
    try:
        return [next(state.batches) for _ in range(state.recipe.run.accumulate)]
    except Exception:
        leave_if_asked(state)  # what asked this process to stop may have ended those that read; no state has changed yet
        raise


def _sum_over_ranks(state: RunState, total: Tensor) -> float:
    """Return the sum of a number over all processes; whether one of them was asked to stop rides on it."""
    if state.accelerator.num_processes == 1:
        return float(total)
    value, *processes = state.accelerator.reduce(torch.cat([total[None], state.asked_by()]), reduction="sum").tolist()
    state.note_agreed(processes)
    return float(value)


def finish_row(state: RunState, number: int, display: ProgressListener) -> tuple[dict[str, float], SegmentationMetrics | None]:
    """Validate where that is due, and add a row to the history; return the row, and the metrics if they are the best so far."""
    leave_if_asked(state)
    run, progress = state.recipe.run, state.progress
    row = {
        "epoch": round(state.epoch_of(number), 4),
        "step": progress.step,
        "loss": progress.running_loss[0] / max(1, progress.running_loss[1]),
        "lr": state.rate_at(progress.step - 1),
        "seconds": round(progress.seconds, 3),
    }
    better = None
    if state.parts_an_epoch > 1 or number % (run.validate_every or 1) == 0 or number == state.rows:
        metrics = validate(state, display)
        row |= {"miou": metrics.mean_iou, "pixel_accuracy": metrics.pixel_accuracy, "mean_accuracy": metrics.mean_accuracy}
        if metrics.mean_iou > progress.best_miou:
            better = metrics
            progress.best_miou, progress.best_epoch, progress.stale = metrics.mean_iou, row["epoch"], 0
        else:
            progress.stale += 1
            progress.stopped = progress.stale >= (run.patience or state.rows)
    progress.history.append(row)
    progress.running_loss = [0.0, 0]
    return row, better


def validate(state: RunState, display: ProgressListener) -> SegmentationMetrics:
    """Evaluate the network as :func:`upscore.evaluation.evaluate.evaluate` would its bundle: same path, same precision, same numbers."""
    recipe, accelerator = state.recipe, state.accelerator
    if state.validated is not state.averaged:
        state.validated.load_state_dict(state.averaged.state_dict())
    if recipe.run.precise_bn:
        measure(state, state.validated)
    matrix = ConfusionMatrix(len(state.materials.labels))

    def shown(done: int, total: int) -> None:
        if state.first:
            display.validating(done, total)
        if state.interrupts.asked:
            raise _CutShort

    # A process that is asked to stop still takes part in what follows, which the others wait for.
    with contextlib.suppress(_CutShort), memory_errors_explained(recipe, state.materials.folder, validating=True):
        predictor = Predictor.of(
            state.validated,
            state.materials.labels,
            device=str(accelerator.device),
            precision=recipe.run.precision or "fp32",
            channels_last=runs_channels_last(accelerator.device),
        )
        shard = (accelerator.process_index, accelerator.num_processes)
        if not state.interrupts.asked:
            matrix = evaluate(predictor, state.materials.val, shard=shard, progress=shown).matrix
    counts = torch.from_numpy(matrix.counts).to(accelerator.device)
    ignored = torch.tensor(matrix.ignored, device=accelerator.device)
    counts, ignored = (accelerator.reduce(number, reduction="sum") for number in (counts, ignored))
    state.agree()
    leave_if_asked(state)
    return ConfusionMatrix.of(counts.cpu().numpy(), ignored=int(ignored)).metrics()


class _CutShort(Exception):
    """A validation that nobody waits for."""


def measure(state: RunState, network: nn.Module) -> None:
    """Measure what batch normalisation divides by over the run's first batches, all ranks together."""
    recipe, accelerator = state.recipe.model_copy(update={"loss": LossSection()}), state.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    firsts = batches_from(state.materials.train, recipe, first_step=0, steps=recipe.run.precise_bn, rank=rank, world=world)

    def until_asked(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if state.interrupts.asked:
                return
            yield batch

    with accelerator.autocast(), memory_errors_explained(recipe, state.materials.folder):
        measure_statistics(
            network, until_asked(firsts), device=accelerator.device, reduce=lambda mean: accelerator.reduce(mean, reduction="mean")
        )


def save_state(state: RunState) -> None:
    """Write the checkpoint, in the first process; only ever between steps."""
    state.saved = (state.progress.step, len(state.progress.history))
    if state.first:
        began = time.monotonic()
        save_checkpoint(
            state.materials.folder / CHECKPOINT,
            model=state.model,
            average=state.average,
            optimizer=state.optimizer,
            progress=state.progress,
            run=state.recipe.digest(),
        )
        state.saved_at = time.monotonic()
        state.saving_took = state.saved_at - began


def leave_if_asked(state: RunState) -> None:
    """Save and stop, if a signal asked for it; between steps, where the state is whole.

    Raises
    ------
    RunInterrupted
        It did.
    """
    if not state.asked_to_stop:
        return
    progress, folder = state.progress, state.materials.folder
    number = state.interrupts.asked or state.agreed
    if progress.step == 0 and state.saved is None:
        raise RunInterrupted("interrupted before the first step was done: there was nothing to save", number=number)
    if state.saved != (progress.step, len(progress.history)):
        save_state(state)
    state.accelerator.wait_for_everyone()  # a process that leaves may take the others with it
    raise RunInterrupted(
        f"interrupted after step {progress.step} of {state.steps}, and saved: go on with upscore train --resume --out {folder}",
        number=number,
    )


def _for_validation(averaged: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """Return the network to validate: in the memory layout of a bundle's network, since layouts differ in rounding.

    It is a copy where it is laid out otherwise than in training, and where statistics are measured for it, which must not flow
    back into training.
    """
    as_trained = bool(recipe.run.channels_last) == runs_channels_last(device)
    if as_trained and not recipe.run.precise_bn:
        return averaged
    layout = torch.channels_last if runs_channels_last(device) else torch.contiguous_format
    return cast(nn.Module, cast(Any, copy.deepcopy(averaged)).to(memory_format=layout))


def _is_finite(value: float) -> bool:
    return value - value == 0
