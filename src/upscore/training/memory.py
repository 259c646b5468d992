"""Memory for a step: a lower bound of what it needs, whether the machine has that, and the error where it runs out.

The lower bound is what is in memory at once when the forward pass of one part of a step ends: the weights
with their gradients and the optimiser's state, the images, and all that is saved for the
backward pass. It is counted on the meta device, so that counting allocates nothing.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from upscore.errors import RecipeError, TrainingError
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.training.checkpoint import CHECKPOINT
from upscore.training.optimizers import OPTIMIZERS
from upscore.training.recipe import Recipe

__all__ = [
    "MemoryShortage",
    "advise",
    "check_memory",
    "checkpoint_clause",
    "explain_out_of_memory",
    "refuse_shortage",
    "step_memory",
    "weight_memory",
]


class MemoryShortage(RecipeError):
    """A step does not fit into memory."""


def step_memory(model: nn.Module, recipe: Recipe, *, largest: tuple[int, int] | None = None) -> int:
    """Return a lower bound of the bytes that a step of a complete recipe needs on one device; the model, on any device, is not changed.

    ``largest`` is the height and width of the largest image, which is needed where images are not cropped.
    """
    run = recipe.run
    assert run.batch_size
    assert run.devices
    size = recipe.augment.largest_size(largest)
    images = torch.empty((run.batch_size // (run.devices * run.accumulate), len(recipe.input.spec()), *size), device="meta")
    saved = _saved_for_backward(_on_meta_device(model), images)
    # Autocast stores nearly all of it in half the bytes.
    return weight_memory(model, recipe) + images.nbytes + (saved if run.precision == "fp32" else saved // 2)


def weight_memory(model: nn.Module, recipe: Recipe) -> int:
    """Return the bytes of the weights and statistics, with the gradients and the optimiser's state of those that are trained."""
    weights = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    states = OPTIMIZERS[recipe.optimizer.name].tensors_per_parameter(recipe.optimizer) if recipe.optimizer.name else 0  # a caller's own
    total: int = sum(tensor.nbytes for tensor in model.state_dict().values()) + (1 + states) * weights
    return total


def _on_meta_device(model: nn.Module) -> nn.Module:
    """Return a copy without memory for its tensors."""
    copies: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    copies |= {id(weight): nn.Parameter(weight.to("meta"), requires_grad=weight.requires_grad) for weight in model.parameters()}
    return copy.deepcopy(model, copies)


def _saved_for_backward(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass saves for the backward pass; 0 where that cannot be found without running it."""
    known = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    found: dict[int, Any] = {}  # the storages are held, so that no other gets an address again

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            found[storage._cdata] = storage
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            model.train()(images)
    except Exception:  # an operation that the meta device does not know, or one that needs more images
        return 0
    return sum(storage.nbytes() for storage in found.values())


def check_memory(model: nn.Module, recipe: Recipe, *, memory: int | None, largest: tuple[int, int] | None = None) -> None:
    """Raise MemoryShortage, with what to change, where a step cannot fit into ``memory``, a device's bytes; None is unknown: accepted."""
    if memory is None:
        return
    here = recipe.run.devices or 1 if recipe.run.device == "cpu" else 1  # processes on one CPU use the same memory
    refuse_shortage(recipe, here * step_memory(model, recipe, largest=largest), memory)


def refuse_shortage(recipe: Recipe, needed: int, memory: int) -> None:
    """Raise MemoryShortage, with what to change, where a step needs more bytes than there are."""
    if needed > memory:
        raise MemoryShortage(f"a step needs {needed / 2**30:.1f} GiB of memory or more, found {memory / 2**30:.1f} GiB: {advise(recipe)}")


def advise(recipe: Recipe) -> str:
    """Return what to change for a step to need less memory, with the values there are now."""
    run, crop = recipe.run, recipe.augment.crop_size or [0, 0]
    now = "the whole image" if isinstance(crop, str) else f"{crop[0]}×{crop[1]}"
    advice = (
        f"lower run.batch_size (now {run.batch_size}) or augment.crop_size (now {now}), "
        f"or raise run.accumulate (now {run.accumulate}), which computes a step in more parts"
    )
    return advice if run.precision != "fp32" else f"{advice}, or set run.precision to bf16 (now {run.precision})"


@contextlib.contextmanager
def explain_out_of_memory(recipe: Recipe, folder: Path, *, validating: bool = False) -> Iterator[None]:
    """Replace errors of memory that ran out by a TrainingError of one line, with what to change."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if validating:
            half = "" if recipe.run.inference_precision != "fp32" else f"set run.precision to bf16 (now {recipe.run.precision}), "
            message = f"memory ran out in validation, which labels images at their own size: {half}use smaller validation images"
            message += ", or another run.device" if recipe.run.device != "cpu" else ", or a machine with more memory"
        else:
            message = f"memory ran out in training: {advise(recipe)}"
        raise TrainingError(f"{message}{checkpoint_clause(folder)}") from error


def checkpoint_clause(folder: Path) -> str:
    """Return a clause on where the last checkpoint is; "" where there is none."""
    return f"; the last checkpoint is in {folder}" if (folder / CHECKPOINT).exists() else ""
