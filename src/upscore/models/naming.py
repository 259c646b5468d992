"""What others call the layers of the networks here: tables of names, and the renaming.

A file of weights is known by its names. Where the same layer has another name elsewhere, a
table says so; where only the punctuation differs (``fc6-deconv`` for ``fc6_deconv``), none is
needed. Caffe's and torchfcn's names for VGG16, AlexNet, DeconvNet and SegNet are the papers',
which are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["is_encoder", "rename", "tables_of"]

CLASSIFIER = "fc8"
"""The layer after the last features: classes of ImageNet, which a segmentation network has not."""

_VGG16_CONVS = tuple(f"conv{stage}_{i}" for stage, count in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, count + 1))
_VGG16_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_BN_PLACES = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
_VGG16_LINEAR = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": CLASSIFIER}
_VGG16_LINEAR |= {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": CLASSIFIER}

VGG16_TORCHVISION = {f"features.{place}": conv for place, conv in zip(_VGG16_PLACES, _VGG16_CONVS, strict=True)} | _VGG16_LINEAR
"""torchvision's and timm's ``vgg16``."""

VGG16_BN_TORCHVISION = (
    {f"features.{place}": conv for place, conv in zip(_VGG16_BN_PLACES, _VGG16_CONVS, strict=True)}
    | {f"features.{place + 1}": conv.replace("conv", "bn") for place, conv in zip(_VGG16_BN_PLACES, _VGG16_CONVS, strict=True)}
    | _VGG16_LINEAR
)
"""torchvision's and timm's ``vgg16_bn``."""

VGG16_BN_CAFFE = {
    f"{conv}{separator}{kind}": conv.replace("conv", "bn") for conv in _VGG16_CONVS for separator in "/_" for kind in ("bn", "scale")
}
"""Caffe's pair of layers, BatchNorm and Scale, after each convolution."""

ALEXNET_TORCHVISION = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": CLASSIFIER,
}

_INCEPTIONS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_BRANCHES = {
    "branch1": "conv1x1",
    "branch2.0": "conv3x3_reduce",
    "branch2.1": "conv3x3",
    "branch3.0": "conv5x5_reduce",
    "branch3.1": "conv5x5",
    "branch4.1": "pool_proj",
}

GOOGLENET_TORCHVISION = {
    **{f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in (("conv2", "conv2_reduce"), ("conv3", "conv2")) for part in ("conv", "bn")},
    **{
        f"inception{name}.{theirs}.{part}": f"inception_{name}.{ours}.{part}"
        for name in _INCEPTIONS
        for theirs, ours in _BRANCHES.items()
        for part in ("conv", "bn")
    },
    "fc": CLASSIFIER,
}

GOOGLENET_CAFFE = {
    "conv1/7x7_s2": "conv1.conv",
    "conv2/3x3_reduce": "conv2_reduce.conv",
    "conv2/3x3": "conv2.conv",
    **{
        f"inception_{name}/{theirs}": f"inception_{name}.{ours}.conv"
        for name in _INCEPTIONS
        for theirs, ours in zip(("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"), _BRANCHES.values(), strict=True)
    },
    "loss3/classifier": CLASSIFIER,
}

_SIDE_CLASSIFIERS = re.compile(r"(aux[12]\.|loss[12]/)")
"""Of GoogLeNet, used while it is trained."""


def tables_of(backbone: str, *, normalised: bool) -> list[dict[str, str]]:
    """Return what is known of other names for a backbone.

    Parameters
    ----------
    backbone : str
        "alexnet", "googlenet", "vgg16"; anything else has no tables.
    normalised : bool
        The file holds batch normalisation, which moves the layers of torchvision's VGG16.

    Returns
    -------
    list of dict of str to str
        Each from one origin's names to ours.
    """
    if backbone == "vgg16":
        return [VGG16_BN_TORCHVISION, VGG16_BN_CAFFE] if normalised else [VGG16_TORCHVISION]
    return {"alexnet": [ALEXNET_TORCHVISION], "googlenet": [GOOGLENET_TORCHVISION, GOOGLENET_CAFFE]}.get(backbone, [])


def is_encoder(name: str) -> bool:
    """Say whether a tensor belongs to a layer that VGG16 has too: its convolutions, fc6 and fc7."""
    return _layer(name).rpartition(".")[2] in (*_VGG16_CONVS, "fc6", "fc7")


def rename(found: Mapping[str, Tensor], own: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Return a file's tensors under the network's names, linear layers shaped as the convolutions they are.

    The classifier's last layer is left out where the network has none. What files from
    elsewhere do not hold, the normalisation of images and batch normalisation's counters,
    is the network's own. Every other name is kept, for the caller to complain about.

    Parameters
    ----------
    found : mapping of str to Tensor
        By the file's names.
    own : mapping of str to Tensor
        The state to be filled; its layers may stand inside others, as those of a backbone or of a stage do.
    backbone : str
        Whose tables to use.
    """
    layers = {_layer(name) for name in own}
    bare = {layer.removeprefix("backbone.") for layer in layers}
    shorts = [layer.rpartition(".")[2] for layer in layers]
    inside = {short: layer for short, layer in zip(shorts, layers, strict=True) if shorts.count(short) == 1}
    bare |= inside.keys()
    origin = {_layer(name) for name in found}
    normalised = any(name.endswith(".running_mean") for name in found)
    tables = (table for table in tables_of(backbone, normalised=normalised) if any(name in origin and name not in bare for name in table))
    names = next(tables, {})
    renamed = {}
    for name, tensor in found.items():
        layer, _, kind = name.rpartition(".")
        ours = names.get(layer, layer)
        near = (ours, _plain(ours), f"backbone.{ours}", f"backbone.{_plain(ours)}", inside.get(ours, ""), inside.get(_plain(ours), ""))
        target = next((candidate for candidate in near if candidate in layers), ours)
        if target not in layers and (target == CLASSIFIER or _SIDE_CLASSIFIERS.match(layer)):
            continue
        renamed[f"{target}.{kind}"] = _as_convolution(tensor, own.get(f"{target}.{kind}"))
    return {name: own[name] for name in own if name.startswith("normalization.") or name.endswith(".num_batches_tracked")} | renamed


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _plain(layer: str) -> str:
    return re.sub(r"[-/]", "_", layer)


def _as_convolution(tensor: Tensor, own: Tensor | None) -> Tensor:
    """Shape a linear layer over a flattened (C, h, w) map as the convolution with the same numbers in the same order.

    Caffe's older files write a bias as (1, 1, 1, C), a norm as (1, C, 1, 1) and a linear layer
    as (1, 1, O, I); these lose their ones.
    """
    if own is None or tensor.shape == own.shape or tensor.numel() != own.numel():
        return tensor
    if own.ndim == 1:
        return tensor.flatten() if max(tensor.shape, default=1) == tensor.numel() else tensor
    is_linear = (tensor.ndim == 2 and len(tensor) == len(own)) or (tensor.ndim == 4 and tensor.shape[:3] == (1, 1, len(own)))
    return tensor.reshape(own.shape) if is_linear else tensor
