"""The list of architectures: one record for each, and everything else is derived from it.

A new network is a file and a record here. Help, errors, ``upscore models`` and docs/models.md
are generated from the records.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from upscore.errors import ModelError, nearest_name
from upscore.models.deconvnet import DeconvNet
from upscore.models.fcn import FCN
from upscore.models.full_resolution import FullResolution
from upscore.models.late_fusion import LateFusion
from upscore.models.normalization import NormalizationName
from upscore.models.segnet import SegNet, SegNetBasic
from upscore.models.sliding_window import SlidingWindow
from upscore.models.unet import UNet
from upscore.models.unet_decoder import UNetDecoder

__all__ = ["ARCHITECTURES", "Architecture", "find_architecture", "settings_of"]

_PARTS = ("num_classes", "normalization", "in_channels", "finer")
"""Arguments of a builder that are not settings of it alone."""


def settings_of(builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Return the settings of what builds a network, decoder or backbone: its own keyword-only arguments, and their defaults.

    >>> settings_of(functools.partial(FCN, finest=8))
    {'upsampling': 'frozen', 'at_once': False}
    """
    fixed = builder.keywords if isinstance(builder, functools.partial) else {}
    parameters = inspect.signature(builder).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in (*_PARTS, *fixed)}


@dataclass(frozen=True)
class Architecture:
    """What is known of a network by its name."""

    name: str
    build: Callable[..., nn.Module]
    """Of a decoder on a backbone: ``(backbone, *, num_classes, **settings)`` to a :class:`~upscore.models.on_backbone.Decoder`. Of a
    network with its own encoder: ``(*, num_classes, normalization, in_channels, **settings)`` to the network."""
    description: str  #: one line
    paper: str  #: authors and year
    encoder: Literal["backbone", "vgg16", "own"] = "backbone"
    """A decoder is put on any "backbone"; otherwise the encoder is built in, and "vgg16" has VGG16's layers and takes its weights."""
    finer: bool = False  #: reads a backbone's feature levels of stride 2 and 4 too
    normalization: NormalizationName | None = None  #: of RGB images, where weights do not determine it; else ImageNet's or the backbone's

    @property
    def takes_backbone(self) -> bool:
        """Whether it is put on a backbone; otherwise it has its own encoder."""
        return self.encoder == "backbone"

    @property
    def takes_imagenet_weights(self) -> bool:
        """Whether it can begin with a classifier's weights."""
        return self.encoder != "own"

    @property
    def settings(self) -> dict[str, Any]:
        """Its own arguments, apart from a backbone's, and their defaults."""
        return settings_of(self.build)


_FCN32s = functools.partial(FCN, finest=32, upsampling="frozen", at_once=False)
_FCN8s = functools.partial(FCN, finest=8)
_LONG = "Long, Shelhamer, Darrell 2015"
_BADRINARAYANAN = "Badrinarayanan, Kendall, Cipolla 2017"
_RONNEBERGER = "Ronneberger, Fischer, Brox 2015"

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("fcn32s", _FCN32s, "scores of the deepest features, upsampled by 32 in one step", _LONG),
        Architecture("fcn16s", functools.partial(FCN, finest=16, at_once=False), "FCN-32s with the scores of stride 16 added", _LONG),
        Architecture("fcn8s", _FCN8s, "FCN-16s with the scores of stride 8 added", _LONG),
        Architecture("fcn8s-atonce", functools.partial(_FCN8s, at_once=True), "FCN-8s, scaled to be trained in one stage", _LONG),
        Architecture("fcn32s-late", LateFusion, "two FCN-32s on the first and the last bands, their scores added", _LONG, encoder="vgg16"),
        Architecture(
            "deconvnet", DeconvNet, "VGG16 with fc6 and fc7, and its mirror image of unpoolings", "Noh, Hong, Han 2015", encoder="vgg16"
        ),
        Architecture("segnet", SegNet, "VGG16's convolutions, and their mirror image of unpoolings", _BADRINARAYANAN, encoder="vgg16"),
        Architecture(
            "segnet-basic",
            SegNetBasic,
            "the small SegNet: four 7×7 convolutions and back",
            _BADRINARAYANAN,
            encoder="own",
            normalization="raw",
        ),
        Architecture("unet", UNet, "U-Net as published: valid convolutions, mirrored context", _RONNEBERGER, encoder="own"),
        Architecture("unet-backbone", UNetDecoder, "U-Net's expanding path on any backbone", _RONNEBERGER, finer=True),
        Architecture(
            "sliding-window",
            SlidingWindow,
            "a patch classifier at every pixel",
            "Cireşan, Giusti, Gambardella, Schmidhuber 2012",
            encoder="own",
        ),
        Architecture("full-resolution", FullResolution, "3×3 convolutions without down-sampling", "textbook", encoder="own"),
    )
}
"""By name, in the order in which they are listed."""


def find_architecture(name: str) -> Architecture:
    """Return the record of an architecture; ModelError where there is none of that name."""
    if name not in ARCHITECTURES:
        near = nearest_name(str(name), list(ARCHITECTURES))
        raise ModelError(f"unknown model '{str(name)[:80]}'{near}: expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
