"""Backbones by name, with or without trained weights.

``alexnet``, ``googlenet`` and ``vgg16`` are the papers' own; every other name is timm's. A
weights file may use our names, or those of tables in :mod:`upscore.models.naming` and below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from upscore.errors import ModelError
from upscore.models.alexnet import AlexNet
from upscore.models.backbone import Backbone, FeatureLevel
from upscore.models.googlenet import GoogLeNet
from upscore.models.naming import rename
from upscore.models.timm_backbone import TimmBackbone, check_name, current_name, import_timm, parameters_mismatch, pretrained
from upscore.models.vgg16 import VGG16
from upscore.models.weights import Report, load_fitting, read_weights, silent

__all__ = [
    "OWN_BACKBONES",
    "VGG16",
    "AlexNet",
    "Backbone",
    "FeatureLevel",
    "GoogLeNet",
    "TimmBackbone",
    "build_backbone",
    "check_name",
    "current_name",
    "import_timm",
    "parameters_mismatch",
]

OWN_BACKBONES: dict[str, Callable[..., nn.Module]] = {"alexnet": AlexNet, "googlenet": GoogLeNet, "vgg16": VGG16}
"""The papers' classifiers; the keyword-only arguments of each are settings of a model."""


def build_backbone(
    name: str,
    *,
    in_channels: int = 3,
    weights: str | Path | None = None,
    finer: bool = False,
    report: Report = silent,
    **arguments: Any,
) -> Any:
    """Build a backbone.

    Parameters
    ----------
    name : str
        A key of :data:`OWN_BACKBONES`, or the name of a timm network with feature maps of stride
        8, 16 and 32.
    in_channels : int
        Channels of the image.
    weights : None, "imagenet" or path
        None draws them; "imagenet" downloads timm's; a path reads a ``.pth`` or
        ``.safetensors`` file under our, torchvision's or timm's names (its classifier is left
        out).
    finer : bool
        Also give the maps of stride 2 and 4, where there are any.
    report : callable
        Told what was done to a file's weights to make them fit, a sentence at a time.
    **arguments
        Those of the papers' backbones (``width``, ``dropout`` and so on); timm's networks take none.

    Returns
    -------
    nn.Module
        A :class:`upscore.models.backbone.Backbone`.

    Raises
    ------
    ModelError
        The name is unknown, or the weights cannot be had or do not fit.
    """
    if name in OWN_BACKBONES:
        own = {**arguments, "finer": True} if finer and name == "vgg16" else arguments
        return _build_own(name, in_channels, weights, own, report)
    if arguments:
        raise ModelError(f"backbone '{name}' takes no argument '{next(iter(arguments))}': only {', '.join(OWN_BACKBONES)} have any")
    if weights == "imagenet":
        return TimmBackbone(name, in_channels=in_channels, weights="imagenet", finer=finer)
    backbone = TimmBackbone(name, in_channels=in_channels, finer=finer)
    if weights is not None:
        found = read_weights(weights, report=report)
        load_fitting(
            backbone, found, source=weights, report=report, name_as=lambda tensors: _named_as_timm_backbone(name, backbone, tensors)
        )
    return backbone


def _build_own(name: str, in_channels: int, weights: str | Path | None, arguments: Mapping[str, Any], report: Report) -> nn.Module:
    backbone = OWN_BACKBONES[name](in_channels=in_channels, **arguments)
    if weights == "imagenet":
        if name != "vgg16":
            raise ModelError(f"there are no ImageNet weights to download for '{name}': give weights=<file>, or train from scratch")
        if arguments.get("width", 1) != 1:
            raise ModelError(
                f"there are no ImageNet weights for a VGG16 of width {arguments['width']}: leave width at 1, or train from scratch"
            )
        found = pretrained("vgg16_bn" if arguments.get("batch_norm") else "vgg16", in_chans=in_channels).state_dict()
    elif weights is not None:
        found = read_weights(weights, report=report)
    else:
        return backbone
    own = backbone.state_dict()
    load_fitting(backbone, found, source=weights, report=report, name_as=lambda tensors: rename(tensors, own, name))
    return backbone


def _named_as_timm_backbone(name: str, backbone: TimmBackbone, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a whole timm network to those of its backbone, and leave out those of its head."""
    if name.partition(".")[0] == "mobilenetv2_100" and "features.0.0.weight" in found:
        found = _mobilenetv2_named_as_timm(found)
    with torch.device("meta"):
        whole = import_timm().create_model(name).state_dict()
    own = backbone.state_dict()
    names = {_whole_name(key, whole): key for key in own}
    return {names.get(key, key): tensor for key, tensor in found.items() if key in names or key in own or key not in whole}


def _whole_name(key: str, whole: Mapping[str, Tensor]) -> str:
    """Return what a tensor of the backbone is called in the whole network.

    timm's feature extractors put a name before ("features.model.x"), or join the first two
    parts of one ("stages_0.x" for "stages.0.x").
    """
    key = key.removeprefix("features.")
    first, _, rest = key.partition(".")
    candidates = [key, rest, *(f"{first[: m.start()]}.{first[m.end() :]}.{rest}" for m in re.finditer("_", first))]
    return next((candidate for candidate in candidates if candidate in whole), key)


def _mobilenetv2_named_as_timm(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's MobileNetV2: a row of 17 blocks, which timm keeps as stages of 1, 2, 3, 4, 3, 3 and 1.

    =====================  ==========================================================
    torchvision            timm
    =====================  ==========================================================
    features.0.{0,1}       conv_stem, bn1
    features.1.conv.*      blocks.0.0: conv_dw bn1, conv_pw bn2 (no expansion)
    features.2–17.conv.*   blocks.s.b: conv_pw bn1, conv_dw bn2, conv_pwl bn3
    features.18.{0,1}      conv_head, bn2
    classifier.1           classifier
    =====================  ==========================================================
    """
    names = {
        "features.0.0": "conv_stem",
        "features.0.1": "bn1",
        "features.18.0": "conv_head",
        "features.18.1": "bn2",
        "classifier.1": "classifier",
    }
    blocks = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)]
    for number, (stage, block) in enumerate(blocks, start=1):
        if number == 1:
            layers = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
        else:
            layers = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
        names |= {f"features.{number}.conv.{theirs}": f"blocks.{stage}.{block}.{timms}" for theirs, timms in layers.items()}
    renamed = {}
    for key, tensor in found.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{kind}"] = tensor
    return renamed
