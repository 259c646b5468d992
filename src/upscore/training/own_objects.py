"""Objects of a caller's own in place of what a recipe names: data, a network or its parts, a loss, an optimiser, a schedule.

The recipe records where each is defined, and nothing more: an object cannot be written to a file, and is given again to resume.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from upscore.data.dataset import Dataset
from upscore.data.open_dataset import open_dataset
from upscore.data.own_dataset import ImagesWithMasks, as_dataset
from upscore.errors import RecipeError
from upscore.import_path import import_path
from upscore.text import reason
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import LossSection, ModelSection, OptimizerSection, ScheduleSection, Section
from upscore.types import LabelSpace

__all__ = ["Data", "Decoder", "Loss", "MakeOptimizer", "OwnObjects", "Schedule", "schedule_factor", "separate_own"]

Data: TypeAlias = "str | os.PathLike[str] | Dataset | ImagesWithMasks | Sequence[Any]"
"""What is trained on or validated: a path, or a dataset."""

Decoder: TypeAlias = Callable[[Any, int], Any]
"""(backbone, number of classes) to a :class:`upscore.models.on_backbone.Decoder`."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K, H, W) float32, labels (N, H, W) int64, 255 where ignored) to the mean over the labelled pixels, a scalar."""

MakeOptimizer: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""The trainable parameters to their optimiser, whose groups have their peak learning rate."""

Schedule: TypeAlias = Callable[[int, int], float]
"""(step from 0, steps of the run) to the factor of the peak learning rate, 0 or more."""


@dataclass(frozen=True)
class OwnObjects:
    """What a caller gives; None where the recipe holds."""

    train: Dataset | None = None
    val: Dataset | None = None
    model: nn.Module | None = None
    backbone: nn.Module | None = None
    decoder: Decoder | None = None
    loss: Loss | None = None
    optimizer: MakeOptimizer | None = None
    schedule: Schedule | None = None

    @property
    def paths(self) -> dict[str, str]:
        """Where each is defined, by name: what the recipe records."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: import_path(getattr(thing, "dataset", thing)) for name, thing in given.items() if thing is not None}

    @property
    def network(self) -> str:
        """Where the parts of the network are defined; "" where the recipe names all of them."""
        return ", ".join(path for name, path in self.paths.items() if name in ("model", "backbone", "decoder"))

    def require(self, recipe: Recipe) -> None:
        """Raise RecipeError where the recipe has objects that are not given."""
        if missing := next((name for name in recipe.own if name not in self.paths), None):
            raise RecipeError(
                f"the recipe has its own {missing}, {recipe.own[missing]}, which is an object and in no file: "
                f"give {missing}= to upscore.train or upscore.resume, from Python"
            )


def separate_own(
    recipe: Recipe,
    *,
    train: Data | None = None,
    val: Data | None = None,
    labels: LabelSpace | Sequence[str] | None = None,
    model: nn.Module | str | None = None,
    backbone: nn.Module | str | None = None,
    decoder: Decoder | None = None,
    loss: Loss | str | Mapping[str, float] | None = None,
    optimizer: MakeOptimizer | str | None = None,
    schedule: Schedule | str | None = None,
) -> tuple[Recipe, OwnObjects]:
    """Return the recipe with what is given by name, a record of what is given as an object, and these objects.

    Raises RecipeError or DataError where something is missing, or where a setting of the recipe would have no effect.
    """
    named = {"model.name": model, "model.backbone": backbone, "optimizer.name": optimizer, "schedule.name": schedule}
    values: dict[str, Any] = {name: value for name, value in named.items() if isinstance(value, str)}
    if isinstance(loss, str | Mapping):
        values["loss.terms"] = {loss: 1.0} if isinstance(loss, str) else dict(loss)
    own_train, own_val = _own_data(recipe, train, val, labels)
    if own_train is None and train is not None:
        values["data.path"] = os.fspath(train)  # type: ignore[arg-type]
    elif own_train is not None:
        values["data.path"] = None
    own = OwnObjects(
        train=own_train,
        val=own_val,
        model=None if isinstance(model, str) else model,
        backbone=None if isinstance(backbone, str) else backbone,
        decoder=decoder,
        loss=None if isinstance(loss, str | Mapping) else loss,
        optimizer=None if isinstance(optimizer, str) else optimizer,
        schedule=None if isinstance(schedule, str) else schedule,
    )
    for name in ("decoder", "loss", "optimizer", "schedule"):
        if (thing := getattr(own, name)) is not None and not callable(thing):
            raise RecipeError(f"found {type(thing).__name__} as {name}, expected a function{'' if name == 'decoder' else ', or a name'}")
    recipe = recipe.with_values(values, source="upscore.train")
    _refuse_without_effect(recipe, own)
    return recipe.with_values(_named_by(recipe, own) | {"own": recipe.own | own.paths}, source="upscore.train"), own


def _own_data(
    recipe: Recipe, train: Data | None, val: Data | None, labels: LabelSpace | Sequence[str] | None
) -> tuple[Dataset | None, Dataset | None]:
    """Return both splits where they are not those of one path, which the recipe can hold."""
    if train is None:
        if val is not None or labels is not None:
            raise RecipeError(f"found {'val' if val is not None else 'labels'}= without train=, expected the training data too")
        return None, None
    if isinstance(train, str | os.PathLike) and (
        val is None or (isinstance(val, str | os.PathLike) and os.fspath(val) == os.fspath(train))
    ):
        if labels is not None:
            raise RecipeError(f"found labels= for the data in '{os.fspath(train)}', which names its own classes: leave labels out")
        return None, None
    if val is None:
        raise RecipeError(
            f"found train= without val=, expected the validation data too: torch.utils.data.random_split divides one "
            f"{type(train).__name__} into both, with labels= naming the classes"
        )
    opened = []
    for given, split in ((train, recipe.data.train), (val, recipe.data.val)):
        if isinstance(given, str | os.PathLike):
            opened.append(open_dataset(given, split, **recipe.data.reading))
        elif recipe.data.classes:
            raise RecipeError("data.classes has no effect on a dataset of your own: open it with upscore.open_dataset(path, classes=...)")
        else:
            opened.append(as_dataset(given, split=split, labels=labels))
    return opened[0], opened[1]


def _named_by(recipe: Recipe, own: OwnObjects) -> dict[str, Any]:
    """Return the settings that say what the objects are, in place of what the recipe would choose."""
    values: dict[str, Any] = {}
    if own.model is not None:
        values |= {"model.name": type(own.model).__name__, "model.weights": "none"}
    if own.decoder is not None:
        values["model.name"] = getattr(own.decoder, "__name__", type(own.decoder).__name__)
    if own.backbone is not None:
        values |= {"model.backbone": type(own.backbone).__name__, "model.weights": "none"}
    if own.optimizer is not None:
        values["optimizer.lr"] = None
    return values


def _refuse_without_effect(recipe: Recipe, own: OwnObjects) -> None:
    """Raise RecipeError where a setting is not its default, and would have no effect beside an object."""
    recorded = recipe.own
    if own.model is not None and (own.backbone is not None or own.decoder is not None):
        raise RecipeError("found model= and a backbone or decoder, which are parts of another network: leave one of the two out")
    if own.model is not None and "model" not in recorded:
        _refuse_changed(recipe.model, ModelSection(), "model", except_for=("name", "freeze"), none="none")
    if own.backbone is not None and "backbone" not in recorded:
        _refuse_changed(recipe.model, ModelSection(), "backbone", except_for=("name", "freeze", "arguments"), none="none")
    if own.decoder is not None and recipe.model.start_from:
        raise RecipeError("model.start_from has no effect on a decoder of your own: load the weights into it, and leave start_from out")
    if own.loss is not None:
        _refuse_changed(recipe.loss, LossSection(), "loss", except_for=("border_of", "separate_with", "border_sigma"), none="none")
    if own.optimizer is not None and "optimizer" not in recorded:
        _refuse_changed(recipe.optimizer, OptimizerSection(), "optimizer", except_for=("max_grad_norm",))
    if own.schedule is not None:
        _refuse_changed(recipe.schedule, ScheduleSection(), "schedule")


def _refuse_changed(section: Section, default: Section, given: str, *, except_for: Iterable[str] = (), none: str = "") -> None:
    name = type(section).__name__.removesuffix("Section").lower()
    for key in type(section).model_fields:
        value = getattr(section, key)
        if key not in except_for and value != getattr(default, key) and value != none:
            raise RecipeError(f"{name}.{key} = {value!r} has no effect beside {given}=, an object of your own: leave one of the two out")


def schedule_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return what a caller's own schedule gives for a step; RecipeError where it is no number from 0."""
    try:
        factor = float(schedule(step, steps))
    except Exception as error:  # anybody's code
        raise RecipeError(f"schedule= raised {type(error).__name__} for step {step} of {steps} ({reason(error)})") from error
    if not 0 <= factor < math.inf:
        raise RecipeError(f"schedule= returned {factor} for step {step} of {steps}, expected a factor of the peak learning rate, 0 or more")
    return factor
