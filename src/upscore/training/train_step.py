"""One step of training: forward, backward and update over the parts of a batch, on all processes together."""

from __future__ import annotations

import contextlib
import math
import time

import torch
from torch import Tensor, nn

from upscore.errors import DataError, TrainingError
from upscore.training.memory import checkpoint_clause, explain_out_of_memory
from upscore.training.network_parts import set_training_mode
from upscore.training.objective import count_units, divisors
from upscore.training.optimizers import update_weights
from upscore.training.run_state import RunState, stop_if_asked
from upscore.types import Batch

__all__ = ["average_weights", "train_step"]


def train_step(state: RunState) -> float:
    """Take one step, computed in ``run.accumulate`` parts; return the objective.

    Raises TrainingError where the loss is not finite or memory ran out, RunInterrupted where a signal asked for it before the step.
    """
    stop_if_asked(state)
    with explain_out_of_memory(state.recipe, state.inputs.folder):
        started, run, progress = time.monotonic(), state.recipe.run, state.progress
        if run.lengthened_at(progress.step):
            progress.stopped, progress.stale = False, 0
        # Dropout and loss sampling are a function of (seed, step, process).
        torch.manual_seed((run.seed * 1_000_003 + progress.step) * 1024 + state.accelerator.process_index)
        _set_lr(state)
        parts = _next_parts(state)
        loss = _sum_over_processes(state, _backward(state, parts))
        _check_finite(state, loss, parts)
        update_weights(state.optimizer, max_grad_norm=state.recipe.optimizer.max_grad_norm, scaler=state.accelerator.scaler)
        progress.step += 1
        if state.average is not None:
            average_weights(state.average, state.model, decay=run.average or 0, step=progress.step)
        progress.seconds += time.monotonic() - started
        progress.running_loss = [progress.running_loss[0] + loss, progress.running_loss[1] + 1]
        return loss


def _set_lr(state: RunState) -> None:
    lr = state.lr_at(state.progress.step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def _next_parts(state: RunState) -> list[Batch]:
    try:
        return [next(state.batches) for _ in range(state.recipe.run.accumulate)]
    except Exception:
        stop_if_asked(state)  # the signal may have ended the processes that read images; no state has changed yet
        raise


def _backward(state: RunState, parts: list[Batch]) -> Tensor:
    """Add up the gradients of all parts; return this process's part of the objective."""
    recipe, accelerator = state.recipe, state.accelerator
    device = accelerator.device
    # Units are counted over all processes, which therefore do not change the objective; nor do parts, unless each has its own mean.
    # Each head has its own.
    heads = [_labels_of_heads(state, part) for part in parts]
    units = torch.stack([count_units(recipe.loss, labels) for labels_of_part in heads for labels in labels_of_part]).to(device)
    reduced = accelerator.reduce(units, reduction="sum").view(len(parts), -1)
    divisor = torch.stack([divisors(recipe.loss, of_head) for of_head in reduced.unbind(1)], dim=1)
    total = torch.zeros((), device=device)
    set_training_mode(accelerator.unwrap_model(state.network), frozen=recipe.model.freeze)
    for i, part in enumerate(parts):
        images = part.images.to(device, non_blocking=True)
        labels = [labels_of_head.to(device, non_blocking=True) for labels_of_head in heads[i]]
        if not recipe.run.channels_last:
            images = images.contiguous()
        is_last = i == len(parts) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(state.network):
            weights = None if part.weights is None else part.weights.to(device, non_blocking=True)
            logits = (state.network(images),) if len(labels) == 1 else state.network(images, both=True)
            losses = (
                objective(logits[head], labels[head], pixel_weights=weights) / divisor[i, head]
                for head, objective in enumerate(state.objectives)
            )
            loss = torch.stack(list(losses)).sum()
            accelerator.backward(loss * accelerator.num_processes)  # DDP takes the mean over processes; the objective is their sum
        total += loss.detach()
    return total


def _labels_of_heads(state: RunState, part: Batch) -> list[Tensor]:
    """Return the labels of each head of the network."""
    if len(state.objectives) == 1:
        return [part.labels]
    if part.second_labels is None:
        raise DataError(f"{', '.join(part.keys)}: found no second_label, expected one in each sample, since the dataset has second_labels")
    return [part.labels, part.second_labels]


def _sum_over_processes(state: RunState, total: Tensor) -> float:
    """Return the sum of a number over all processes, which also tell each other of signals to stop."""
    if state.accelerator.num_processes == 1:
        return float(total)
    value, *processes = state.accelerator.reduce(torch.cat([total[None], state.signals_here()]), reduction="sum").tolist()
    state.receive_signals(processes)
    return float(value)


def _check_finite(state: RunState, loss: float, parts: list[Batch]) -> None:
    if math.isfinite(loss):
        return
    keys, step = ", ".join(key for part in parts for key in part.keys), state.progress.step
    raise TrainingError(
        f"the loss became {loss} in epoch {step // state.steps_per_epoch + 1}, step {step + 1}, on {keys}: "
        f"lower optimizer.lr (now {state.recipe.optimizer.lr:g}){checkpoint_clause(state.inputs.folder)}"
    )


@torch.no_grad()
def average_weights(average: dict[str, Tensor], model: nn.Module, *, decay: float, step: int) -> None:
    """Move the running mean a step towards the model's parameters and buffers, in place.

    The decay grows with the steps, ``min(decay, (1 + step) / (10 + step))``, so that the
    random beginning is forgotten. Counters (integer buffers) are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    state = model.state_dict()
    floats = [name for name in average if average[name].is_floating_point()]
    torch._foreach_lerp_([average[name] for name in floats], [state[name] for name in floats], 1 - decay)
    for name in average.keys() - set(floats):
        average[name].copy_(state[name])
