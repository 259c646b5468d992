"""Backbones by name, with or without trained weights.

``alexnet``, ``googlenet`` and ``vgg16`` are the papers' own; every other name is timm's. A
weights file may use our names, or those of the tables in :mod:`upscore.models.weights.key_maps`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from upscore.errors import ModelError
from upscore.models.alexnet import AlexNet
from upscore.models.googlenet import GoogLeNet
from upscore.models.timm_backbone import TimmBackbone, current_name, fit_to_pyramid, import_timm, parameters_mismatch, pretrained
from upscore.models.vgg16 import VGG16
from upscore.models.weights import Report, load_fitting, read_weights, silent
from upscore.models.weights.key_maps import rename, rename_to_timm
from upscore.models.weights.load import ExtraBands

__all__ = ["OWN_BACKBONES", "OwnBackbone", "build_backbone", "current_name", "import_timm", "parameters_mismatch"]


@dataclass(frozen=True)
class OwnBackbone:
    """One of the papers' classifiers."""

    name: str
    build: Callable[..., nn.Module]  #: its keyword-only arguments, but ``in_channels`` and ``finer``, are settings of a network
    imagenet: str = ""  #: timm's network whose ImageNet weights fit, with ``_bn`` appended for batch normalisation; "" for none


OWN_BACKBONES = {
    backbone.name: backbone
    for backbone in (OwnBackbone("alexnet", AlexNet), OwnBackbone("googlenet", GoogLeNet), OwnBackbone("vgg16", VGG16, imagenet="vgg16"))
}


def build_backbone(
    name: str,
    *,
    in_channels: int = 3,
    weights: str | Path | None = None,
    finer: bool = False,
    report: Report = silent,
    extra_bands: ExtraBands = "repeat",
    **arguments: Any,
) -> Any:
    """Build a :class:`upscore.models.backbone.Backbone`.

    Parameters
    ----------
    name : str
        A key of :data:`OWN_BACKBONES`, or the name of a timm network with feature maps of stride
        8, 16 and 32, or of stride 8 or 16 to make these of.
    in_channels : int
        Channels of the image.
    weights : None, "imagenet" or path
        None initialises them; "imagenet" downloads timm's; a path reads a ``.pth``, ``.caffemodel``, ``.mat``,
        ``.safetensors`` or ``.npz`` file under our, torchvision's, Caffe's or timm's names, without its
        classifier.
    finer : bool
        Also return the maps of stride 2 and 4, where there are any.
    report : callable
        Receives a sentence for each change that made a file's weights fit.
    extra_bands : {"repeat", "mean"}
        The first convolution of weights for RGB, for images of other bands (:data:`upscore.models.weights.load.ExtraBands`).
    **arguments
        Those of the papers' backbones (``width``, ``dropout`` and so on); timm's networks take none.

    Raises
    ------
    ModelError
        The name is unknown, or the weights cannot be downloaded or do not fit.

    Examples
    --------
    >>> sorted(build_backbone("vgg16", width=1 / 32).levels), sorted(build_backbone("vgg16", width=1 / 32, finer=True).levels)
    ([8, 16, 32], [2, 4, 8, 16, 32])
    """
    if name in OWN_BACKBONES:
        return _build_own(OWN_BACKBONES[name], in_channels, weights, finer, arguments, report, extra_bands)
    if arguments:
        raise ModelError(f"backbone '{name}' takes no argument '{next(iter(arguments))}': only {', '.join(OWN_BACKBONES)} have any")
    if weights == "imagenet":
        return TimmBackbone(name, in_channels=in_channels, weights="imagenet", finer=finer)
    backbone = TimmBackbone(name, in_channels=in_channels, finer=finer)
    if weights is not None:
        with torch.device("meta"):
            classifier = import_timm().create_model(name).state_dict()
        own, mobilenet = backbone.state_dict(), name.partition(".")[0] == "mobilenetv2_100"
        load_fitting(
            backbone,
            read_weights(weights, report=report),
            source=weights,
            report=report,
            extra_bands=extra_bands,
            rename=lambda found: fit_to_pyramid(rename_to_timm(found, own, classifier, torchvision_mobilenet=mobilenet), own),
        )
    return backbone


def _build_own(
    own: OwnBackbone,
    in_channels: int,
    weights: str | Path | None,
    finer: bool,
    arguments: Mapping[str, Any],
    report: Report,
    extra_bands: ExtraBands,
) -> nn.Module:
    has_finer = finer and "finer" in inspect.signature(own.build).parameters
    backbone = own.build(in_channels=in_channels, **arguments, **({"finer": True} if has_finer else {}))
    if weights is None:
        return backbone
    if weights == "imagenet":
        if not own.imagenet:
            raise ModelError(f"there are no ImageNet weights to download for '{own.name}': give weights=<file>, or train from scratch")
        if arguments.get("width", 1) != 1:
            raise ModelError(
                f"there are no ImageNet weights for '{own.name}' of width {arguments['width']}: leave width at 1, or train from scratch"
            )
        found = pretrained(own.imagenet + "_bn" * bool(arguments.get("batch_norm")), in_chans=in_channels).state_dict()
    else:
        found = read_weights(weights, report=report)
    state = backbone.state_dict()
    fit = functools.partial(rename, own=state, backbone=own.name)
    load_fitting(backbone, found, source=weights, report=report, rename=fit, extra_bands=extra_bands)
    return backbone
