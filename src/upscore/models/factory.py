"""Networks by name: an architecture's record, a backbone and weights are put together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from upscore.errors import ModelError, nearest_name
from upscore.input_spec import InputSpec
from upscore.models.architectures import ARCHITECTURES, Architecture, find_architecture, settings_of
from upscore.models.arguments import check_in_channels
from upscore.models.backbones import OWN_BACKBONES, build_backbone, current_name, parameters_mismatch
from upscore.models.late_fusion import LateFusion
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization
from upscore.models.on_backbone import OnBackbone
from upscore.models.own_parts import check_backbone, own_architecture
from upscore.models.timm_backbone import pretrained
from upscore.models.two_heads import TwoHeads, second_labels
from upscore.models.weights import Report, read_weights, silent, warn
from upscore.models.weights.load import ExtraBands
from upscore.models.weights.transplant import holds_whole_network, normalization_of, transplant, transplant_encoder

__all__ = ["LISTED_BACKBONES", "ListedModel", "backbone_mismatch", "create_model", "list_models", "score_layers"]


def create_model(
    name: str | Callable[[Any, int], Any],
    *,
    backbone: str | nn.Module | None = None,
    num_classes: int,
    in_channels: int | None = None,
    input: InputSpec | None = None,
    weights: str | Path | None = None,
    normalization: str | None = None,
    second_head: str = "",
    report: Report = warn,
    **arguments: Any,
) -> nn.Module:
    """Build a segmentation network: (N, C, H, W), of RGB in [0, 1], to logits (N, K, H, W); in train mode.

    Parameters
    ----------
    name : str or callable
        A key of :data:`upscore.models.architectures.ARCHITECTURES`; or a decoder of your own, a function or class of a backbone and a
        number of classes that gives a :class:`upscore.models.on_backbone.Decoder`.
    backbone : str or nn.Module, optional
        "alexnet", "googlenet", "vgg16", the default, or one of timm's names; none for DeconvNet, SegNet
        and the others that have their own encoder. Or one of your own, a :class:`upscore.models.backbone.Backbone` with its weights.
    num_classes, in_channels : int
        K, and C of the images: the bands of ``input``, or 3, when not given. A network of 1 also takes RGB and uses its luminance.
    input : InputSpec, optional
        The images: their statistics, where they are known, make up the first layer in place of the weights' own.
    weights : None, "imagenet" or path
        Of the backbone; see :func:`upscore.models.backbones.build_backbone`. For a network with its own
        encoder, or an FCN on one of the papers' backbones, a file may also hold everything; otherwise
        SegNet and DeconvNet read VGG16's layers from it. Score layers of an FCN start at zero where
        the file has none.
    normalization : {"imagenet", "caffe", "raw"}, optional
        What the weights expect. By default what their names show
        (:func:`upscore.models.weights.transplant.normalization_of`), or else the backbone's own
        statistics; "caffe" for weights converted from the papers' Caffe models, "raw" for SegNet's.
    second_head : str
        Names of the classes of a second head on the same backbone, separated by commas, for a decoder on a backbone that upsamples each
        class by itself (:class:`upscore.models.two_heads.TwoHeads`); none when empty.
    report : callable
        Receives a sentence for each change that made a weights file or a name fit: a prefix removed
        from all names, a first convolution adapted to other channels, a backbone that timm has
        renamed. By default a Python warning, :class:`~upscore.errors.UpscoreWarning`.
    **arguments
        Settings of the architecture (``upsampling``, ``width``) or of one of the papers' backbones
        (``width``, ``dropout``, ``padding``, ``batch_norm`` for VGG16, ``variant`` for the others).

    Raises
    ------
    ModelError
        A name, argument or weights file is unknown or does not fit.

    Examples
    --------
    >>> model = create_model("fcn8s", backbone="vgg16", num_classes=21, width=1 / 32)
    >>> tuple(model(torch.rand(1, 3, 50, 40)).shape)
    (1, 21, 50, 40)
    """
    architecture = find_architecture(name) if isinstance(name, str) else own_architecture(name)
    in_channels = check_in_channels((len(input) if input else 3) if in_channels is None else in_channels)
    name = architecture.name
    if backbone is not None and not isinstance(backbone, str):
        if weights is not None:
            raise ModelError(f"found weights for the backbone {type(backbone).__name__}, which is given with its own: leave weights out")
        check_backbone(backbone, in_channels=in_channels)
    if weights == "imagenet" and normalization not in (None, "imagenet"):
        raise ModelError(
            f"found ImageNet weights with normalization '{normalization}', which they were not trained with: "
            "leave normalization out, or give a weights file that goes with it"
        )
    measured = input if input is not None and input.mean else None
    if measured is not None and len(measured) != in_channels:
        raise ModelError(f"found in_channels {in_channels}, expected {len(measured)} for images of {measured}: leave in_channels out")
    second = len(second_labels(second_head)) if second_head else 0
    if second and (not architecture.takes_backbone or arguments.get("upsampling") == "full"):
        why = "upsampling 'full', which mixes the classes of both" if architecture.takes_backbone else f"'{name}', which takes no backbone"
        raise ModelError(f"found a second head for {why}, expected a decoder on a backbone that upsamples each class by itself")
    if not architecture.takes_backbone:
        if backbone is not None:
            advice = ": 'unet-backbone' takes one" if name == "unet" else ""
            called = backbone if isinstance(backbone, str) else type(backbone).__name__
            raise ModelError(f"found backbone '{called[:80]}' for '{name}', which has its own encoder: leave it out{advice}")
        _refuse_unknown(arguments, architecture.settings, f"'{name}'")
        if normalization is None:
            normalization = _normalization_of(weights, in_channels, measured)
            if normalization is None and measured is None and in_channels == 3:
                normalization = architecture.normalization
        layer0 = _normalization(normalization, IMAGENET_MEAN, IMAGENET_STD, in_channels, input)
        model = architecture.build(num_classes=num_classes, in_channels=in_channels, normalization=layer0, **arguments)
        if weights is not None:
            _fill(model, architecture, weights, width=arguments.get("width", 1), report=report)
        return model
    put_on = functools.partial(TwoHeads, second=second) if second else OnBackbone
    if isinstance(backbone, nn.Module):
        _refuse_unknown(arguments, architecture.settings, f"'{name}' with backbone {type(backbone).__name__}")
        on_own: Any = architecture.build(backbone, num_classes=num_classes + second, **arguments)
        statistics: Any = backbone
        return put_on(statistics, on_own, _normalization(normalization, statistics.mean, statistics.std, in_channels, input))
    backbone = "vgg16" if backbone is None else backbone
    own = OWN_BACKBONES.get(backbone)
    if own is None:
        backbone = current_name(backbone, report=report)
    for_decoder, for_backbone = architecture.settings, settings_of(own.build) if own else {}
    _refuse_unknown(arguments, (*for_decoder, *for_backbone), f"'{name}' with backbone '{backbone}'")
    whole = own is not None and weights is not None and weights != "imagenet" and holds_whole_network(weights)
    if normalization is None and own:
        normalization = _normalization_of(weights, in_channels, measured)
    of_backbone = {k: v for k, v in arguments.items() if k in for_backbone} | {"weights": None if whole else weights}
    extra_bands: ExtraBands = "mean" if normalization == "caffe" else "repeat"  # as those who made the weights
    features = build_backbone(
        backbone, in_channels=in_channels, finer=architecture.finer, report=report, extra_bands=extra_bands, **of_backbone
    )
    decoder: Any = architecture.build(
        features, num_classes=num_classes + second, **{k: v for k, v in arguments.items() if k in for_decoder}
    )
    model = put_on(features, decoder, _normalization(normalization, features.mean, features.std, in_channels, input))
    if whole:
        transplant(model, str(weights), backbone=backbone, report=report)
    if weights == "imagenet" and in_channels != 3:
        report(f"ImageNet's weights are for RGB: those of the first convolution are adapted to {in_channels} bands, as timm does")
    return model


def _normalization_of(weights: str | Path | None, in_channels: int, measured: InputSpec | None) -> str | None:
    """Return the normalization that a file's names show; of other images than RGB of 8 bits, Caffe's takes the bands' own means."""
    found = normalization_of(weights)
    if (in_channels == 3 and measured is None) or found is None or (found == "caffe" and measured is not None):
        return found
    if found != "imagenet":
        given = f"in_channels {in_channels}" if measured is None else str(measured)
        raise ModelError(
            f"the weights '{weights}' expect images as Caffe's networks do ('{found}', three channels from 0 to 255), found "
            f"{given}: give weights trained on images from 0 to 1, or none"
        )
    return None


def _normalization(
    name: str | None, mean: tuple[float, ...], std: tuple[float, ...], in_channels: int, images: InputSpec | None
) -> Normalization:
    if images is not None and images.mean:
        if name == "caffe":
            return Normalization.caffe_of(images)
        if name not in (None, "imagenet"):
            raise ModelError(
                f"found normalization '{name}' for images of {images}, which are normalised by their own statistics: leave it out"
            )
        return Normalization(images.mean, images.std, has_gaps=images.dtype == "float32")
    return Normalization.for_channels(mean, std, in_channels) if name is None else Normalization.named(name, in_channels)


def _fill(model: nn.Module, architecture: Architecture, weights: str | Path, *, width: float, report: Report) -> None:
    """Fill a network with its own encoder from a file, or that encoder, or both of them, from VGG16's weights where it has its layers."""
    on_vgg16 = architecture.encoder == "vgg16"
    parts = model.streams if isinstance(model, LateFusion) else (model,)
    if weights == "imagenet":
        if not on_vgg16:
            raise ModelError(
                f"there are no ImageNet weights for '{architecture.name}': leave weights out, or give a file of the whole network"
            )
        if width != 1:
            raise ModelError(
                f"there are no ImageNet weights for '{architecture.name}' of another width: leave width at 1, or train from scratch"
            )
        found = pretrained("vgg16").state_dict()
        for part in parts:
            transplant_encoder(part, found, source=weights)
    elif on_vgg16 and not holds_whole_network(weights):
        found = read_weights(weights, report=report)
        for part in parts:
            transplant_encoder(part, found, source=weights, report=report)
    else:
        transplant(model, weights, report=report)


def _refuse_unknown(arguments: Mapping[str, Any], accepted: Collection[str], owner: str) -> None:
    for argument in arguments:
        if argument not in accepted:
            near = nearest_name(argument, tuple(accepted))
            raise ModelError(f"{owner} takes no argument '{argument[:80]}'{near}: expected {', '.join(accepted) or 'none'}")


def backbone_mismatch(name: str, arguments: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Describe how tensors of a network differ from those of its backbone, before the backbone is measured.

    ``arguments`` are those of :func:`create_model`, ``found`` all tensors of the network by name. ``""`` if they do not differ,
    or the backbone is not one that has to be measured; ModelError where architecture or backbone is unknown.
    """
    architecture, backbone = find_architecture(name), arguments.get("backbone")
    if not architecture.takes_backbone or backbone is None or backbone in OWN_BACKBONES:
        return ""
    in_channels = check_in_channels(arguments.get("in_channels", 3))
    inside = {key.removeprefix("backbone."): tensor for key, tensor in found.items() if key.startswith("backbone.")}
    return parameters_mismatch(current_name(backbone, report=silent), inside, in_channels=in_channels, finer=architecture.finer)


def score_layers(name: str, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the tensors whose shape depends on the number of classes: score layers, and learned upsampling of scores.

    ``arguments`` are those of :func:`create_model`.

    >>> sorted(score_layers("segnet", {"width": 1 / 16}))
    ['conv1_1_D.bias', 'conv1_1_D.weight']
    """
    with torch.device("meta"):
        two, three = (create_model(name, **{**arguments, "num_classes": count}, report=silent).state_dict() for count in (2, 3))
    return frozenset(key for key in two if two[key].shape != three[key].shape)


@dataclass(frozen=True)
class ListedModel:
    """A row of ``upscore models``."""

    architecture: Architecture
    backbone: str  #: "" where it has its own encoder
    parameters: float  #: in millions, with 21 classes
    stride: int  #: pixels between the coarsest cells
    finest: int  #: pixels between the scores before they are upsampled; 1 where there is one for each pixel
    receptive_field: float  #: of such a cell, or of a score where the encoder is its own, in pixels along one axis; may be infinite

    @property
    def name(self) -> str:
        """Of the architecture."""
        return self.architecture.name

    @property
    def field(self) -> str:
        """The receptive field in words: pixels, or the whole image."""
        return "the whole image" if self.receptive_field == math.inf else f"{self.receptive_field:g}"


LISTED_BACKBONES = {
    "alexnet": "five convolutions; the first of the papers' backbones",
    "googlenet": "inception modules; the smallest of the papers' backbones",
    "vgg16": "thirteen convolutions and the papers' fc6 and fc7",
    "mobilenetv2_100": "depthwise convolutions; small and fast",
    "resnet18": "residual blocks; the smallest ResNet in wide use",
    "resnet50": "residual blocks with bottlenecks",
    "convnext_tiny": "a convolutional network of 2022, with kernels of 7×7",
    "pvt_v2_b0": "attention in every stage, and feature maps as a convolutional network has them; small",
    "flexivit_small": "a plain transformer, of stride 16 alone; feature maps of other strides are made of its last by a feature pyramid",
}
"""What the backbones that ``upscore models`` shows are."""


def list_models(backbones: tuple[str, ...] = tuple(LISTED_BACKBONES)) -> list[ListedModel]:
    """Return every architecture on each of ``backbones``, measured on the meta device: nothing is allocated.

    >>> [(row.name, row.backbone, row.stride) for row in list_models(("vgg16",))][2:5]
    [('fcn8s', 'vgg16', 32), ('fcn8s-atonce', 'vgg16', 32), ('fcn32s-late', '', 32)]
    """
    rows = []
    for name, architecture in ARCHITECTURES.items():
        for backbone in backbones if architecture.takes_backbone else (None,):
            with torch.device("meta"):
                model: Any = create_model(name, backbone=backbone, num_classes=21)
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            grid = model.backbone.levels[model.stride].geometry if backbone else model.geometry
            scored = backbone and isinstance(model.decoder.head, nn.Identity)  # else by layers at the image's size
            finest = int(model.decoder.geometry.stride) if scored else 1
            rows.append(ListedModel(architecture, backbone or "", parameters, model.stride, finest, float(grid.receptive_field)))
    return rows
