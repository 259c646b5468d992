"""Planning a run: read the data, choose every open setting, build the network, and refuse what cannot work before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from upscore.data.band_statistics import measure_bands
from upscore.data.dataset import Dataset, input_of, read_as, second_labels_of
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.mask_check import check_splits
from upscore.data.open_dataset import describe_readers, open_dataset
from upscore.data.overlap import compare_splits, dataset_identity, refuse_shared_images, shared_images_finding
from upscore.data.pixel_digests import PixelDigests
from upscore.data.readable_images import ReadableImages, leave_out_unreadable
from upscore.errors import DataError, ModelError, RecipeError
from upscore.input_spec import RGB
from upscore.models.two_heads import second_labels
from upscore.models.weights import Report
from upscore.training.auto_config import Choice, Machine, configure
from upscore.training.batches import build_border_weighting
from upscore.training.checkpoint import CHECKPOINT
from upscore.training.crop_splits import CroppedSplits, count_crops, crop_splits
from upscore.training.memory import check_memory, explain_out_of_memory
from upscore.training.network import build_network, find_normalization, with_current_backbone_name
from upscore.training.objective import build_class_weights, build_objective, check_own_loss
from upscore.training.optimizers import build_optimizer
from upscore.training.own_objects import OwnObjects, schedule_factor
from upscore.training.precise_bn import check_has_statistics
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import WHOLE_IMAGE
from upscore.training.run_folder import next_folder, refuse_taken
from upscore.training.sync_batch_norm import check_can_synchronize
from upscore.training.trial import Trial, find_parts

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
    own: OwnObjects = field(default_factory=OwnObjects)  #: the caller's, in place of what the recipe names
    trial: Trial | None = None  #: what a step takes, where one was tried

    @property
    def seconds(self) -> float | None:
        """About how long the run takes: its steps, without reading images, and its validations; None where no step was tried."""
        if self.trial is None:
            return None
        run, (height, width) = self.recipe.run, self.census.median
        tried = self.recipe.augment.largest_size(self.census.largest)
        assert run.batch_size
        assert run.devices
        per_epoch = -(-len(self.train) // run.batch_size)
        steps = run.total_steps(per_epoch)
        validations = max(1, steps / per_epoch / (run.validate_every or 1))
        per_pixel = self.trial.seconds / run.batch_size / (tried[0] * tried[1])
        trained = height * width if self.recipe.augment.crop_size == WHOLE_IMAGE else tried[0] * tried[1]
        # A forward pass is about a third of a step.
        return per_pixel * (trained * run.batch_size * steps + height * width * len(self.val) * validations / 3)

    @property
    def folder(self) -> Path:
        """The run folder."""
        assert self.recipe.run.out
        return Path(self.recipe.run.out)

    def take_model(self) -> nn.Module:
        """Return the network to train. Training changes it: whoever launches the plan again gets another, built alike."""
        model, self.model = self.model, None
        return build_network(self.recipe, self.census.labels, own=self.own) if model is None else model


def plan(
    recipe: Recipe,
    *,
    own: OwnObjects | None = None,
    machine: Machine | None = None,
    progress: Callable[[int, int], None] | None = None,
    resumed: bool = False,
    timed: bool = False,
) -> Plan:
    """Check the data, choose every open setting, name the run folder and build the network; nothing is written.

    The recipe has ``data.path`` set, unless the data is the caller's ``own``; objects that it records have to be given. The machine is
    detected when not given. ``progress`` is called with (images read, of how many); each is read several times: its mask, the image for its
    digest, and for crops, other bands or ``data.skip_bad`` once more. ``resumed`` is for the recipe of a run to continue: the folder
    exists, and the weights that it started from may not. A step is tried (:mod:`upscore.training.trial`) where the batch size is chosen
    here, so that it fits into memory, and where ``timed`` asks how long the run takes. Raises an UpscoreError for whatever can be known
    before training to be wrong with the data, the recipe, the weights or the folder to write to.
    """
    messages: list[str] = []
    own = own or OwnObjects()
    own.require(recipe)
    if not resumed:
        recipe = with_current_backbone_name(recipe, report=messages.append)
    machine = machine or Machine.detect(recipe.run.device)
    train, val = _open_splits(recipe, own)
    if difference := train.labels.difference(val.labels):
        raise DataError(f"{recipe.data.path or train.name}: the splits differ in their classes: {difference}")
    spec = recipe.input.spec(input_of(train) if recipe.input.is_open else RGB)
    train, val = read_as(train, spec), read_as(val, spec)
    is_measured = not spec.is_rgb and not spec.mean
    passes = 2 + recipe.data.skip_bad + (recipe.crops.of != "images") + is_measured
    report = _Passes(progress, len(train) + len(val), passes)
    readable = ReadableImages(train, {}, {})
    if recipe.data.skip_bad:
        readable = leave_out_unreadable(train, progress=report.next_pass())
        train = readable.dataset
    counted, counted_val = check_splits(train, val, progress=report.next_pass())
    cropped = _crop_splits(recipe, train, val, report)
    census = counted if recipe.crops.of == "images" else count_crops(cropped.train)
    if is_measured:
        spec = measure_bands(train, progress=report.next_pass())
        train, val = read_as(train, spec), read_as(val, spec)
    complete, choices = configure(recipe, census, machine, spec)
    if not resumed and (found := find_normalization(complete)):
        complete, choices = _with_choice(complete, choices, Choice("model.arguments.normalization", *found))
    complete.data.fingerprint = _fingerprint(train, counted)
    if complete.run.out is None:
        complete.run.out = str(next_folder(recipe, data=train.name))
    if not resumed:
        refuse_taken(Path(complete.run.out))
    _check_machine(complete, machine)
    _check_sizes(complete, census)
    _check_loss(complete, cropped.train, census, own)
    _check_second_head(complete, cropped.train)
    begun = resumed and (Path(complete.run.out) / CHECKPOINT).exists()
    with explain_out_of_memory(complete, Path(complete.run.out)):
        complete, choices, model = _build(complete, choices, census, own, empty=begun, report=messages.append)
        complete, choices = _check_network(complete, choices, model, own, images=len(cropped.train))
        tried: Trial | None = None
        if not resumed and "WORLD_SIZE" not in os.environ and (timed or recipe.run.batch_size is None):
            complete, choices, tried = _try_step(complete, choices, model, machine, census, own)
        else:
            check_memory(model, complete, memory=machine.memory, largest=census.largest)
    digests, shared = compare_splits(train, val, counted, counted_val, decoded=readable.digests, progress=report.next_pass())
    if complete.data.refuse_overlap:
        refuse_shared_images(shared, f"the validation data ({val.split})", len(val))
    findings = (
        shared_images_finding(shared, "the training data", f"the validation data ({val.split})", len(val)),
        readable.finding,
        *counted.findings,
    )
    warnings = [finding.text() for finding in findings if finding is not None]
    messages = list(dict.fromkeys([*train.warnings, *val.warnings, *cropped.messages, *messages]))
    return Plan(
        complete, choices, census, messages, cropped.train, cropped.val, warnings, dataset_identity(train), digests, readable.skipped,
        model, own, tried,
    )  # fmt: skip


def _open_splits(recipe: Recipe, own: OwnObjects) -> tuple[Dataset, Dataset]:
    """Return the data to train on and to validate."""
    if own.train is not None and own.val is not None:
        return own.train, own.val
    data = recipe.data
    if not data.path:
        raise RecipeError(f"no data given: name {describe_readers()}")
    return open_dataset(data.path, data.train, **data.reading), open_dataset(data.path, data.val, **data.reading)


def _try_step(
    recipe: Recipe, choices: list[Choice], model: nn.Module, machine: Machine, census: DatasetStatistics, own: OwnObjects
) -> tuple[Recipe, list[Choice], Trial]:
    """Try a step; compute it in more parts where it does not fit into memory and nobody asked for this number of images at once."""
    run = recipe.run
    # With a mean for each part, more parts would be another objective.
    adjustable = run.accumulate == 1 and recipe.loss.normalize != "part" and any(c.setting == "run.batch_size" for c in choices)
    weights = build_class_weights(recipe.loss, census)
    parts, trial = find_parts(
        model,
        recipe,
        classes=len(census.labels),
        class_weights=weights,
        memory=machine.memory,
        adjustable=adjustable,
        largest=census.largest,
        own=own,
    )
    if parts == run.accumulate:
        return recipe, choices, trial
    assert run.batch_size
    assert run.devices
    images = run.batch_size // run.devices
    there = "" if machine.memory is None else f" {machine.memory / 2**30:.1f} GiB of"
    why = f"{images} images at once do not fit into{there} memory: {images // parts} at a time, for the same objective"
    return *_with_choice(recipe, choices, Choice("run.accumulate", parts, why)), trial


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
    recipe: Recipe, choices: list[Choice], census: DatasetStatistics, own: OwnObjects, *, empty: bool, report: Report
) -> tuple[Recipe, list[Choice], nn.Module]:
    """Build the network; without ImageNet's weights where these cannot be downloaded and no user asked for them."""
    try:
        return recipe, choices, build_network(recipe, census.labels, own=own, empty=empty, report=report)
    except ModelError:
        if not any(choice.setting == "model.weights" and choice.value == "imagenet" for choice in choices):
            raise
    why = "ImageNet's cannot be downloaded here; give --weights FILE for a far better result"
    recipe, choices = _with_choice(recipe, choices, Choice("model.weights", "none", why))
    return recipe, choices, build_network(recipe, census.labels, own=own, report=report)


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


def _check_sizes(recipe: Recipe, census: DatasetStatistics) -> None:
    """Refuse whole images of different sizes side by side."""
    run, scale = recipe.run, recipe.augment.scale
    if recipe.augment.crop_size != WHOLE_IMAGE:
        return
    assert run.batch_size is not None
    assert run.devices is not None
    assert scale is not None
    images = run.batch_size // (run.accumulate * run.devices)
    sizes = sorted({(int(height), int(width)) for height, width in census.sizes if height})
    if images == 1 or (len(sizes) <= 1 and scale[0] == scale[1]):
        return
    found = (
        f"augment.scale {scale[0]:g} to {scale[1]:g}" if len(sizes) <= 1 else f"images of {len(sizes)} sizes, {_size(sizes[0])} and others"
    )
    raise RecipeError(
        f"augment.crop_size = 'image': found {found}, and {images} of them in a part of a step, expected one: raise run.accumulate to "
        f"{run.batch_size // run.devices}, lower run.batch_size, or give a size to crop to"
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _check_loss(recipe: Recipe, train: Dataset, census: DatasetStatistics, own: OwnObjects) -> None:
    """Refuse what would have no effect, is out of range, or needs what the data does not have."""
    recipe.augment.augmentation(recipe.input.spec())
    build_objective(recipe.loss, class_weights=build_class_weights(recipe.loss, census))
    if own.loss is not None:
        check_own_loss(own.loss, len(census.labels))
    border_weighting = build_border_weighting(recipe.loss, train.labels)
    if border_weighting is not None:
        border_weighting.find_objects(train[0])


def _check_second_head(recipe: Recipe, train: Dataset) -> None:
    """Refuse a second head for other classes than those of the data's second masks."""
    names = recipe.model.arguments.get("second_head")
    if not names:
        return
    wanted, found = second_labels(names), second_labels_of(train)
    if found is None:
        raise DataError(
            f"{train.name}: has no second masks, expected some for model.arguments.second_head = {names!r}: open data that has them, such "
            "as the folder of SIFT Flow, without crops of objects, or leave second_head out"
        )
    if difference := wanted.difference(found):
        raise DataError(f"{train.name}: the classes of model.arguments.second_head are not those of its second masks: {difference}")


def _check_network(recipe: Recipe, choices: list[Choice], model: nn.Module, own: OwnObjects, *, images: int) -> tuple[Recipe, list[Choice]]:
    """Refuse a network that the settings do not fit, and add what an own optimiser determines."""
    optimizer = build_optimizer(model, recipe.optimizer, own.optimizer)
    if own.optimizer is not None:
        rate = optimizer.param_groups[0]["lr"]
        if recipe.optimizer.lr not in (None, float(rate)):
            raise RecipeError(f"optimizer= has a learning rate of {rate:g}, this run's is {recipe.optimizer.lr:g}: give the same again")
        recipe, choices = _with_choice(recipe, choices, Choice("optimizer.lr", float(rate), "of the optimizer given"))
    if own.schedule is not None:
        assert recipe.run.batch_size
        steps = recipe.run.total_steps(-(-images // recipe.run.batch_size))
        for step in (0, steps // 2, steps - 1):
            schedule_factor(own.schedule, step, steps)
    if recipe.run.precise_bn:
        check_has_statistics(model, frozen=recipe.model.freeze)
    if recipe.run.sync_batch_norm:
        check_can_synchronize(model, device=recipe.run.device)
    return recipe, choices
