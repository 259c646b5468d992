"""Checks of a caller's own network, backbone or decoder: what is missing or wrong is one line, before training time is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.architectures import Architecture
from upscore.models.backbone import FeatureLevel, PaddingMode
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.text import reason

__all__ = ["check_backbone", "check_network", "own_architecture"]

SIZES = ((64, 96), (75, 97))
"""Height and width of the images of the check: multiples of 32, and odd ones."""

BACKBONE = ("levels", "padding", "mean", "std")
DECODER = ("num_classes", "stride", "geometry", "upsamplings", "context", "channels", "head")


def _require(part: object, attributes: tuple[str, ...], what: str, protocol: str) -> str:
    """Return how messages call a part that is a module with ``attributes``; ModelError where it is none."""
    called = f"the {what} {type(part).__name__}"
    if not isinstance(part, nn.Module):
        raise ModelError(f"found {type(part).__name__} as {what}, expected an nn.Module with what {protocol} lists")
    for attribute in attributes:
        if not hasattr(part, attribute):
            raise ModelError(f"{called} has no attribute '{attribute}', expected {', '.join(attributes)}: see {protocol}")
    return called


def check_backbone(backbone: Any, *, in_channels: int = 3) -> None:
    """Raise ModelError for what is no :class:`upscore.models.backbone.Backbone`, or gives other maps of an image than it lists."""
    called = _require(backbone, BACKBONE, "backbone", "upscore.models.backbone.Backbone")
    levels = backbone.levels
    if not isinstance(levels, Mapping) or not levels or not all(isinstance(level, FeatureLevel) for level in levels.values()):
        raise ModelError(
            f"{called} has levels of type {type(levels).__name__}, expected FeatureLevels by stride, as measure_levels returns"
        )
    if backbone.padding not in get_args(PaddingMode):
        raise ModelError(f"{called} has padding {backbone.padding!r}, expected one of {', '.join(get_args(PaddingMode))}")
    side = 2 * max(levels)
    with evaluation_mode(backbone), torch.no_grad():
        try:
            maps = backbone(torch.zeros(1, in_channels, side, side, device=_device(backbone)))
        except Exception as error:  # anybody's code
            message = f"{called} raised {type(error).__name__} for an image of {side}×{side} ({reason(error)})"
            raise ModelError(f"{message}: it has to take any multiple of its stride") from error
    found = {stride: tuple(x.shape) for stride, x in maps.items()} if isinstance(maps, Mapping) else type(maps).__name__
    for stride, level in levels.items():
        if not isinstance(found, dict) or found.get(stride, (0, 0))[1] != level.channels:
            raise ModelError(f"{called} returned {found} for an image, expected maps by stride, with {level.channels} channels at {stride}")


def own_architecture(decoder: Callable[[Any, int], Any]) -> Architecture:
    """Return the record of a caller's own decoder: a function or class of (backbone, number of classes)."""
    name = getattr(decoder, "__name__", type(decoder).__name__)

    def build(backbone: Any, *, num_classes: int) -> Any:
        built = decoder(backbone, num_classes)
        called = _require(built, DECODER, "decoder", "upscore.models.on_backbone.Decoder")
        if built.num_classes != num_classes:
            raise ModelError(f"{called} has num_classes {built.num_classes}, expected {num_classes}")
        return built

    return Architecture(name, build, "a decoder of the caller's own", "", finer=True)


def check_network(model: nn.Module, num_classes: int, *, in_channels: int = 3) -> None:
    """Run a network on two images, and raise ModelError unless it returns logits of their size, one for each class.

    Its weights and its mode stay as they are.
    """
    called, wanted = f"the network {type(model).__name__}", f"expected logits (N, {num_classes}, H, W)"
    if not isinstance(model, nn.Module):
        raise ModelError(f"found {type(model).__name__} as model, expected an nn.Module, or the name of an architecture")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{called} has no trainable parameter: set requires_grad")
    generator = torch.Generator().manual_seed(0)
    for height, width in SIZES:
        images = torch.rand(1, in_channels, height, width, generator=generator).to(_device(model))
        with evaluation_mode(model), torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                logits = model(images)
            except Exception as error:  # anybody's code
                message = f"{called} raised {type(error).__name__} for an image of {height}×{width} ({reason(error)})"
                raise ModelError(f"{message}: it has to take images of any size: pad them in its forward, and crop the logits") from error
        if isinstance(logits, Mapping):
            keys = ", ".join(map(str, list(logits)[:4]))
            inner = "out" if "out" in logits else "logits" if "logits" in logits else next(iter(logits), "…")
            raise ModelError(
                f"{called} returned a {type(logits).__name__} with {keys}, {wanted}: wrap it in a module whose forward returns ['{inner}']"
            )
        if not isinstance(logits, Tensor):
            raise ModelError(f"{called} returned {type(logits).__name__}, {wanted}: wrap it in a module whose forward returns these")
        _check_logits(logits, f"{called} returned", wanted, (num_classes, height, width))


def _check_logits(logits: Tensor, called: str, wanted: str, shape: tuple[int, int, int]) -> None:
    found = tuple(logits.shape)
    num_classes, height, width = shape
    if logits.ndim != 4 or found[0] != 1 or found[1] != num_classes:
        raise ModelError(f"{called} shape {found} for an image of {height}×{width}, {wanted}: one channel for each class")
    if found[2:] != (height, width):
        raise ModelError(f"{called} shape {found} for an image of {height}×{width}, {wanted}: upsample them to the image in its forward")
    if not logits.is_floating_point() or not bool(logits.isfinite().all()):
        raise ModelError(f"{called} values of {logits.dtype} that are not all finite numbers, {wanted}")
    if num_classes > 1 and bool((logits >= 0).all()) and bool(((logits.float().sum(1) - 1).abs() < 1e-3).all()):
        raise ModelError(f"{called} probabilities, which sum to 1 over the classes, {wanted}: leave its softmax out")


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
