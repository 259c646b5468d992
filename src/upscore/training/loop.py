"""The training loop, on one screen: batches in, steps, a validation after each epoch or fraction of one, a checkpoint.

Everything random is a function of (seed, epoch, key) or (seed, step, process), everything
scheduled a function of the step; so a run that was killed continues to the same weights,
bit for bit on a CPU, from its last checkpoint.
"""

from __future__ import annotations

import math
import time

from upscore.metrics import SegmentationMetrics
from upscore.training.checkpoint import Progress
from upscore.training.interrupts import Interrupts
from upscore.training.progress_listener import ProgressListener
from upscore.training.recipe import Recipe
from upscore.training.run_state import RunState, TrainingInputs, save_checkpoint, stop_if_asked
from upscore.training.train_step import train_step
from upscore.training.validation import measure_batch_norm, validate

__all__ = ["fit"]

MIN_INTERVAL = 20
"""Epochs shorter than this many times what a checkpoint takes do not all end with one: time goes to training, not to writing."""


def fit(recipe: Recipe, inputs: TrainingInputs, *, listener: ProgressListener, interrupts: Interrupts | None = None) -> Progress:
    """Train until the last epoch, or until validation has not improved for ``run.patience`` times; return the progress of the finished run.

    The recipe is complete; a checkpoint in the folder of ``inputs`` is continued. ``interrupts`` are read between steps, between the images
    of a validation and between the batches of a measurement; a run that was asked to stop saves its state and raises RunInterrupted.
    A TrainingError names the step at which the loss was not finite, or memory ran out. It saves nothing, nor does any other exception:
    the last checkpoint stays.
    """
    state = RunState.begin(recipe, inputs, interrupts or Interrupts())
    progress = state.progress
    listener.begin(recipe=recipe, progress=progress, steps_per_epoch=state.steps_per_epoch)
    try:
        for row in range(len(progress.history) + 1, state.rows + 1):
            while progress.step < state.last_step_of(row) and not state.stopped_early:
                loss = train_step(state)
                listener.step(epoch=math.ceil(state.epochs_at(row)), loss=loss, images=state.images_per_step)
                if time.monotonic() - state.saved_at > 60 * recipe.run.checkpoint_minutes:
                    save_checkpoint(state)
            if state.stopped_early:
                break
            finish_row(state, row, listener)
            if row == state.rows or progress.stopped or time.monotonic() - state.saved_at > MIN_INTERVAL * state.seconds_to_save:
                save_checkpoint(state)
            listener.row(progress.history[-1])
        if recipe.run.precise_bn:  # for the last network, after its last checkpoint
            measure_batch_norm(state, state.model)
            state.exchange_signals()
            stop_if_asked(state)
    finally:
        listener.end(progress)
    return progress


def finish_row(state: RunState, number: int, listener: ProgressListener) -> None:
    """Add row ``number``, counted from 1, to the history; validate where that is due, and save the network if it is the best so far."""
    stop_if_asked(state)
    run, progress = state.recipe.run, state.progress
    row = {
        "epoch": round(state.epochs_at(number), 4),
        "step": progress.step,
        "loss": progress.running_loss[0] / max(1, progress.running_loss[1]),
        "lr": state.lr_at(progress.step - 1),
        "seconds": round(progress.seconds, 3),
    }
    is_best, metrics = False, None
    if state.rows_per_epoch > 1 or number % (run.validate_every or 1) == 0 or number == state.rows:
        metrics, loss = validate(state, listener)
        row |= {} if loss is None else {"val_loss": loss}
        row |= {
            "miou": metrics.mean_iou,
            "pixel_accuracy": metrics.pixel_accuracy,
            "mean_accuracy": metrics.mean_accuracy,
        }
        is_best = _compare_with_best(state, metrics, row["epoch"])
    progress.history.append(row)
    progress.running_loss = [0.0, 0]
    if is_best and metrics is not None and state.is_first:
        state.inputs.save_best(state.validated, progress, metrics)


def _compare_with_best(state: RunState, metrics: SegmentationMetrics, epoch: float) -> bool:
    """Return whether a validation is the best so far; count those since then, and stop the run if they are too many."""
    progress = state.progress
    is_best = metrics.mean_iou > progress.best_miou
    if is_best:
        progress.best_miou, progress.best_epoch, progress.stale = metrics.mean_iou, epoch, 0
    else:
        progress.stale += 1
        progress.stopped = progress.stale >= (state.recipe.run.patience or state.rows)
    return is_best
