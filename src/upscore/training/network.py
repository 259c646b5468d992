"""The network that a recipe describes, built once with the weights it starts from and its frozen parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from upscore.errors import ModelError, RecipeError
from upscore.input_spec import InputSpec
from upscore.models.architectures import find_architecture
from upscore.models.backbones import OWN_BACKBONES, current_name
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model, score_layers
from upscore.models.late_fusion import LateFusion
from upscore.models.own_parts import check_network
from upscore.models.weights import Report, silent
from upscore.models.weights.transplant import normalization_of, start_from
from upscore.text import reason
from upscore.training.network_parts import freeze
from upscore.training.own_objects import OwnObjects
from upscore.training.recipe import Recipe
from upscore.types import LabelSpace

__all__ = ["architecture_arguments", "build_network", "find_normalization", "with_current_backbone_name"]


def build_network(
    recipe: Recipe, labels: LabelSpace, *, own: OwnObjects | None = None, empty: bool = False, report: Report = silent
) -> nn.Module:
    """Return the network to train; equal recipes give equal weights. A copy of a network or backbone of the caller's ``own``.

    The recipe is complete but for what does not concern the network. ``empty`` is for weights that will come from a checkpoint: those that
    the run started from are not read, and may no longer exist. ``report`` is called with what was done to make weights fit.
    Raises ModelError or BundleError where the architecture, its weights or the bundle to start from are unknown or do not fit, and
    RecipeError where a setting has no effect, or ``model.freeze`` names no part of the network.
    """
    settings, images = recipe.model, recipe.input.spec()
    channels = recipe.model.arguments.get("in_channels", len(images))
    if channels != len(images) and not (images.is_rgb and channels == 1):
        luminance = ", or 1, which is their luminance" if images.is_rgb else ""
        raise RecipeError(
            f"model.arguments.in_channels = {channels!r}: expected {len(images)} for images of {images}{luminance}: leave it out"
        )
    torch.manual_seed(recipe.run.seed)
    weights = None if empty or settings.weights in (None, "none") else settings.weights
    arguments = settings.arguments | {"backbone": settings.backbone, "num_classes": len(labels)}
    own = own or OwnObjects()
    if own.model is not None:
        model = _copy(own.model)
    else:
        arguments["backbone"] = settings.backbone if own.backbone is None else _copy(own.backbone)
        model = create_model(own.decoder or settings.name, weights=weights, input=images, report=report, **arguments)
    if own.network:
        check_network(model, len(labels), in_channels=channels)
    if settings.start_from and not empty:
        if isinstance(settings.start_from, list):
            _start_streams(model, settings.start_from, recipe, labels)
        else:
            _start_network(model, settings.start_from, recipe, labels, arguments, report)
    elif settings.new_classes and not empty:
        raise RecipeError(
            "model.new_classes is for other classes than those of a run to start from: name it with --start-from, or leave it out"
        )
    freeze(model, settings.freeze)
    return model


def _start_network(model: nn.Module, path: str, recipe: Recipe, labels: LabelSpace, arguments: Mapping[str, Any], report: Report) -> None:
    """Copy the weights of one bundle into the network, but for score layers that are for other classes."""
    settings, images = recipe.model, recipe.input.spec()
    earlier = Bundle.load(path)
    if not earlier.input.fits(images):
        raise ModelError(f"{path}: its images differ from the data's: {earlier.input.difference(images)}")
    difference = earlier.labels.difference(labels)
    if difference and not settings.new_classes:
        raise ModelError(
            f"{path}: its classes differ from the data's: {difference}; to start from everything but the score layers, give --new-classes"
        )
    initialized: frozenset[str] = frozenset()
    if settings.new_classes:
        initialized = score_layers(settings.name, arguments) | score_layers(earlier.architecture, earlier.arguments)
        layers = sorted({name.rpartition(".")[0] for name in initialized if name in model.state_dict()})
        report(f"{path} gives everything but the score layers, which are newly initialised: {', '.join(layers)}")
    start_from(model, earlier.weights, anew=initialized)


def _start_streams(model: nn.Module, paths: Sequence[str], recipe: Recipe, labels: LabelSpace) -> None:
    """Copy a bundle into each stream of a late fusion, with its normalisation: at first the network is half the sum of both."""
    settings, images = recipe.model, recipe.input.spec()
    if not isinstance(model, LateFusion) or len(paths) != len(model.streams) or settings.new_classes:
        raise RecipeError(
            f"model.start_from: found a list of {len(paths)} for '{settings.name}', expected two runs of the data's classes for "
            "'fcn32s-late', and one run for any other network"
        )
    first = 0
    for path, stream in zip(paths, model.streams, strict=True):
        earlier, bands = Bundle.load(path), slice(first, first + cast(int, stream.bands))
        if not earlier.input.fits(InputSpec(images.bands[bands], images.dtype)):
            raise ModelError(f"{path}: found a network of {earlier.input}, expected one of the bands {', '.join(images.bands[bands])}")
        if difference := earlier.labels.difference(labels):
            raise ModelError(f"{path}: its classes differ from the data's: {difference}")
        if (found := earlier.arguments.get("normalization")) != (own := settings.arguments.get("normalization")):
            raise ModelError(f"{path}: found a network of normalization {found!r}, expected {own!r}, which model.arguments gives")
        start_from(stream, {name: tensor for name, tensor in earlier.weights.items() if not name.startswith("normalization.")})
        for statistics in ("mean", "std"):
            model.normalization.get_buffer(statistics)[bands] = earlier.weights[f"normalization.{statistics}"]
        first = bands.stop


def _copy(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # anybody's code
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({reason(error)}), expected a module that copy.deepcopy copies"
        ) from error


def architecture_arguments(recipe: Recipe, labels: LabelSpace) -> dict[str, object]:
    """Return the arguments that a bundle of the run builds its network with."""
    backbone = {"backbone": recipe.model.backbone} if recipe.model.backbone else {}
    return {**backbone, "num_classes": len(labels), **recipe.model.arguments}


def with_current_backbone_name(recipe: Recipe, *, report: Report) -> Recipe:
    """Return the recipe with timm's present name of its backbone, where it has an earlier one."""
    name = recipe.model.backbone
    if name is None or name in OWN_BACKBONES or "backbone" in recipe.own or (present := current_name(name, report=report)) == name:
        return recipe
    return recipe.with_values({"model.backbone": present})


def find_normalization(recipe: Recipe) -> tuple[str, str] | None:
    """Return the normalisation that a weights file or a coarser network requires, and why; None where the recipe or the backbone has it."""
    model = recipe.model
    if recipe.own.keys() & {"model", "backbone", "decoder"}:
        return None
    has_own = model.backbone in OWN_BACKBONES or not find_architecture(model.name).takes_backbone
    if not has_own or "normalization" in model.arguments or model.arguments.get("in_channels", 3) != 3:
        return None
    if model.start_from:
        start = model.start_from if isinstance(model.start_from, str) else model.start_from[0]
        found, why = Bundle.load(start).arguments.get("normalization"), "the network it starts from has it"
    else:
        found, why = normalization_of(model.weights), "the weights file was trained with it"
    return None if found is None or (recipe.input.mean and found != "caffe") else (found, why)
