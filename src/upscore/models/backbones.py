"""Trunks by name, with or without trained weights.

``vgg16`` is the papers' own; every other name is timm's. A weights file may use our names,
torchvision's or timm's; tables of names, written out below, translate between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upscore.errors import ModelError
from upscore.models.timm_trunk import TimmTrunk, check_name, import_timm, pretrained
from upscore.models.trunk import Tap, Trunk
from upscore.models.vgg16 import VGG16, torchvision_names
from upscore.models.weights import load_exactly, read_weights

__all__ = ["VGG16", "Tap", "TimmTrunk", "Trunk", "build_trunk", "check_name", "import_timm"]


def build_trunk(
    name: str, *, in_channels: int = 3, weights: str | Path | None = None, finer: bool = False, **arguments: Any
) -> VGG16 | TimmTrunk:
    """Build a trunk.

    Parameters
    ----------
    name : str
        "vgg16", or the name of a timm network with feature maps of stride 8, 16 and 32.
    in_channels : int
        Channels of the picture.
    weights : None, "imagenet" or path
        None draws them; "imagenet" downloads timm's; a path reads a ``.pth`` or
        ``.safetensors`` file under our, torchvision's or timm's names (its classifier is left
        out).
    finer : bool
        Also give the maps of stride 2 and 4, where there are any.
    **arguments
        Those of :class:`VGG16`; timm's networks take none.

    Raises
    ------
    ModelError
        The name is unknown, or the weights cannot be had or do not fit.
    """
    if name == "vgg16":
        return _build_vgg16(in_channels, weights, {**arguments, "finer": finer})
    if arguments:
        raise ModelError(f"backbone '{name}' takes no argument '{next(iter(arguments))}': only 'vgg16' has any")
    if weights == "imagenet":
        return TimmTrunk(name, in_channels=in_channels, weights="imagenet", finer=finer)
    trunk = TimmTrunk(name, in_channels=in_channels, finer=finer)
    if weights is not None:
        load_exactly(trunk, _named_as_timm_trunk(name, trunk, read_weights(weights)), source=weights)
    return trunk


def _build_vgg16(in_channels: int, weights: str | Path | None, arguments: Mapping[str, Any]) -> VGG16:
    trunk = VGG16(in_channels=in_channels, **arguments)
    if weights == "imagenet":
        if arguments.get("width", 1) != 1:
            raise ModelError(
                f"there are no ImageNet weights for a VGG16 of width {arguments['width']}: leave width at 1, or train from scratch"
            )
        found = pretrained("vgg16_bn" if trunk.batch_norm else "vgg16", in_chans=in_channels).state_dict()
        load_exactly(trunk, _named_as_vgg16(trunk, found), source=weights)
    elif weights is not None:
        load_exactly(trunk, _named_as_vgg16(trunk, read_weights(weights)), source=weights)
    return trunk


def _named_as_vgg16(trunk: VGG16, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's or timm's tensors, and shape linear layers as the convolutions they are.

    A linear layer over a flattened (C, 7, 7) map and the 7×7 convolution hold the same
    numbers in the same order (Long et al. 2015, §3.1).
    """
    own = trunk.state_dict()
    names = torchvision_names(batch_norm=trunk.batch_norm)
    renamed = {}
    for name, tensor in found.items():
        layer, _, kind = name.rpartition(".")
        if layer in _VGG16_CLASSIFIER and layer not in names:
            continue
        target = f"{names.get(layer, layer)}.{kind}"
        is_linear = tensor.ndim == 2 and target in own and own[target].numel() == tensor.numel()
        renamed[target] = tensor.reshape(own[target].shape) if is_linear else tensor
    return renamed


_VGG16_CLASSIFIER = ("classifier.6", "head.fc", "fc8")
"""The layer after fc7, which every network here replaces."""


def _named_as_timm_trunk(name: str, trunk: TimmTrunk, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a whole timm network to those of its trunk, and leave out those of its head."""
    if name.partition(".")[0] == "mobilenetv2_100" and "features.0.0.weight" in found:
        found = _mobilenetv2_named_as_timm(found)
    with torch.device("meta"):
        whole = import_timm().create_model(name).state_dict()
    own = trunk.state_dict()
    names = {_whole_name(key, whole): key for key in own}
    return {names.get(key, key): tensor for key, tensor in found.items() if key in names or key in own or key not in whole}


def _whole_name(key: str, whole: Mapping[str, Tensor]) -> str:
    """Return what a tensor of the trunk is called in the whole network.

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
