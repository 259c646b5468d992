"""Automatic configuration: settings a user left open, chosen from the data and the machine, each with its reason.

A pure function of (recipe, census, machine): the same three give the same recipe, so that
a choice can be read, tested and discussed. What a user sets is never changed.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from upscore.data.dataset_statistics import DatasetStatistics
from upscore.inference.segmenter import bf16_is_native
from upscore.input_spec import RGB, InputSpec
from upscore.models.architectures import find_architecture
from upscore.training.optimizers import OPTIMIZERS
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import ModelSection

__all__ = ["Choice", "Machine", "configure"]

STRONG_AUGMENTATION = 60  # epochs from which on images are varied more: in a short run they are not learned by heart (docs/measurements.md)
VALIDATIONS = 20  # about how many there are in a run
MIN_STEPS_BETWEEN = 500  # smallest number of steps between two validations inside an epoch


@dataclass(frozen=True)
class Machine:
    """The hardware to train on."""

    device: str  #: "cuda", "mps" or "cpu"
    devices: int  #: how many of them
    cores: int  #: CPU cores this process may use
    bf16: bool  #: whether bfloat16 arithmetic is native, so that it is faster than float32
    tensorboard: bool  #: whether TensorBoard is installed
    memory: int | None = None  #: bytes of memory of a device, for the CPU the machine's or its container's; None where it is not known

    @classmethod
    def detect(cls, device: str | None = None) -> Machine:
        """Return what this machine has; ``device`` overrides the kind of device."""
        from importlib.util import find_spec

        if device is None:
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        devices, bf16 = max(1, torch.cuda.device_count()) if device == "cuda" else 1, bf16_is_native(device)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(device, devices, cores, bf16, find_spec("tensorboard") is not None, _memory(device))


def _memory(device: str) -> int | None:
    """Return the bytes of memory of a device, or None."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of a container, in either version
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(Path(limit).read_text()))
    return min(found)


@dataclass(frozen=True)
class Choice:
    """A setting that was left open: its dotted name, the value chosen and why."""

    setting: str
    value: Any
    why: str


def configure(recipe: Recipe, census: DatasetStatistics, machine: Machine, spec: InputSpec = RGB) -> tuple[Recipe, list[Choice]]:
    """Return the recipe with every open setting (``None``) chosen, and the choices.

    They are chosen for the census of the training split, the machine and the bands of the images.
    """
    chosen = recipe.model_copy(deep=True)
    choices: list[Choice] = []

    def settle(setting: str, value: Any, why: str) -> Any:
        """Choose a setting if it is open; return its value."""
        section, key = setting.split(".")
        if getattr(getattr(chosen, section), key) is None:
            setattr(getattr(chosen, section), key, value)
            if value is not None:
                choices.append(Choice(setting, value, why))
        return getattr(getattr(chosen, section), key)

    settle("input.bands", list(spec.bands), "RGB, as common files are read" if spec.is_rgb else "found in the images")
    settle("input.dtype", spec.dtype, "8 bits" if spec.is_rgb else "found in the images")
    settle("input.mean", list(spec.mean) or None, "measured on the training images")
    settle("input.std", list(spec.std) or None, "measured on the training images")
    settle("input.shown", list(spec.shown), "the colours" if spec.colours else "the first of them")

    on_cpu = (chosen.run.device or machine.device) == "cpu"
    images = census.images
    settle(
        "run.device",
        machine.device,
        f"{machine.devices} of it found" if machine.device != "cpu" else f"no accelerator found; {machine.cores} cores",
    )
    devices = settle("run.devices", 1 if on_cpu else machine.devices, "one process uses every core" if on_cpu else "all that were found")
    settle(
        "run.precision",
        "bf16" if machine.bf16 else "fp32",
        "native bfloat16" if machine.bf16 else "bfloat16 would be emulated here, and slower",
    )

    is_own = bool(chosen.own.keys() & {"model", "decoder"})
    if "decoder" in chosen.own or (not is_own and find_architecture(chosen.model.name).takes_backbone):
        settle(
            "model.backbone",
            "mobilenetv2_100" if on_cpu else "resnet50",
            "light enough for a CPU" if on_cpu else "a strong backbone for an accelerator",
        )
    weights, why = ("imagenet", "a pretrained backbone is worth many points") if is_own else _weights(chosen.model)
    settle("model.weights", weights, why)
    plain = chosen.run.precision == "fp32" and (
        chosen.model.backbone == "vgg16" or not (is_own or find_architecture(chosen.model.name).takes_backbone)
    )
    if chosen.own.keys() & {"model", "backbone", "decoder"}:
        settle("run.channels_last", False, "a network of your own may expect the usual layout")
    settle("run.channels_last", not plain, "slower for wide plain convolutions in float32" if plain else "faster convolutions")

    height, width = census.median
    longest = 512 if on_cpu else 768
    shrink = min(1.0, longest / max(height, width))
    crop = settle(
        "augment.crop_size",
        [_multiple_of_32(height * shrink), _multiple_of_32(width * shrink)],
        f"the median image is {height}×{width}, rounded down to multiples of 32" + (f", up to {longest}" if shrink < 1 else ""),
    )
    if whole := isinstance(crop, str):
        crop = [height, width]
    crop_pixels = crop[0] * crop[1]
    budget = 4 * 512 * 512 if on_cpu else 16 * 512 * 512
    batch = max(2, min(4 if on_cpu else 16, budget // crop_pixels))
    divisor = devices * chosen.run.accumulate
    batch = max(divisor, min(batch, images) // divisor * divisor)
    if whole:
        batch = settle("run.batch_size", divisor, "images of different sizes are read one at a time")
    batch = settle("run.batch_size", batch, "more, smaller steps learn faster on a CPU" if on_cpu else "fills the accelerator")
    steps_per_epoch = -(-images // batch)
    wanted = 4000 if on_cpu else 12000
    epochs = min(300, max(10, -(-wanted // max(steps_per_epoch, 1))))
    if chosen.run.steps:
        settle(
            "run.epochs", -(-chosen.run.steps // steps_per_epoch), f"{chosen.run.steps} steps are asked for, {steps_per_epoch} per epoch"
        )
    epochs = settle("run.epochs", epochs, f"about {wanted} steps of {batch} images, between 10 and 300 epochs")

    strong = epochs >= STRONG_AUGMENTATION
    seen = f"each image is read {epochs} times"
    settle("augment.scale", [0.5, 2.0] if strong else [0.75, 1.5], f"{seen}: {'strong' if strong else 'moderate'} change of size")
    settle("augment.flip", 0.5, "a mirrored image is as likely")
    settle("augment.rotation", 0.0, "images usually have an upright")
    for name, strength, why in (
        ("brightness", 0.2, "light varies"),
        ("contrast", 0.2, "light varies"),
        ("saturation", 0.2, "cameras vary"),
    ):
        if name == "saturation" and not spec.colours:
            strength, why = 0.0, "the bands are no colours"
        settle(f"augment.{name}", strength if strong else strength / 2, why)
    if spec.colours:
        settle("augment.hue", 0.02 if strong else 0.01, "cameras vary a little")
    else:
        settle("augment.hue", 0.0, "the bands are no colours")

    steps = chosen.run.total_steps(steps_per_epoch)
    if "optimizer" not in chosen.own:
        _settle_optimizer(chosen, settle, crop_pixels)
    if "schedule" not in chosen.own:
        settle("schedule.warmup_steps", min(100, steps // 20), "the statistics of the gradients are poor at first")
    settle("loss.class_weights", "none", "plain cross-entropy is what mean IoU was reported with")
    average = 0.0 if steps < 200 else min(0.999, 1 - 20 / steps)
    settle(
        "run.average",
        round(average, 4),
        "too few steps to average" if not average else "the mean of the last twentieth of the run evaluates better than its last step",
    )

    settle(
        "run.workers",
        0 if on_cpu else min(8, max(1, machine.cores - 1)),
        "the CPU is busy with the network" if on_cpu else "one core is left for the loop",
    )
    validate_every = settle("run.validate_every", *_validate_every(steps, steps_per_epoch))
    validations = math.ceil(steps / steps_per_epoch / validate_every)
    settle("run.patience", max(5, validations // 2), "half the run without a better mIoU ends it")
    settle("run.tensorboard", machine.tensorboard, "it is installed" if machine.tensorboard else "it is not installed")
    chosen.chosen = {**recipe.chosen, **{choice.setting: choice.why for choice in choices}}
    return chosen, choices


def _settle_optimizer(chosen: Recipe, settle: Callable[[str, Any, str], Any], crop_pixels: int) -> None:
    """Choose the optimiser, its learning rate and its weight decay."""
    optimizer = OPTIMIZERS[settle("optimizer.name", "adamw", "forgiving about the learning rate")]
    rate, why = optimizer.lr
    if optimizer.scales_with_loss and chosen.loss.normalize == "none":
        rate, why = rate / crop_pixels, f"{why}, over the {crop_pixels} pixels that this loss sums"
    if chosen.model.start_from:
        paper = " (FCN §4.3)" if optimizer.scales_with_loss else ""
        rate /= optimizer.stage_divisor
        why = f"{why}; ÷{optimizer.stage_divisor:g} for a stage that starts from a coarser network{paper}"
    settle("optimizer.lr", rate, why)
    settle("optimizer.weight_decay", *optimizer.weight_decay)


def _validate_every(steps: int, steps_per_epoch: int) -> tuple[float, str]:
    """Return the epochs between validations, or the fraction of one where an epoch is long, and why."""
    between = max(MIN_STEPS_BETWEEN, steps / VALIDATIONS)
    validations = int(steps_per_epoch / between)
    if validations > 1:
        return float(f"{1 / validations:.3g}"), f"an epoch is {steps_per_epoch} steps: about every {between:.0f} steps"
    every = max(1, math.ceil(steps / steps_per_epoch) // VALIDATIONS)
    return every, f"about {VALIDATIONS} validations in a run" if every > 1 else "each epoch"


def _weights(model: ModelSection) -> tuple[str, str]:
    """Return the weights to begin with, and why."""
    if model.start_from:
        return "none", "it starts from a trained network"
    if not find_architecture(model.name).takes_imagenet_weights:
        return "none", "there are none for this network"
    if model.arguments.get("width", 1) != 1:
        return "none", "there are none for a network of another width"
    if model.arguments.get("normalization", "imagenet") != "imagenet":
        return "none", f"images are normalized for {model.arguments['normalization']} weights: give them with --weights FILE"
    return "imagenet", "a pretrained backbone is worth many points"


def _multiple_of_32(pixels: float) -> int:
    return max(32, int(pixels) // 32 * 32)
