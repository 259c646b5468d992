"""The training loop, on one screen: batches in, steps, a judgement after each epoch or part of one, a checkpoint.

Everything random is a function of (seed, epoch, key) or (seed, step, rank), everything
scheduled a function of the step; so a run that was killed continues to the same weights,
bit for bit on a processor, from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from upscore.errors import TrainingError
from upscore.evaluation.evaluate import evaluate
from upscore.inference.predictor import Predictor
from upscore.losses import count_valid
from upscore.metrics import ConfusionMatrix, Scores
from upscore.training.batches import batches_from
from upscore.training.checkpoint import CHECKPOINT, Progress, load_checkpoint, save_checkpoint
from upscore.training.optimization import average_weights, build_optimizer, learning_rate, objective_of
from upscore.training.precise import measure_statistics
from upscore.training.recipe import LossSection, Recipe
from upscore.types import LabelSpace

__all__ = ["Display", "NoDisplay", "fit"]

LEAST_INTERVAL = 20
"""Epochs shorter than this many times what a checkpoint takes are not all kept: a run goes to training, not to writing."""


class Display(Protocol):
    """Where a run shows how it goes; the loop calls it on the first process only."""

    def begin(self, *, recipe: Recipe, progress: Progress, steps_an_epoch: int) -> None:
        """The run starts, or goes on from ``progress``."""

    def step(self, *, epoch: int, loss: float, images: int) -> None:
        """A step of ``images`` pictures is done."""

    def validating(self, done: int, total: int) -> None:
        """``done`` of ``total`` validation pictures are judged."""

    def row(self, row: dict[str, float]) -> None:
        """An epoch is done, or the part of one that is judged; ``row`` is its line in the log."""

    def end(self, progress: Progress) -> None:
        """The run is over, or broken off."""


class NoDisplay:
    """A display that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **values: None


@dataclass(frozen=True)
class Materials:
    """What a run is made of, besides its recipe."""

    model: nn.Module
    labels: LabelSpace
    train: Any
    val: Any
    class_weights: Tensor | None
    keep_best: Callable[[nn.Module, Progress, Scores], None]
    folder: Path


def fit(recipe: Recipe, materials: Materials, *, display: Display) -> Progress:
    """Train until the last epoch, or until validation has not improved for ``run.patience`` times.

    Parameters
    ----------
    recipe : Recipe
        Complete: nothing left to choose.
    materials : Materials
        Network, data and the folder; a checkpoint there is continued.
    display : Display
        Shows progress.

    Returns
    -------
    Progress
        Of the finished run.

    Raises
    ------
    TrainingError
        The loss is not finite; says where. The last checkpoint is kept.
    """
    run, checkpoint = recipe.run, materials.folder / CHECKPOINT
    batch_size, lr = run.batch_size, recipe.optimizer.lr
    assert batch_size is not None
    assert lr is not None
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=run.device == "cpu", mixed_precision="bf16" if run.precision == "bf16" else "no")
    rank, world, first = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process

    layout = torch.channels_last if run.channels_last else torch.contiguous_format
    model = cast(Any, materials.model).to(accelerator.device, memory_format=layout)  # its stub lacks memory_format
    weights = None if materials.class_weights is None else materials.class_weights.to(accelerator.device)
    objective = objective_of(recipe.loss, class_weights=weights)
    judge = copy.deepcopy(model) if run.average else model
    average = dict(judge.state_dict()) if run.average else None
    judged = copy.deepcopy(judge) if run.precise_bn else judge  # what is measured for it must not flow back into training
    optimizer = build_optimizer(model, recipe.optimizer)
    progress = Progress()
    if checkpoint.exists():
        progress = load_checkpoint(checkpoint, model=model, average=average, optimizer=optimizer, run=recipe.digest())
    network = accelerator.prepare_model(model)

    steps_an_epoch = -(-len(materials.train) // batch_size)
    steps = run.steps_in_all(an_epoch=steps_an_epoch)
    parts_an_epoch = run.parts_of(an_epoch=steps_an_epoch)
    rows = (steps - 1) * parts_an_epoch // steps_an_epoch + 1
    batches = batches_from(
        materials.train, recipe, first_step=progress.step, steps=steps, rank=rank, world=world, class_weights=materials.class_weights
    )
    saved, cost = time.monotonic(), 0.0

    def keep() -> None:
        nonlocal saved, cost
        if first:
            began = time.monotonic()
            save_checkpoint(checkpoint, model=model, average=average, optimizer=optimizer, progress=progress, run=recipe.digest())
            saved = time.monotonic()
            cost = saved - began

    def take_step() -> float:
        """Forward, backward and one step over ``run.accumulate`` parts; return the objective."""
        torch.manual_seed((run.seed * 1_000_003 + progress.step) * 1024 + rank)  # dropout and loss sampling
        rate = learning_rate(recipe.schedule, step=progress.step, steps=steps, steps_an_epoch=steps_an_epoch)
        for group in optimizer.param_groups:
            group["lr"] = lr * rate * group["scale"]
        parts = [next(batches) for _ in range(run.accumulate)]
        # The divisor is that of the whole step, over parts and ranks: neither changes the objective.
        if recipe.loss.normalize == "valid":
            share = torch.stack([count_valid(part.labels) for part in parts]).sum().to(accelerator.device)
        else:
            share = torch.tensor(sum(len(part.labels) for part in parts), device=accelerator.device)
        divisor = accelerator.reduce(share, reduction="sum").clamp(min=1)
        total = torch.zeros((), device=accelerator.device)
        network.train()
        for i, part in enumerate(parts):
            images = part.images.to(accelerator.device, non_blocking=True)
            labels = part.labels.to(accelerator.device, non_blocking=True)
            if not run.channels_last:
                images = images.contiguous()
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(network):
                pixels = None if part.weights is None else part.weights.to(accelerator.device, non_blocking=True)
                loss = objective(network(images), labels, pixel_weights=pixels) / divisor
                accelerator.backward(loss * world)  # DDP takes the mean over ranks; the objective is their sum
            total += loss.detach()
        value = float(accelerator.reduce(total, reduction="sum"))
        if not _is_finite(value):
            keys = ", ".join(key for part in parts for key in part.keys)
            raise TrainingError(
                f"the loss became {value} in epoch {progress.step // steps_an_epoch + 1}, step {progress.step + 1}, on {keys}: "
                f"lower optimizer.lr (now {lr:g}); the last good checkpoint is kept in {materials.folder}"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        if average is not None:
            average_weights(average, model, decay=run.average or 0, step=progress.step)
        return value

    def measure(network: nn.Module) -> None:
        """Measure what batch normalisation divides by over the run's first batches, all ranks together."""
        plain = recipe.model_copy(update={"loss": LossSection()})
        firsts = batches_from(materials.train, plain, first_step=0, steps=run.precise_bn, rank=rank, world=world)
        with accelerator.autocast():
            measure_statistics(network, firsts, device=accelerator.device, reduce=lambda mean: accelerator.reduce(mean, reduction="mean"))

    def validate() -> Scores:
        if run.precise_bn:
            judged.load_state_dict(judge.state_dict())
            measure(judged)
        predictor = Predictor.of(judged, materials.labels, device=str(accelerator.device), precision=run.precision or "fp32")
        evaluation = evaluate(predictor, materials.val, shard=(rank, world), progress=display.validating if first else None)
        counts = torch.from_numpy(evaluation.matrix.counts).to(accelerator.device)
        ignored = torch.tensor(evaluation.matrix.ignored, device=accelerator.device)
        counts, ignored = (accelerator.reduce(number, reduction="sum") for number in (counts, ignored))
        return ConfusionMatrix.of(counts.cpu().numpy(), ignored=int(ignored)).scores()

    display.begin(recipe=recipe, progress=progress, steps_an_epoch=steps_an_epoch)
    try:
        for row_number in range(len(progress.history) + 1, rows + 1):
            row_end = min(-(-row_number * steps_an_epoch // parts_an_epoch), steps)
            epoch = row_number / parts_an_epoch if parts_an_epoch > 1 else row_number
            while progress.step < row_end and not progress.stopped:
                started = time.monotonic()
                loss = take_step()
                progress.seconds += time.monotonic() - started
                progress.running_loss = [progress.running_loss[0] + loss, progress.running_loss[1] + 1]
                display.step(epoch=math.ceil(epoch), loss=loss, images=batch_size)
                if time.monotonic() - saved > 60 * run.checkpoint_minutes:
                    keep()
            if progress.stopped:
                break
            row = {
                "epoch": round(epoch, 4),
                "step": progress.step,
                "loss": progress.running_loss[0] / max(1, progress.running_loss[1]),
                "lr": optimizer.param_groups[0]["lr"],
                "seconds": round(progress.seconds, 3),
            }
            better = False
            if parts_an_epoch > 1 or row_number % (run.validate_every or 1) == 0 or row_number == rows:
                scores = validate()
                row |= {"miou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy, "mean_accuracy": scores.mean_accuracy}
                better = scores.mean_iou > progress.best_miou
                if better:
                    progress.best_miou, progress.best_epoch, progress.stale = scores.mean_iou, row["epoch"], 0
                else:
                    progress.stale += 1
                    progress.stopped = progress.stale >= (run.patience or rows)
            progress.history.append(row)
            progress.running_loss = [0.0, 0]
            if better and first:
                materials.keep_best(judged, progress, scores)
            if row_number == rows or progress.stopped or time.monotonic() - saved > LEAST_INTERVAL * cost:
                keep()
            display.row(row)
        if run.precise_bn:
            measure(model)  # the last network, after its last checkpoint
    except KeyboardInterrupt:
        keep()
        raise
    finally:
        display.end(progress)
    return progress


def _is_finite(value: float) -> bool:
    return value - value == 0
