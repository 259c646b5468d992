"""Planning a run: read the data, choose every open setting, build the network, and refuse what cannot work before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from upscore.data.dataset import Dataset
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.mask_check import check_splits
from upscore.data.open_dataset import describe_readers, open_dataset
from upscore.data.overlap import compare_splits, dataset_identity, shared_images_finding
from upscore.data.pixel_digests import PixelDigests
from upscore.data.readable_images import ReadableImages, leave_out_unreadable
from upscore.errors import DataError, ModelError, RecipeError
from upscore.models.weights import Report
from upscore.training.auto_config import Choice, Machine, configure
from upscore.training.batches import build_border_weighting
from upscore.training.checkpoint import CHECKPOINT
from upscore.training.crop_splits import CroppedSplits, count_crops, crop_splits
from upscore.training.memory import check_memory, explain_out_of_memory
from upscore.training.network import build_network, find_normalization, with_current_backbone_name
from upscore.training.objective import build_class_weights, build_objective
from upscore.training.optimizers import build_optimizer
from upscore.training.precise_bn import check_has_statistics
from upscore.training.recipe import Recipe
from upscore.training.run_folder import next_folder, refuse_taken
from upscore.training.sync_batch_norm import check_can_synchronize

__all__ = ["Plan", "plan"]


@dataclass
class Plan:
    """A run that is ready to start: every setting chosen, the data checked, the network built."""

    recipe: Recipe  #: complete
    choices: list[Choice]
    census: DatasetStatistics  #: of the training split
    messages: list[str]  #: how the data and the weights were read
    train: Dataset  #: images, or crops of them
    val: Dataset
    warnings: list[str]  #: what makes the network, or the metrics of its validation, mean less than they seem to
    identity: str  #: of the images that are trained on: upscore.data.overlap.dataset_identity
    digests: PixelDigests  #: of their decoded pixels
    skipped: Mapping[str, str]  #: why each training image was left out, by key; empty without data.skip_bad
    model: nn.Module | None  #: the network, until take_model

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.recipe.run.out
        return Path(self.recipe.run.out)

    def take_model(self) -> nn.Module:
        """Return the network to train. Training changes it: whoever launches the plan again gets another, built alike."""
        model, self.model = self.model, None
        return build_network(self.recipe, self.census.labels) if model is None else model


def plan(
    recipe: Recipe, *, machine: Machine | None = None, progress: Callable[[int, int], None] | None = None, resumed: bool = False
) -> Plan:
    """Check the data, choose every open setting, name the run folder and build the network; nothing is written.

    The recipe has ``data.path`` set; the machine is detected when not given. ``progress`` is called with (images read, of how many);
    each is read several times: its mask, the image for its digest, and for crops or ``data.skip_bad`` once more. ``resumed`` is for the
    recipe of a run to continue: the folder exists, and the weights that it started from may not. Raises an UpscoreError for whatever can
    be known before training to be wrong with the data, the recipe, the weights or the folder to write to.
    """
    messages: list[str] = []
    if not resumed:
        recipe = with_current_backbone_name(recipe, report=messages.append)
    if not recipe.data.path:
        raise RecipeError(f"no data given: name {describe_readers()}")
    machine = machine or Machine.detect(recipe.run.device)
    train, val = (open_dataset(recipe.data.path, split) for split in (recipe.data.train, recipe.data.val))
    if difference := train.labels.difference(val.labels):
        raise DataError(f"{recipe.data.path}: the splits differ in their classes: {difference}")
    report = _Passes(progress, len(train) + len(val), 2 + recipe.data.skip_bad + (recipe.crops.of != "images"))
    readable = ReadableImages(train, {}, {})
    if recipe.data.skip_bad:
        readable = leave_out_unreadable(train, progress=report.next_pass())
        train = readable.dataset
    counted, counted_val = check_splits(train, val, progress=report.next_pass())
    cropped = _crop_splits(recipe, train, val, report)
    census = counted if recipe.crops.of == "images" else count_crops(cropped.train)
    complete, choices = configure(recipe, census, machine)
    if not resumed and (found := find_normalization(complete)):
        complete, choices = _with_choice(complete, choices, Choice("model.arguments.normalization", *found))
    complete.data.fingerprint = _fingerprint(train, counted)
    if complete.run.out is None:
        complete.run.out = str(next_folder(recipe))
    if not resumed:
        refuse_taken(Path(complete.run.out))
    _check_machine(complete, machine)
    _check_loss(complete, cropped.train, census)
    begun = resumed and (Path(complete.run.out) / CHECKPOINT).exists()
    with explain_out_of_memory(complete, Path(complete.run.out)):
        complete, choices, model = _build(complete, choices, census, empty=begun, report=messages.append)
    _check_network(complete, model, machine)
    digests, shared = compare_splits(train, val, counted, counted_val, decoded=readable.digests, progress=report.next_pass())
    findings = (
        shared_images_finding(shared, "the training data", f"the validation data ({val.split})", len(val)),
        readable.finding,
        *counted.findings,
    )
    warnings = [finding.text() for finding in findings if finding is not None]
    messages = list(dict.fromkeys([*train.warnings, *val.warnings, *cropped.messages, *messages]))
    identity = dataset_identity(train)
    return Plan(complete, choices, census, messages, cropped.train, cropped.val, warnings, identity, digests, readable.skipped, model)


def _crop_splits(recipe: Recipe, train: Dataset, val: Dataset, report: _Passes) -> CroppedSplits:
    if recipe.crops.of == "images":
        return CroppedSplits(train, val)
    progress, images = report.next_pass(), len(train) + len(val)
    return crop_splits(recipe.crops, train, val, progress=lambda read: progress(read, images))


class _Passes:
    """Progress over several readings of the data, as one number."""

    def __init__(self, progress: Callable[[int, int], None] | None, images: int, passes: int) -> None:
        self._report, self._images, self._passes, self._pass = progress or (lambda done, of: None), images, passes, -1

    def next_pass(self) -> Callable[[int, int], None]:
        """Return what is called with (done, of how many) in the next reading."""
        self._pass += 1
        first = self._pass * self._images
        return lambda done, of: self._report(first + done * self._images // max(1, of), self._passes * self._images)


def _build(
    recipe: Recipe, choices: list[Choice], census: DatasetStatistics, *, empty: bool, report: Report
) -> tuple[Recipe, list[Choice], nn.Module]:
    """Build the network; without ImageNet's weights where these cannot be downloaded and no user asked for them."""
    try:
        return recipe, choices, build_network(recipe, census.labels, empty=empty, report=report)
    except ModelError:
        if not any(choice.setting == "model.weights" and choice.value == "imagenet" for choice in choices):
            raise
    why = "ImageNet's cannot be downloaded here; give --weights FILE for a far better result"
    recipe, choices = _with_choice(recipe, choices, Choice("model.weights", "none", why))
    return recipe, choices, build_network(recipe, census.labels, report=report)


def _with_choice(recipe: Recipe, choices: list[Choice], choice: Choice) -> tuple[Recipe, list[Choice]]:
    """Return the recipe with a setting chosen, and the choices with that one in its position, or at the end."""
    recipe = recipe.with_values({choice.setting: choice.value})
    recipe.chosen[choice.setting] = choice.why
    return recipe, list(({earlier.setting: earlier for earlier in choices} | {choice.setting: choice}).values())


def _fingerprint(dataset: Dataset, census: DatasetStatistics) -> str:
    """Return 16 hexadecimal digits that change with any key, size, class or label count of the training split."""
    facts = [dataset.labels.names, list(dataset.keys), census.sizes.tolist(), census.class_pixels.tolist(), census.ignored_pixels]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def _check_machine(recipe: Recipe, machine: Machine) -> None:
    run = recipe.run
    assert run.batch_size is not None
    assert run.devices is not None
    divisor = run.accumulate * run.devices
    if run.batch_size % divisor:
        raise RecipeError(
            f"run.batch_size = {run.batch_size} cannot be divided evenly among {run.devices} devices × {run.accumulate} parts: "
            f"use a multiple of {divisor}"
        )
    if run.device == "cuda" and run.devices > machine.devices:
        raise RecipeError(f"run.devices = {run.devices}: found {machine.devices} GPU(s), expected no more than there are")
    if run.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("run.device = cuda: no GPU is available to PyTorch here; use --device cpu")
    if run.precision == "fp16" and run.device != "cuda":
        raise RecipeError(f"run.precision = fp16: its loss scaling is for cuda, found device {run.device}: use bf16 or fp32")
    if run.tensorboard and not machine.tensorboard:
        raise RecipeError("run.tensorboard = true: TensorBoard is not installed; pip install 'upscore[tensorboard]'")


def _check_loss(recipe: Recipe, train: Dataset, census: DatasetStatistics) -> None:
    """Refuse what would have no effect, is out of range, or needs what the data does not have."""
    recipe.augment.augmentation()
    build_objective(recipe.loss, class_weights=build_class_weights(recipe.loss, census))
    border_weighting = build_border_weighting(recipe.loss, train.labels)
    if border_weighting is not None:
        border_weighting.find_objects(train[0])


def _check_network(recipe: Recipe, model: nn.Module, machine: Machine) -> None:
    """Refuse a network that the settings do not fit, or a step that does not fit into memory."""
    build_optimizer(model, recipe.optimizer)
    if recipe.run.precise_bn:
        check_has_statistics(model, frozen=recipe.model.freeze)
    if recipe.run.sync_batch_norm:
        check_can_synchronize(model, device=recipe.run.device)
    check_memory(model, recipe, memory=machine.memory)
