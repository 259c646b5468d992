"""Networks by name: a plain dict of architectures, and one function that puts the parts together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upscore.errors import ModelError, nearest_name
from upscore.models.backbones import OWN_TRUNKS, build_trunk, check_name
from upscore.models.fcn import FCN8s, FCN16s, FCN32s
from upscore.models.normalization import Normalization
from upscore.models.transplant import holds_whole_network, normalization_of, transplant

__all__ = ["ARCHITECTURES", "ListedModel", "create_model", "list_models"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": functools.partial(FCN8s, at_once=True),
}
"""Name to what builds it from ``(trunk, *, num_classes, normalization, **arguments)``."""

NORMALIZATIONS = ("imagenet", "caffe", "caffe-raw")


def create_model(
    name: str,
    *,
    backbone: str = "vgg16",
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
    backbone : str
        "alexnet", "googlenet", "vgg16" or one of timm's names.
    num_classes : int
        K.
    in_channels : int
        C of the pictures; 3 is RGB.
    weights : None, "imagenet" or path
        Of the backbone; see :func:`upscore.models.backbones.build_trunk`. The score layers
        start at zero, unless the file holds a whole network.
    normalization : {"imagenet", "caffe", "caffe-raw"}, optional
        What the weights expect. By default what their names tell
        (:func:`upscore.models.transplant.normalization_of`), or else the backbone's own
        statistics; "caffe" for weights converted from the papers' Caffe models, "caffe-raw"
        for SegNet's.
    **arguments
        Of the architecture (``upsampling``, ``at_once``) or of one of the papers' trunks
        (``width``, ``dropout``, ``padding``, ``batch_norm`` for VGG16, ``variant`` for the others).

    Returns
    -------
    nn.Module
        Maps (N, C, H, W) in [0, 1] to logits (N, K, H, W); in train mode.

    Raises
    ------
    ModelError
        A name, argument or weights file is unknown or does not fit.
    """
    if name not in ARCHITECTURES:
        raise ModelError(
            f"unknown model '{name[:80]}'{nearest_name(name, list(ARCHITECTURES))}: expected one of {', '.join(ARCHITECTURES)}"
        )
    if not isinstance(in_channels, int) or not 1 <= in_channels <= 64:
        raise ModelError(f"found {in_channels} input channels, expected a whole number from 1 to 64")
    if backbone not in OWN_TRUNKS:
        check_name(backbone)
    architecture = ARCHITECTURES[name]
    for_architecture = _accepted(architecture)
    for_trunk = _accepted(OWN_TRUNKS[backbone]) if backbone in OWN_TRUNKS else ()
    for argument in arguments:
        if argument not in (*for_architecture, *for_trunk):
            accepted = (*for_architecture, *for_trunk)
            raise ModelError(
                f"'{name}' with backbone '{backbone}' takes no argument '{argument[:80]}'{nearest_name(argument, accepted)}: "
                f"expected {', '.join(accepted) or 'none'}"
            )
    whole = weights is not None and weights != "imagenet" and backbone in OWN_TRUNKS and holds_whole_network(weights)
    if normalization is None and in_channels == 3 and backbone in OWN_TRUNKS:
        normalization = normalization_of(weights, backbone)
    of_trunk = {k: v for k, v in arguments.items() if k in for_trunk}
    trunk = build_trunk(backbone, in_channels=in_channels, weights=None if whole else weights, **of_trunk)
    model = architecture(
        trunk,
        num_classes=num_classes,
        normalization=_normalization(normalization, trunk.mean, trunk.std, in_channels),
        **{k: v for k, v in arguments.items() if k in for_architecture},
    )
    if whole:
        transplant(model, str(weights), backbone=backbone)
    return model


def _accepted(builder: Callable[..., nn.Module]) -> tuple[str, ...]:
    """Return the names of a builder's settings: its keyword-only arguments but those that are parts."""
    fixed = builder.keywords if isinstance(builder, functools.partial) else {}
    parameters = inspect.signature(builder).parameters.values()
    parts = ("num_classes", "normalization", "in_channels")
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*parts, *fixed))


def _normalization(name: str | None, mean: tuple[float, ...], std: tuple[float, ...], in_channels: int) -> Normalization:
    if name not in (None, *NORMALIZATIONS):
        raise ModelError(f"unknown normalization '{name}'{nearest_name(str(name), NORMALIZATIONS)}: expected {' or '.join(NORMALIZATIONS)}")
    if name in ("caffe", "caffe-raw"):
        if in_channels != 3:
            raise ModelError(f"found {in_channels} input channels with normalization '{name}', expected 3: it is made for BGR")
        return Normalization.caffe() if name == "caffe" else Normalization.caffe_raw()
    if name == "imagenet":
        return Normalization.imagenet(in_channels)
    return Normalization.for_channels(mean, std, in_channels)


@dataclass(frozen=True)
class ListedModel:
    """A row of ``upscore models``.

    Parameters
    ----------
    name, backbone : str
        Arguments of :func:`create_model`.
    parameters : float
        In millions, with 21 classes.
    stride : int
        Pixels between the coarsest cells.
    field : float
        Pixels such a cell sees along one axis; infinite where it sees all.
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
        for backbone in backbones:
            with torch.device("meta"):
                model: Any = create_model(name, backbone=backbone, num_classes=21)
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            rows.append(ListedModel(name, backbone, parameters, model.stride, float(model.trunk.taps[32].geometry.field)))
    return rows
