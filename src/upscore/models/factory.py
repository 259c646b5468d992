"""Networks by name: a plain dict of architectures, and one function that puts the parts together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from upscore.errors import ModelError, nearest_name
from upscore.models.backbone_unet import BackboneUNet
from upscore.models.backbones import OWN_BACKBONES, build_backbone, current_name, parameters_mismatch
from upscore.models.deconvnet import DeconvNet
from upscore.models.fcn import FCN8s, FCN16s, FCN32s
from upscore.models.full_resolution import FullResolution
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization
from upscore.models.segnet import SegNet, SegNetBasic
from upscore.models.sliding_window import SlidingWindow
from upscore.models.timm_backbone import pretrained
from upscore.models.transplant import holds_whole_network, normalization_of, transplant, transplant_encoder
from upscore.models.unet import UNet
from upscore.models.weights import Report, read_weights, silent, warn

__all__ = [
    "ARCHITECTURES",
    "ListedModel",
    "backbone_mismatch",
    "create_model",
    "list_models",
    "score_layers",
    "takes_backbone",
    "takes_imagenet_weights",
]

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
    "sliding-window": SlidingWindow,
    "full-resolution": FullResolution,
}
"""Name to what builds it: from ``(backbone, *, num_classes, normalization, **arguments)``, or, where the network
is whole by itself, from ``(*, num_classes, normalization, in_channels, **arguments)``."""

NORMALIZATIONS = ("imagenet", "caffe", "raw")


def takes_backbone(name: str) -> bool:
    """Say whether an architecture is put on a backbone, or is whole by itself.

    Raises
    ------
    ModelError
        There is no such architecture.
    """
    return "backbone" in inspect.signature(_builder(name)).parameters


def takes_imagenet_weights(name: str) -> bool:
    """Say whether an architecture can begin with a classifier's weights; ModelError where there is no such architecture."""
    return takes_backbone(name) or name in _ON_VGG16


def create_model(
    name: str,
    *,
    backbone: str | None = None,
    num_classes: int,
    in_channels: int = 3,
    weights: str | Path | None = None,
    normalization: str | None = None,
    report: Report = warn,
    **arguments: Any,
) -> nn.Module:
    """Build a segmentation network.

    Parameters
    ----------
    name : str
        A key of :data:`ARCHITECTURES`.
    backbone : str, optional
        "alexnet", "googlenet", "vgg16", the default, or one of timm's names; none for DeconvNet, SegNet
        and the others that are whole by themselves.
    num_classes : int
        K.
    in_channels : int
        C of the images; 3 is RGB. A network of 1 also takes RGB, and reads its luminance.
    weights : None, "imagenet" or path
        Of the backbone; see :func:`upscore.models.backbones.build_backbone`. Of a network that is whole by
        itself, or of an FCN on one of the papers' backbones, a file may also hold everything; otherwise
        SegNet and DeconvNet take VGG16's layers from it. Score layers of an FCN start at zero where
        the file has none.
    normalization : {"imagenet", "caffe", "raw"}, optional
        What the weights expect. By default what their names tell
        (:func:`upscore.models.transplant.normalization_of`), or else the backbone's own
        statistics; "caffe" for weights converted from the papers' Caffe models, "raw" for SegNet's.
    report : callable
        Told, a sentence at a time, what was done to make a weights file or a name fit: words
        before all names taken off, a first convolution adapted to other channels, a backbone
        that timm has renamed. By default a Python warning,
        :class:`~upscore.errors.UpscoreWarning`.
    **arguments
        Of the architecture (``upsampling``, ``width``) or of one of the papers' backbones
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
    architecture = _builder(name)
    if weights == "imagenet" and normalization not in (None, "imagenet"):
        raise ModelError(
            f"found ImageNet weights with normalization '{normalization}', which they were not trained with: "
            "leave normalization out, or give a weights file that goes with it"
        )
    _check_channels(in_channels)
    if not takes_backbone(name):
        if backbone is not None:
            instead = ": 'unet-backbone' takes one" if name == "unet" else ""
            raise ModelError(f"found backbone '{str(backbone)[:80]}' for '{name}', which is whole by itself: leave it out{instead}")
        _refuse_unknown(arguments, _accepted(architecture), f"'{name}'")
        if normalization is None:
            normalization = _of_weights(weights, in_channels) or (_OWN_NORMALIZATION.get(name) if in_channels == 3 else None)
        expected = _normalization(normalization, IMAGENET_MEAN, IMAGENET_STD, in_channels)
        model = architecture(num_classes=num_classes, in_channels=in_channels, normalization=expected, **arguments)
        if weights is not None:
            _fill(model, name, weights, narrow=arguments.get("width", 1) != 1, report=report)
        return model
    backbone = "vgg16" if backbone is None else backbone
    if backbone not in OWN_BACKBONES:
        backbone = current_name(backbone, report=report)
    for_architecture = _accepted(architecture)
    for_backbone = _accepted(OWN_BACKBONES[backbone]) if backbone in OWN_BACKBONES else ()
    _refuse_unknown(arguments, (*for_architecture, *for_backbone), f"'{name}' with backbone '{backbone}'")
    whole = weights is not None and weights != "imagenet" and backbone in OWN_BACKBONES and holds_whole_network(weights)
    if normalization is None and backbone in OWN_BACKBONES:
        normalization = _of_weights(weights, in_channels)
    of_backbone = {k: v for k, v in arguments.items() if k in for_backbone}
    finer = getattr(architecture, "reads_finer_maps", False)
    of_file = None if whole else weights
    encoder = build_backbone(backbone, in_channels=in_channels, weights=of_file, finer=finer, report=report, **of_backbone)
    model = architecture(
        encoder,
        num_classes=num_classes,
        normalization=_normalization(normalization, encoder.mean, encoder.std, in_channels),
        **{k: v for k, v in arguments.items() if k in for_architecture},
    )
    if whole:
        transplant(model, str(weights), backbone=backbone, report=report)
    return model


def _check_channels(in_channels: Any) -> None:
    if type(in_channels) is not int or not 1 <= in_channels <= 64:
        raise ModelError(f"found {in_channels} input channels, expected a whole number from 1 to 64")


def _of_weights(weights: str | Path | None, in_channels: int) -> str | None:
    """Return the normalization that a file's names tell; that of Caffe's BGR from 0 to 255 has no meaning for other channels."""
    found = normalization_of(weights)
    if in_channels == 3 or found is None:
        return found
    if found != "imagenet":
        raise ModelError(
            f"the weights '{weights}' expect images as Caffe's networks do ('{found}', three channels from 0 to 255), found in_channels "
            f"{in_channels}: give weights trained on images from 0 to 1, or none"
        )
    return None


def backbone_mismatch(name: str, arguments: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Say in words how a network's tensors differ from those of its backbone, before the backbone is measured; ``""`` if they do not.

    Parameters
    ----------
    name : str
        An architecture.
    arguments : mapping
        Of :func:`create_model`.
    found : mapping of str to Tensor
        Names and shapes of all tensors of the network.

    Raises
    ------
    ModelError
        The architecture or the backbone is unknown.
    """
    backbone = arguments.get("backbone")
    if not takes_backbone(name) or backbone is None or backbone in OWN_BACKBONES:
        return ""  # these are not measured
    _check_channels(arguments.get("in_channels", 3))
    inside = {key.removeprefix("backbone."): tensor for key, tensor in found.items() if key.startswith("backbone.")}
    return parameters_mismatch(
        current_name(backbone, report=silent),
        inside,
        in_channels=arguments.get("in_channels", 3),
        finer=getattr(_builder(name), "reads_finer_maps", False),
    )


def score_layers(name: str, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the tensors whose shape depends on the number of classes: the score layers, and learned upsampling of scores.

    Parameters
    ----------
    name : str
        An architecture.
    arguments : mapping
        Of :func:`create_model`.
    """
    with torch.device("meta"):
        one, two = (create_model(name, **{**arguments, "num_classes": count}, report=silent).state_dict() for count in (2, 3))
    return frozenset(key for key in one if one[key].shape != two[key].shape)


_OWN_NORMALIZATION = {"segnet-basic": "raw"}
"""Of networks that were made for other numbers than ImageNet's classifiers."""


_ON_VGG16 = ("deconvnet", "segnet")
"""Networks whose encoder is VGG16's."""


def _fill(model: nn.Module, name: str, weights: str | Path, *, narrow: bool, report: Report) -> None:
    """Give a network that is whole by itself the weights of a file, or VGG16's where its encoder is that."""
    if weights == "imagenet":
        if name not in _ON_VGG16:
            raise ModelError(f"there are no ImageNet weights for '{name}': leave weights out, or give a file of the whole network")
        if narrow:
            raise ModelError(f"there are no ImageNet weights for '{name}' of another width: leave width at 1, or train from scratch")
        transplant_encoder(model, pretrained("vgg16").state_dict(), source=weights)
    elif name in _ON_VGG16 and not holds_whole_network(weights):
        transplant_encoder(model, read_weights(weights, report=report), source=weights, report=report)
    else:
        transplant(model, weights, report=report)


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
        Its backbone; "" where it has its own encoder.
    parameters : float
        In millions, with 21 classes.
    stride : int
        Pixels between the coarsest cells.
    receptive_field : float
        Pixels such a cell sees along one axis, or a score where the network has its own encoder;
        infinite where it sees all.
    """

    name: str
    backbone: str
    parameters: float
    stride: int
    receptive_field: float


def list_models(
    backbones: tuple[str, ...] = ("alexnet", "googlenet", "vgg16", "mobilenetv2_100", "resnet18", "resnet50", "convnext_tiny"),
) -> list[ListedModel]:
    """Return every architecture on some backbones, measured on the meta device: nothing is allocated."""
    rows = []
    for name in ARCHITECTURES:
        for backbone in backbones if takes_backbone(name) else (None,):
            with torch.device("meta"):
                model: Any = create_model(name, backbone=backbone, num_classes=21)
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            grid = model.backbone.levels[32].geometry if backbone else model.geometry
            rows.append(ListedModel(name, backbone or "", parameters, model.stride, float(grid.receptive_field)))
    return rows
