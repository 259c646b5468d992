"""Networks by name: a plain dict of architectures, and one function that puts the parts together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upscore.errors import ModelError, nearest_name
from upscore.models.backbone_unet import BackboneUNet
from upscore.models.backbones import VGG16, build_trunk, check_name
from upscore.models.deconvnet import DeconvNet
from upscore.models.fcn import FCN8s, FCN16s, FCN32s
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization
from upscore.models.segnet import SegNet, SegNetBasic
from upscore.models.unet import UNet

__all__ = ["ARCHITECTURES", "ListedModel", "create_model", "list_models", "takes_backbone"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": functools.partial(FCN8s, at_once=True),
    "deconvnet": DeconvNet,
    "segnet": SegNet,
    "segnet-basic": SegNetBasic,
    "unet": UNet,
    "unet-backbone": BackboneUNet,
}
"""Name to what builds it: from ``(trunk, *, num_classes, normalization, **arguments)``, or, where the network
is whole by itself, from ``(*, num_classes, normalization, in_channels, **arguments)``."""

NORMALIZATIONS = ("imagenet", "caffe", "raw")


def takes_backbone(name: str) -> bool:
    """Say whether an architecture is put on a trunk, or is whole by itself.

    Raises
    ------
    ModelError
        There is no such architecture.
    """
    return "trunk" in inspect.signature(_builder(name)).parameters


def create_model(
    name: str,
    *,
    backbone: str | None = None,
    num_classes: int,
    in_channels: int = 3,
    weights: str | Path | None = None,
    normalization: str | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build a segmentation network.

    Parameters
    ----------
    name : str
        A key of :data:`ARCHITECTURES`.
    backbone : str, optional
        "vgg16", the default, or one of timm's names; none for DeconvNet, SegNet and the others that
        are whole by themselves.
    num_classes : int
        K.
    in_channels : int
        C of the pictures; 3 is RGB. A network of 1 also takes RGB, and reads its luminance.
    weights : None, "imagenet" or path
        Of the backbone; see :func:`upscore.models.backbones.build_trunk`. The score layers of an
        FCN start at zero in any case.
    normalization : {"imagenet", "caffe", "raw"}, optional
        What the weights expect. By default the backbone's own statistics; "caffe" for weights
        converted from the papers' Caffe models, "raw" for SegNet's.
    **arguments
        Of the architecture (``upsampling``, ``width``) or of VGG16 (``width``, ``dropout``,
        ``batch_norm``, ``padding``).

    Returns
    -------
    nn.Module
        Maps (N, C, H, W) in [0, 1] to logits (N, K, H, W); in train mode.

    Raises
    ------
    ModelError
        A name, argument or weights file is unknown or does not fit.
    """
    architecture = _builder(name)
    if not isinstance(in_channels, int) or not 1 <= in_channels <= 64:
        raise ModelError(f"found {in_channels} input channels, expected a whole number from 1 to 64")
    if not takes_backbone(name):
        if backbone is not None:
            instead = ": 'unet-backbone' takes one" if name == "unet" else ""
            raise ModelError(f"found backbone '{backbone[:80]}' for '{name}', which is whole by itself: leave it out{instead}")
        if weights is not None:
            raise ModelError(f"'{name}' takes no weights: leave them out")
        _refuse_unknown(arguments, _accepted(architecture), f"'{name}'")
        chosen = _normalization(normalization or _OWN_NORMALIZATION.get(name), IMAGENET_MEAN, IMAGENET_STD, in_channels)
        return architecture(num_classes=num_classes, in_channels=in_channels, normalization=chosen, **arguments)
    backbone = backbone or "vgg16"
    if backbone != "vgg16":
        check_name(backbone)
    for_architecture = _accepted(architecture)
    for_trunk = _accepted(VGG16) if backbone == "vgg16" else ()
    _refuse_unknown(arguments, (*for_architecture, *for_trunk), f"'{name}' with backbone '{backbone}'")
    given = {k: v for k, v in arguments.items() if k in for_trunk}
    trunk = build_trunk(backbone, in_channels=in_channels, weights=weights, finer=getattr(architecture, "reads_finer_maps", False), **given)
    return architecture(
        trunk,
        num_classes=num_classes,
        normalization=_normalization(normalization, trunk.mean, trunk.std, in_channels),
        **{k: v for k, v in arguments.items() if k in for_architecture},
    )


_OWN_NORMALIZATION = {"segnet-basic": "raw"}
"""Of networks that were made for other numbers than ImageNet's classifiers."""


def _builder(name: str) -> Callable[..., nn.Module]:
    if name not in ARCHITECTURES:
        near = nearest_name(str(name), list(ARCHITECTURES))
        raise ModelError(f"unknown model '{str(name)[:80]}'{near}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _refuse_unknown(arguments: Mapping[str, Any], accepted: tuple[str, ...], whose: str) -> None:
    for argument in arguments:
        if argument not in accepted:
            raise ModelError(
                f"{whose} takes no argument '{argument[:80]}'{nearest_name(argument, accepted)}: expected {', '.join(accepted) or 'none'}"
            )


def _accepted(builder: Callable[..., nn.Module]) -> tuple[str, ...]:
    """Return the names of a builder's settings: its keyword-only arguments but those that are parts."""
    fixed = builder.keywords if isinstance(builder, functools.partial) else {}
    parameters = inspect.signature(builder).parameters.values()
    parts = ("num_classes", "normalization", "in_channels", "finer")
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*parts, *fixed))


def _normalization(name: str | None, mean: tuple[float, ...], std: tuple[float, ...], in_channels: int) -> Normalization:
    if name not in (None, *NORMALIZATIONS):
        raise ModelError(
            f"unknown normalization '{name}'{nearest_name(str(name), NORMALIZATIONS)}: expected one of {', '.join(NORMALIZATIONS)}"
        )
    if name == "caffe":
        if in_channels != 3:
            raise ModelError(f"found {in_channels} input channels with normalization 'caffe', expected 3: it is made for BGR")
        return Normalization.caffe()
    if name == "raw":
        return Normalization.raw(in_channels)
    if name == "imagenet":
        return Normalization.imagenet(in_channels)
    return Normalization.for_channels(mean, std, in_channels)


@dataclass(frozen=True)
class ListedModel:
    """A row of ``upscore models``.

    Parameters
    ----------
    name : str
        Of the architecture.
    backbone : str
        Its trunk; "" where it is whole by itself.
    parameters : float
        In millions, with 21 classes.
    stride : int
        Pixels between the coarsest cells.
    field : float
        Pixels such a cell sees along one axis, or a score where the network is whole by itself;
        infinite where it sees all.
    """

    name: str
    backbone: str
    parameters: float
    stride: int
    field: float


def list_models(backbones: tuple[str, ...] = ("vgg16", "mobilenetv2_100", "resnet18", "resnet50", "convnext_tiny")) -> list[ListedModel]:
    """Return every architecture on some backbones, measured on the meta device: nothing is allocated."""
    rows = []
    for name in ARCHITECTURES:
        for backbone in backbones if takes_backbone(name) else (None,):
            with torch.device("meta"):
                model: Any = create_model(name, backbone=backbone, num_classes=21)
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            grid = model.trunk.taps[32].geometry if backbone else model.geometry
            rows.append(ListedModel(name, backbone or "", parameters, model.stride, float(grid.field)))
    return rows
