"""The state of a run in progress: what a checkpoint holds, what it was made for, and how the run is to continue.

A checkpoint is written between steps and nowhere else: a signal that asks the run to stop waits for that.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from upscore.data.dataset import Dataset
from upscore.errors import RunInterrupted
from upscore.inference.segmenter import runs_channels_last
from upscore.losses import Objective
from upscore.metrics import SegmentationMetrics
from upscore.models.two_heads import TwoHeads
from upscore.training.batches import batches_from
from upscore.training.checkpoint import CHECKPOINT, Progress, read_checkpoint, write_checkpoint
from upscore.training.interrupts import SIGNALS, Interrupts
from upscore.training.objective import OwnObjective, build_objective
from upscore.training.optimizers import build_optimizer
from upscore.training.own_objects import OwnObjects, schedule_factor
from upscore.training.recipe import Recipe
from upscore.training.run_folder import resume_command
from upscore.training.schedules import lr_factor
from upscore.training.sync_batch_norm import synchronized_twin
from upscore.types import Batch, LabelSpace

__all__ = ["RunState", "TrainingInputs", "resume_command", "save_checkpoint", "stop_if_asked", "validates_channels_last"]


@dataclass(frozen=True)
class TrainingInputs:
    """What a run needs besides its recipe: ``model`` is trained in place, ``save_best`` is called in the first process
    with a network that validates better than all before, the progress and its metrics.
    """

    model: nn.Module
    labels: LabelSpace
    train: Dataset
    val: Dataset
    class_weights: Tensor | None
    save_best: Callable[[nn.Module, Progress, SegmentationMetrics], None]
    folder: Path
    own: OwnObjects = field(default_factory=OwnObjects)  #: the caller's loss, optimiser and schedule


@dataclass
class RunState:
    """A run in progress, on the accelerator's device."""

    recipe: Recipe
    inputs: TrainingInputs
    interrupts: Interrupts
    accelerator: Accelerator  #: device, processes and, in fp16, the scale of the loss
    objectives: tuple[Objective | OwnObjective, ...]  #: of each head of the network, one or two; their sum is minimised
    model: nn.Module
    network: nn.Module  #: the model's parameters, wrapped for several processes
    averaged: nn.Module  #: holds the running mean of the weights; the model itself where there is none
    average: dict[str, Tensor] | None  #: the mean's tensors by name
    validated: nn.Module  #: what is validated and saved: the averaged network, or a copy of it where that must not be changed
    optimizer: torch.optim.Optimizer
    progress: Progress
    batches: Iterator[Batch]  #: this process's, from the next step on
    stop_signal: int = 0  #: number of the signal by which a process was asked to stop, once all of them know
    saved_at: float = field(default_factory=time.monotonic)  #: when the last checkpoint was written, or the run began
    seconds_to_save: float = 0.0  #: how long the last checkpoint took
    saved: tuple[int, int] | None = None  #: steps and rows in the last checkpoint that this process wrote or read

    @classmethod
    def begin(cls, recipe: Recipe, inputs: TrainingInputs, interrupts: Interrupts) -> RunState:
        """Move everything to its device, and continue from the checkpoint if there is one."""
        run, checkpoint = recipe.run, inputs.folder / CHECKPOINT
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=run.device == "cpu", mixed_precision="no" if run.precision == "fp32" else run.precision)
        layout = torch.channels_last if run.channels_last else torch.contiguous_format
        model = cast(Any, inputs.model).to(accelerator.device, memory_format=layout)  # its stub lacks memory_format
        averaged = copy.deepcopy(model) if run.average else model
        average = dict(averaged.state_dict()) if run.average else None
        own = inputs.own
        optimizer = build_optimizer(model, recipe.optimizer, own.optimizer)
        progress, saved = Progress(), None
        if checkpoint.exists():
            parts: dict[str, Any] = {"model": model, "average": average, "optimizer": optimizer, "scaler": accelerator.scaler}
            progress = read_checkpoint(checkpoint, **parts, runs=recipe.digests())
            saved = (progress.step, len(progress.history))
        validated = _validation_copy(averaged, recipe, accelerator.device)  # before the model's forward is wrapped
        weights = None if inputs.class_weights is None else inputs.class_weights.to(accelerator.device)
        assert run.batch_size
        steps = run.total_steps(-(-len(inputs.train) // run.batch_size))
        shard = (accelerator.process_index, accelerator.num_processes)
        batches = batches_from(inputs.train, recipe, first_step=progress.step, steps=steps, shard=shard, class_weights=inputs.class_weights)
        return cls(
            recipe=recipe,
            inputs=inputs,
            interrupts=interrupts,
            accelerator=accelerator,
            objectives=tuple(
                OwnObjective.on(accelerator.device, own.loss) if own.loss else build_objective(recipe.loss, class_weights=of_head)
                for of_head in ((weights, None) if isinstance(model, TwoHeads) else (weights,))
            ),
            model=model,
            network=accelerator.prepare_model(synchronized_twin(model) if run.sync_batch_norm else model),
            averaged=averaged,
            average=average,
            validated=validated,
            optimizer=optimizer,
            progress=progress,
            batches=batches,
            saved=saved,
        )

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return bool(self.accelerator.is_main_process)

    @property
    def images_per_step(self) -> int:
        """Images in a step, over all processes."""
        assert self.recipe.run.batch_size
        return self.recipe.run.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image is read once."""
        return -(-len(self.inputs.train) // self.images_per_step)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.run.total_steps(self.steps_per_epoch)

    @property
    def rows_per_epoch(self) -> int:
        """Rows of the log in an epoch."""
        return self.recipe.run.rows_per_epoch(self.steps_per_epoch)

    @property
    def rows(self) -> int:
        """Rows of the whole log."""
        return (self.steps - 1) * self.rows_per_epoch // self.steps_per_epoch + 1

    def last_step_of(self, row: int) -> int:
        """Return the step that ends a row of the log, both counted from 1."""
        return min(-(-row * self.steps_per_epoch // self.rows_per_epoch), self.steps)

    def epochs_at(self, row: int) -> float:
        """Return how many epochs are done when a row ends."""
        return row / self.rows_per_epoch if self.rows_per_epoch > 1 else row

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a function of the schedule alone."""
        assert self.recipe.optimizer.lr is not None
        per_epoch = self.steps_per_epoch
        planned = self.recipe.run.planned_steps(step, steps_per_epoch=per_epoch)
        if self.inputs.own.schedule is not None:
            return self.recipe.optimizer.lr * schedule_factor(self.inputs.own.schedule, step, planned)
        return self.recipe.optimizer.lr * lr_factor(self.recipe.schedule, step=step, steps=planned, steps_per_epoch=per_epoch)

    @property
    def stopped_early(self) -> bool:
        """Whether validation stopped the run, and the run was not lengthened there."""
        return self.progress.stopped and not self.recipe.run.lengthened_at(self.progress.step)

    def exchange_signals(self) -> None:
        """Let every process know if one of them was asked to stop."""
        if self.accelerator.num_processes > 1:
            self.receive_signals(self.accelerator.reduce(self.signals_here(), reduction="sum").tolist())

    def signals_here(self) -> Tensor:
        """Return 1 for the signal that this process received, 0 for others; (signals,) float32."""
        return torch.tensor([float(self.interrupts.asked == number) for number in SIGNALS], device=self.accelerator.device)

    def receive_signals(self, processes: list[float]) -> None:
        """Store a signal that a process received, given how many processes received each."""
        self.stop_signal = next((int(number) for number, count in zip(SIGNALS, processes, strict=True) if count > 0), self.stop_signal)


def save_checkpoint(state: RunState) -> None:
    """Write the checkpoint, in the first process; only ever between steps."""
    state.saved = (state.progress.step, len(state.progress.history))
    if state.is_first:
        began = time.monotonic()
        write_checkpoint(
            state.inputs.folder / CHECKPOINT,
            model=state.model,
            average=state.average,
            optimizer=state.optimizer,
            progress=state.progress,
            run=state.recipe.digest(),
            scaler=state.accelerator.scaler,
        )
        state.saved_at = time.monotonic()
        state.seconds_to_save = state.saved_at - began


def stop_if_asked(state: RunState) -> None:
    """Save and raise RunInterrupted, if a signal asked for it; between steps, where the state is consistent, and in all processes alike."""
    if not state.stop_signal and (state.accelerator.num_processes > 1 or not state.interrupts.asked):
        return
    progress, folder = state.progress, state.inputs.folder
    number = state.interrupts.asked or state.stop_signal
    if progress.step == 0 and state.saved is None:
        raise RunInterrupted("interrupted before the first step was done: there was nothing to save", number=number)
    if state.saved != (progress.step, len(progress.history)):
        save_checkpoint(state)
    state.accelerator.wait_for_everyone()  # a process that leaves may take the others with it
    raise RunInterrupted(
        f"interrupted after step {progress.step} of {state.steps}, and saved: go on with {resume_command(folder, state.recipe.own)}",
        number=number,
    )


def validates_channels_last(recipe: Recipe, device: torch.device) -> bool:
    """Return whether the run's bundle will compute in NHWC memory order."""
    return runs_channels_last(device) and not recipe.own.keys() & {"model", "backbone", "decoder"}


def _validation_copy(averaged: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """Return the network to validate: in the memory layout of a bundle's network, since layouts differ in rounding.

    It is a copy where that is another layout than in training, and where statistics are measured for it, which must not flow
    back into training.
    """
    validated_last = validates_channels_last(recipe, device)
    as_trained = bool(recipe.run.channels_last) == validated_last
    if as_trained and not recipe.run.precise_bn:
        return averaged
    layout = torch.channels_last if validated_last else torch.contiguous_format
    return cast(nn.Module, cast(Any, copy.deepcopy(averaged)).to(memory_format=layout))
