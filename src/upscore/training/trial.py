"""A trial of one step before a run: how long a step takes, and whether it fits into memory.

The step is that of the run (the network, the objective, the optimiser, the crop, the precision) on a copy of the network and on
random images. Nothing of it stays: not a weight, not a statistic of batch normalisation, not a state of a random-number generator.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from upscore.losses import Objective
from upscore.models.two_heads import TwoHeads
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.training.memory import MemoryShortage, check_memory, refuse_shortage, step_memory, weight_memory
from upscore.training.network_parts import set_training_mode
from upscore.training.objective import OwnObjective, build_objective, count_units
from upscore.training.optimizers import build_optimizer, update_weights
from upscore.training.own_objects import OwnObjects
from upscore.training.recipe import Recipe

__all__ = ["Trial", "find_parts", "try_step"]

FRACTION = 0.25
"""A step is tried whole on a CPU where its lower bound is below this fraction of the memory: a process that takes more is killed."""

MAX_TRIED = 2  # images that are tried where the whole part of a step is not; batch normalisation may need more than one

LONG = 10.0  # seconds of a step that is not repeated to be timed when everything is warm

SAMPLING = 0.002  # seconds between two measurements of the memory in use


class Trial(NamedTuple):
    """What a step takes."""

    seconds: float  #: of a whole step, all its parts, without reading images
    memory: int | None  #: bytes in use at its peak on one device, extrapolated from fewer images on a CPU; None where it is not known


def find_parts(
    model: nn.Module,
    recipe: Recipe,
    *,
    classes: int,
    class_weights: Tensor | None,
    memory: int | None,
    adjustable: bool,
    largest: tuple[int, int] | None = None,
    own: OwnObjects | None = None,
) -> tuple[int, Trial]:
    """Return ``run.accumulate`` with which a step fits into memory, and the trial of a step with it.

    Parameters
    ----------
    model : nn.Module
        On the CPU; not changed.
    recipe : Recipe
        Complete.
    classes : int
        K.
    class_weights : (K,) tensor, optional
        Of the objective.
    memory : int, optional
        Bytes of a device; None is unknown, and only what really runs out is noticed.
    adjustable : bool
        Whether more parts than ``run.accumulate`` may be tried, by divisors of the images per device; the objective stays the same.
    largest : (int, int), optional
        Height and width of the largest image, where images are not cropped.
    own : OwnObjects, optional
        The caller's own loss and optimiser.

    Raises
    ------
    RecipeError
        No number of parts is enough, with what to change.
    Exception
        What PyTorch raises where memory really ran out; :func:`upscore.training.memory.explain_out_of_memory` explains it.
    """
    run = recipe.run
    assert run.batch_size
    assert run.devices
    images = run.batch_size // run.devices
    candidates = [parts for parts in range(run.accumulate, images + 1) if images % parts == 0] if adjustable else [run.accumulate]
    shortage: Exception | None = None
    for parts in candidates:
        candidate = recipe.with_values({"run.accumulate": parts})
        try:
            check_memory(model, candidate, memory=memory, largest=largest)
            return parts, try_step(model, candidate, classes=classes, class_weights=class_weights, memory=memory, largest=largest, own=own)
        except Exception as error:
            if not isinstance(error, MemoryShortage) and not is_out_of_memory(error):
                raise
            shortage = error.with_traceback(None)  # its frames hold what was allocated
        _release()
    assert shortage is not None
    raise shortage


def try_step(
    model: nn.Module,
    recipe: Recipe,
    *,
    classes: int,
    class_weights: Tensor | None = None,
    memory: int | None = None,
    largest: tuple[int, int] | None = None,
    own: OwnObjects | None = None,
) -> Trial:
    """Take a step on a copy of the network, on the recipe's device; arguments and errors as :func:`find_parts`, for one number of parts."""
    run = recipe.run
    assert run.batch_size
    assert run.devices
    device = torch.device(run.device or "cpu")
    part = run.batch_size // (run.devices * run.accumulate)
    on_cpu = device.type == "cpu"
    whole = not on_cpu or (memory is not None and run.devices * step_memory(model, recipe, largest=largest) < FRACTION * memory)
    images = part if whole else min(MAX_TRIED, part)
    cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), _peak(device) as peak:
        step = _Step(
            model,
            recipe,
            images=images,
            size=recipe.augment.largest_size(largest),
            classes=classes,
            class_weights=class_weights,
            device=device,
            own=own or OwnObjects(),
        )
        seconds = step.take()
        if seconds < LONG:
            seconds = step.take()
        del step
    _release()
    used = peak.bytes
    if on_cpu and used is not None:
        # The weights, their gradients and the optimiser's state do not grow with the images; all else is taken to.
        fixed = weight_memory(model, recipe) * (2 if recipe.run.average else 1)
        used = peak.before + fixed + max(0, used - peak.before - fixed) * part // images
        if memory is not None and images < part:
            refuse_shortage(recipe, run.devices * used, memory)
    return Trial(seconds * run.accumulate * part / images, used)


class _Step:
    """A copy of the network with its optimiser, and a part of a step's random images and labels, on a device."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        images: int,
        size: tuple[int, int],
        classes: int,
        class_weights: Tensor | None,
        device: torch.device,
        own: OwnObjects,
    ) -> None:
        self.recipe, self.device = recipe, device
        layout = torch.channels_last if recipe.run.channels_last else torch.contiguous_format
        self.model = cast(Any, copy.deepcopy(model)).to(device, memory_format=layout)
        self.average = copy.deepcopy(self.model) if recipe.run.average else None  # takes memory in the run too
        weights = None if class_weights is None else class_weights.to(device)
        heads = ((classes, weights), (model.second_classes, None)) if isinstance(model, TwoHeads) else ((classes, weights),)
        self.objectives: list[Objective | OwnObjective] = [
            build_objective(recipe.loss, class_weights=of_head) if own.loss is None else OwnObjective.on(device, own.loss)
            for _, of_head in heads
        ]
        self.optimizer = build_optimizer(self.model, recipe.optimizer, own.optimizer)
        self.images = torch.rand((images, len(recipe.input.spec()), *size), device=device)
        self.labels = [torch.randint(0, count, (images, *size), device=device) for count, _ in heads]
        weighted = recipe.loss.border_weight or recipe.loss.separate_with
        self.weights = torch.ones((images, *size), device=device) if weighted else None

    def take(self) -> float:
        """Take a step, and return its seconds."""
        recipe, device = self.recipe, self.device
        self._wait()
        began = time.perf_counter()
        set_training_mode(self.model, frozen=recipe.model.freeze)
        half = torch.float16 if recipe.run.precision == "fp16" else torch.bfloat16
        images = self.images.to(memory_format=torch.channels_last) if recipe.run.channels_last else self.images
        with torch.autocast(device.type, half) if recipe.run.precision != "fp32" else contextlib.nullcontext():
            logits: tuple[Tensor, ...] = (self.model(images),) if len(self.labels) == 1 else self.model(images, both=True)
        losses = [
            objective(of_head.float(), labels, pixel_weights=self.weights) / count_units(recipe.loss, labels).clamp(min=1)
            for objective, of_head, labels in zip(self.objectives, logits, self.labels, strict=True)
        ]
        torch.autograd.backward(torch.stack(losses).sum())
        update_weights(self.optimizer, max_grad_norm=recipe.optimizer.max_grad_norm)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.device.type == "mps":
            torch.mps.synchronize()


class _Peak:
    """The memory in use before a block and, when it has ended, at its peak; None where it is not known."""

    before: int = 0
    bytes: int | None = None


@contextlib.contextmanager
def _peak(device: torch.device) -> Iterator[_Peak]:
    """Measure the memory of a block: the device's as PyTorch counts it, or this process's."""
    peak = _Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        peak.before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    first = _resident() if device.type == "cpu" else None
    if first is None:
        yield peak
        return
    ended, found = threading.Event(), [first]

    def sample() -> None:
        while not ended.wait(SAMPLING):
            found.append(max(found.pop(), _resident() or 0))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    peak.before = first
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()
        peak.bytes = found[0]


def _resident() -> int | None:
    """Return the bytes of memory that this process has; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _release() -> None:
    """Give memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # nothing where CUDA was not used
