"""What others call the layers of the networks here: tables of names, and the renaming.

Where the same layer has another name elsewhere, a table maps it; where only the punctuation
differs (``fc6-deconv`` for ``fc6_deconv``), none is needed. Caffe's and torchfcn's names for
VGG16, AlexNet, DeconvNet and SegNet are the papers', and so are ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

__all__ = ["is_vgg16_layer", "join_heads", "rename", "rename_to_timm"]

CLASSIFIER = "fc8"
"""The layer after the last features: classes of ImageNet, which a segmentation network does not have."""

_VGG16_CONVS = tuple(f"conv{stage}_{i}" for stage, count in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, count + 1))
_VGG16_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_BN_INDICES = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
_VGG16_LINEAR = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": CLASSIFIER}
_VGG16_LINEAR |= {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": CLASSIFIER}

VGG16_TORCHVISION = {f"features.{index}": conv for index, conv in zip(_VGG16_INDICES, _VGG16_CONVS, strict=True)} | _VGG16_LINEAR
"""torchvision's and timm's ``vgg16``."""

VGG16_BN_TORCHVISION = (
    {f"features.{index}": conv for index, conv in zip(_VGG16_BN_INDICES, _VGG16_CONVS, strict=True)}
    | {f"features.{index + 1}": conv.replace("conv", "bn") for index, conv in zip(_VGG16_BN_INDICES, _VGG16_CONVS, strict=True)}
    | _VGG16_LINEAR
)
"""torchvision's and timm's ``vgg16_bn``."""

VGG16_BN_CAFFE = {
    f"{conv}{separator}{kind}": conv.replace("conv", "bn") for conv in _VGG16_CONVS for separator in "/_" for kind in ("bn", "scale")
}
"""Caffe's pair of layers, BatchNorm and Scale, after each convolution."""

ALEXNET_TORCHVISION = {f"features.{index}": f"conv{number}" for number, index in enumerate((0, 3, 6, 8, 10), start=1)}
ALEXNET_TORCHVISION |= {"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": CLASSIFIER}

_INCEPTIONS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_BRANCHES = {"branch1": "conv1x1", "branch2.0": "conv3x3_reduce", "branch2.1": "conv3x3", "branch3.0": "conv5x5_reduce"}
_BRANCHES |= {"branch3.1": "conv5x5", "branch4.1": "pool_proj"}
_GOOGLENET_UNITS = {f"inception{i}.{theirs}": f"inception_{i}.{ours}" for i in _INCEPTIONS for theirs, ours in _BRANCHES.items()}
_GOOGLENET_UNITS |= {"conv2": "conv2_reduce", "conv3": "conv2"}

GOOGLENET_TORCHVISION = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in _GOOGLENET_UNITS.items() for part in ("conv", "bn")}
GOOGLENET_TORCHVISION["fc"] = CLASSIFIER

GOOGLENET_CAFFE = {
    f"inception_{i}/{theirs}": f"inception_{i}.{ours}.conv"
    for i in _INCEPTIONS
    for theirs, ours in zip(("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"), _BRANCHES.values(), strict=True)
}
GOOGLENET_CAFFE |= {"conv1/7x7_s2": "conv1.conv", "conv2/3x3_reduce": "conv2_reduce.conv", "conv2/3x3": "conv2.conv"}
GOOGLENET_CAFFE["loss3/classifier"] = CLASSIFIER

EARLY_FUSION = {"conv1_1_bgrd": "conv1_1"}
"""The first convolution of the FCN release's network for colour and depth."""

STREAMS = {"color": "streams.0.", "hha": "streams.1."}
"""What the FCN release's network for colour and HHA puts behind the names of its layers, and the streams here."""

_AUXILIARY = re.compile(r"(aux[12]\.|loss[12]/)")
"""GoogLeNet's auxiliary classifiers, used while it is trained."""


def _key_maps(backbone: str, *, normalised: bool) -> list[dict[str, str]]:
    """Return the tables for one of the papers' backbones, each from one origin's names to ours; other backbones have none.

    A file with batch normalisation has torchvision's VGG16 layers under other indices.
    """
    if backbone == "vgg16":
        return [VGG16_BN_TORCHVISION, VGG16_BN_CAFFE] if normalised else [VGG16_TORCHVISION]
    return {"alexnet": [ALEXNET_TORCHVISION], "googlenet": [GOOGLENET_TORCHVISION, GOOGLENET_CAFFE]}.get(backbone, [])


def is_vgg16_layer(name: str) -> bool:
    """Return whether a tensor belongs to a layer that VGG16 has too: its convolutions, fc6 and fc7.

    >>> is_vgg16_layer("encoder.conv1.conv1_2.weight"), is_vgg16_layer("seg_score_voc.weight")
    (True, False)
    """
    return _layer(name).rpartition(".")[2] in (*_VGG16_CONVS, "fc6", "fc7")


def rename(found: Mapping[str, Tensor], own: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Return a file's tensors under the network's names, linear layers in the shape of the equal convolutions.

    The classifier's last layer is removed if the network has none. What foreign files do not
    hold, the normalisation of images and batch normalisation's counters, is the network's own.
    Every other name stays, for the caller to report.

    Parameters
    ----------
    found : mapping of str to Tensor
        By the file's names.
    own : mapping of str to Tensor
        The state to be filled. Its layers may lie inside others, such as a backbone or a decoder.
    backbone : str
        Whose tables to use: "alexnet", "googlenet" or "vgg16"; any other name uses none.

    Examples
    --------
    >>> import torch
    >>> own = {"backbone.conv1_1.weight": torch.zeros(64, 3, 3, 3)}
    >>> list(rename({"features.0.weight": torch.zeros(64, 3, 3, 3)}, own, "vgg16"))
    ['backbone.conv1_1.weight']
    """
    layers = {_layer(name) for name in own}
    bare = {layer.removeprefix("backbone.") for layer in layers}
    shorts = [layer.rpartition(".")[2] for layer in layers]
    inside = {short: layer for short, layer in zip(shorts, layers, strict=True) if shorts.count(short) == 1}
    bare |= inside.keys()
    origin = {_layer(name) for name in found}
    normalised = any(name.endswith(".running_mean") for name in found)
    tables = (table for table in _key_maps(backbone, normalised=normalised) if any(name in origin and name not in bare for name in table))
    names = next(tables, {})
    renamed = {}
    for name, tensor in found.items():
        layer, _, kind = name.rpartition(".")
        ours = EARLY_FUSION.get(layer, names.get(layer, layer))
        near = (
            *_in_stream(layer, layers),
            ours,
            _plain(ours),
            f"backbone.{ours}",
            f"backbone.{_plain(ours)}",
            inside.get(ours, ""),
            inside.get(_plain(ours), ""),
        )
        target = next((candidate for candidate in near if candidate in layers), ours)
        if target not in layers and (target == CLASSIFIER or _AUXILIARY.match(layer)):
            continue
        renamed[f"{target}.{kind}"] = _as_convolution(tensor, own.get(f"{target}.{kind}"))
    return {name: own[name] for name in own if name.startswith("normalization.") or name.endswith(".num_batches_tracked")} | renamed


def join_heads(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layers ``X_sem`` and ``X_geo`` of the FCN release's networks with two heads as one layer ``X`` of the classes of both.

    >>> import torch
    >>> {name: tuple(x.shape) for name, x in join_heads({"a_sem.bias": torch.ones(3), "a_geo.bias": torch.ones(2)}).items()}
    {'a.bias': (5,)}
    """
    joined = dict(found)
    for name, first in found.items():
        layer, _, kind = name.rpartition(".")
        base = layer.removesuffix("_sem")
        second = found.get(f"{base}_geo.{kind}")
        if base == layer or second is None:
            continue
        if all(weight.ndim == 4 and weight.shape[0] == weight.shape[1] for weight in (first, second)):  # upsampling, from class to class
            both = first.new_zeros(len(first) + len(second), len(first) + len(second), *first.shape[2:])
            both[: len(first), : len(first)], both[len(first) :, len(first) :] = first, second
        else:
            both = torch.cat([first, second])
        del joined[name], joined[f"{base}_geo.{kind}"]
        joined[f"{base}.{kind}"] = both
    return joined


def _in_stream(layer: str, layers: Collection[str]) -> list[str]:
    """Return the layer of a late fusion that the release calls ``layer``, if it is one."""
    return [
        name
        for suffix, stream in STREAMS.items()
        for name in layers
        if layer.endswith(suffix) and name.startswith(stream) and name.endswith(f".{layer.removesuffix(suffix)}")
    ]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _plain(layer: str) -> str:
    return re.sub(r"[-/]", "_", layer)


def _as_convolution(tensor: Tensor, own: Tensor | None) -> Tensor:
    """Reshape a linear layer over a flattened (C, h, w) map to the convolution with the same numbers in the same order.

    Caffe's older files write a bias as (1, 1, 1, C), a norm as (1, C, 1, 1) and a linear layer
    as (1, 1, O, I), and MatConvNet the last one as (O, I, 1, 1); these ones are removed.
    """
    if own is None or tensor.shape == own.shape or tensor.numel() != own.numel():
        return tensor
    if own.ndim == 1:
        return tensor.flatten() if max(tensor.shape, default=1) == tensor.numel() else tensor
    is_linear = (
        (tensor.ndim == 2 and len(tensor) == len(own))
        or (tensor.ndim == 4 and tensor.shape[:3] == (1, 1, len(own)))
        or (tensor.shape == (*own.shape, 1, 1))
    )
    return tensor.reshape(own.shape) if is_linear else tensor


def rename_to_timm(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], classifier: Mapping[str, Tensor], *, torchvision_mobilenet: bool = False
) -> dict[str, Tensor]:
    """Return the tensors of a whole timm network under the names of its feature extractor, without those of its head.

    ``own`` is the state of timm's feature extractor, ``classifier`` that of timm's whole network; ``torchvision_mobilenet`` tells that
    it is MobileNetV2, which torchvision has too, under other names.
    """
    if torchvision_mobilenet and "features.0.0.weight" in found:
        found = {f"{_MOBILENETV2_TORCHVISION.get(_layer(k), _layer(k))}.{k.rpartition('.')[2]}": tensor for k, tensor in found.items()}
    names = {_name_in_classifier(key, classifier): key for key in own}
    return {names.get(key, key): tensor for key, tensor in found.items() if key in names or key in own or key not in classifier}


def _name_in_classifier(key: str, classifier: Mapping[str, Tensor]) -> str:
    """Return the name that a tensor of a feature extractor has in the whole network.

    timm's feature extractors add a prefix ("features.model.x"), or join the first two
    parts of a name ("stages_0.x" for "stages.0.x").
    """
    key = key.removeprefix("features.")
    first, _, rest = key.partition(".")
    candidates = [key, rest, *(f"{first[: m.start()]}.{first[m.end() :]}.{rest}" for m in re.finditer("_", first))]
    return next((candidate for candidate in candidates if candidate in classifier), key)


def _mobilenetv2_torchvision() -> dict[str, str]:
    """Return timm's names of torchvision's MobileNetV2: a row of 17 blocks, in timm stages of 1, 2, 3, 4, 3, 3 and 1.

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
    names = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"}
    names["classifier.1"] = "classifier"
    blocks = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)]
    for number, (stage, block) in enumerate(blocks, start=1):
        if number == 1:
            layers = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
        else:
            layers = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
        names |= {f"features.{number}.conv.{theirs}": f"blocks.{stage}.{block}.{timms}" for theirs, timms in layers.items()}
    return names


_MOBILENETV2_TORCHVISION = _mobilenetv2_torchvision()
