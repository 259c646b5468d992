"""Memory for a step: what it needs at least, whether the machine has that, and what to say when it runs out.

The least is what lies in memory at once when the forward pass of one part of a step ends: the weights
with their gradients and the optimizer's state, the images, and all that is kept for the
way back. It is counted on the meta device, so that counting allocates nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from upscore.errors import RecipeError, TrainingError
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.training.checkpoint import CHECKPOINT
from upscore.training.recipe import Recipe

__all__ = ["check_memory", "kept_in", "levers", "memory_errors_explained", "step_memory"]


def step_memory(model: nn.Module, recipe: Recipe) -> int:
    """Return the bytes that a step of ``recipe`` needs at the least, on one device.

    Parameters
    ----------
    model : Module
        On any device; moved to the meta device, so that it is of no use afterwards.
    recipe : Recipe
        Complete.
    """
    run, crop = recipe.run, recipe.augment.crop_size
    assert run.batch_size
    assert run.devices
    assert crop
    images = torch.empty((run.batch_size // (run.devices * run.accumulate), 3, *crop), device="meta")
    weights = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    states = 2 if recipe.optimizer.name == "adamw" else int(recipe.optimizer.momentum > 0)
    fixed: int = sum(tensor.nbytes for tensor in model.state_dict().values()) + (1 + states) * weights
    kept = _kept_for_backward(model.to("meta"), images)
    # Autocast keeps most of it in half the bytes.
    return fixed + images.nbytes + (kept // 2 if run.precision == "bf16" else kept)


def _kept_for_backward(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass leaves for the way back; 0 where that cannot be found without running it."""
    known = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    found: dict[int, Any] = {}  # the storages are held, so that no other takes an address again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            found[storage._cdata] = storage
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.train()(images)
    except Exception:  # an operation of its own that the meta device does not know, or one that wants more images
        return 0
    return sum(storage.nbytes() for storage in found.values())


def check_memory(model: nn.Module, recipe: Recipe, *, memory: int | None) -> None:
    """Refuse a step that cannot fit.

    Parameters
    ----------
    model, recipe
        As :func:`step_memory`.
    memory : int, optional
        Bytes there are on a device; None where that is not known, and nothing is refused.

    Raises
    ------
    RecipeError
        It needs more; the message names what to change.
    """
    if memory is None:
        return
    here = recipe.run.devices or 1 if recipe.run.device == "cpu" else 1  # processes on one machine's processor share its memory
    needed = here * step_memory(model, recipe)
    if needed > memory:
        raise RecipeError(f"a step needs at least {needed / 2**30:.1f} GiB of memory, found {memory / 2**30:.1f} GiB: {levers(recipe)}")


def levers(recipe: Recipe) -> str:
    """Return what to change for a step to need less memory, with the values there are now."""
    run, crop = recipe.run, recipe.augment.crop_size or [0, 0]
    said = (
        f"lower run.batch_size (now {run.batch_size}) or augment.crop_size (now {crop[0]}×{crop[1]}), "
        f"or raise run.accumulate (now {run.accumulate}), which computes a step in more parts"
    )
    return said if run.precision == "bf16" else f"{said}, or set run.precision to bf16 (now {run.precision})"


@contextlib.contextmanager
def memory_errors_explained(recipe: Recipe, folder: Path, *, validating: bool = False) -> Iterator[None]:
    """Turn the errors of memory that ran out into one line with what to change.

    Raises
    ------
    TrainingError
        In their place.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if validating:
            half = "" if recipe.run.precision == "bf16" else f"set run.precision to bf16 (now {recipe.run.precision}), "
            what = f"memory ran out in validation, which labels images at their own size: {half}use smaller validation images"
            what += ", or another run.device" if recipe.run.device != "cpu" else ", or a machine with more memory"
        else:
            what = f"memory ran out in training: {levers(recipe)}"
        raise TrainingError(f"{what}{kept_in(folder)}") from error


def kept_in(folder: Path) -> str:
    """Return a clause on where the last checkpoint is; "" where there is none."""
    return f"; the last checkpoint is kept in {folder}" if (folder / CHECKPOINT).exists() else ""
