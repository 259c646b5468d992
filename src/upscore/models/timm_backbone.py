"""Any timm classifier as a backbone: its feature maps, or a pyramid made of them, of stride 8, 16 and 32.

timm is imported when the first backbone is built, not before: it imports torchvision, and
together they take seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from upscore.errors import GeometryError, ModelError, nearest_name
from upscore.models.backbone import FeatureLevel, PaddingMode, measure_levels
from upscore.models.feature_pyramid import FeaturePyramid
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.models.timm_extractor import FORWARD_ERRORS, Extractor
from upscore.models.weights import name_mismatch
from upscore.ops.geometry import Geometry
from upscore.ops.receptive_field import locate_cells
from upscore.text import reason

__all__ = [
    "BackboneInfo",
    "TimmBackbone",
    "check_name",
    "current_name",
    "find_extractor",
    "fit_to_pyramid",
    "import_timm",
    "inspect_backbone",
    "pretrained",
]

PAPERS = ("alexnet", "googlenet", "vgg16")
"""Names that are not timm's, and that a user may have meant."""

MEASURED = (256, 1024, 4096)
"""Sides of the images on which cells are located, until one's surroundings fit."""


@functools.cache
def import_timm() -> ModuleType:
    """Import timm, also where torchvision's compiled operations do not fit the installed torch.

    torchvision registers rules for its operations ``nms`` and ``qnms`` while it is imported and
    fails where these do not exist, as with builds for another device. Nothing here uses them,
    so they are declared, without an implementation, and the import goes through.
    """
    found = importlib.util.find_spec("torchvision")
    for folder in (found.submodule_search_locations or []) if found else []:
        for library in sorted(Path(folder).glob("_C*")):
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm  # type: ignore[no-any-return]


class TimmBackbone(nn.Module):
    """A timm classifier without its head; channels and geometry of its levels are measured.

    Parameters
    ----------
    name : str
        timm's name of the architecture, with or without the tag of its weights; never a path
        or an address.
    in_channels : int
        Channels of the image.
    weights : {"imagenet"}, optional
        Load timm's trained weights, downloaded once.
    finer : bool
        Also return the maps of stride 2 and 4, where the network has them.

    Attributes
    ----------
    multiple : int
        Height and width of its images are multiples of this; 1 where any will do.

    Raises
    ------
    ModelError
        The name is unknown, the network has too few strides, its cells do not lie on a regular grid, or weights cannot be downloaded.

    Examples
    --------
    >>> backbone = TimmBackbone("resnet10t")
    >>> {stride: (level.channels, int(level.geometry.receptive_field)) for stride, level in backbone.levels.items()}
    {8: (128, 55), 16: (256, 103), 32: (512, 199)}
    """

    padding: PaddingMode = "external"

    def __init__(self, name: str, *, in_channels: int = 3, weights: Literal["imagenet"] | None = None, finer: bool = False) -> None:
        super().__init__()
        info = inspect_backbone(name, finer=finer)
        self.sources, self.multiple, self.mean, self.std = info.levels, info.multiple, info.mean, info.std
        self.extractor = info.extractor
        arguments = {**self.extractor.arguments, "in_chans": in_channels}
        self.features = pretrained(name, features_only=True, **arguments) if weights == "imagenet" else _build(name, **arguments)
        self.pyramid = FeaturePyramid(self.sources, info.strides) if info.strides != tuple(self.sources) else None
        self.levels = self.pyramid.levels if self.pyramid else dict(self.sources)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the maps by stride of normalised images (N, C, H, W)."""
        maps = dict(zip(self.sources, self.extractor.maps(self.features, x), strict=True))
        return self.pyramid(maps) if self.pyramid else maps


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a timm network without its weights."""

    extractor: Extractor  #: how its feature maps are extracted
    strides: tuple[int, ...]  #: 8, 16 and 32, and before them 2 and 4 where these were asked for and exist
    levels: dict[int, FeatureLevel]  #: the network's own, by stride; a feature pyramid makes those of ``strides`` where they differ
    multiple: int  #: of which the images' sides are multiples
    mean: tuple[float, ...]  #: with ``std``, RGB statistics in [0, 1] that its weights were trained with
    std: tuple[float, ...]


@functools.cache
def inspect_backbone(name: str, *, finer: bool = False) -> BackboneInfo:
    """Return what is known of a timm network, built on the meta device: nothing is allocated or downloaded.

    Errors are those of :class:`TimmBackbone`.
    """
    extractor = find_extractor(name, finer)
    network = _on_meta(name, finer)
    channels = network.feature_info.channels()
    try:
        try:
            levels, multiple = _measure(extractor, network)
        except IndexError:  # a table of positions is too short for them (MViTv2), which the meta device does not show
            with torch.device("meta"):
                levels, _ = _measure(extractor, _build(name, **extractor.arguments, img_size=MEASURED[-1]).eval())
            multiple = _training_side(name)
            extractor = replace(extractor, multiple=multiple, side=multiple)
    except GeometryError as error:
        raise ModelError(f"backbone '{name}' cannot be aligned with the image: {error}; choose another") from error
    except FORWARD_ERRORS as error:
        raise ModelError(f"backbone '{name}' does not take images of any size ({reason(error)}): choose another") from error
    for stride, expected, level in zip(extractor.sources, channels, levels, strict=True):
        if level.geometry.stride != stride:
            raise ModelError(f"backbone '{name}' has cells {level.geometry.stride} pixels apart, expected timm's {stride}: choose another")
        if level.channels != expected:
            raise ModelError(f"backbone '{name}' returns {level.channels} channels, expected timm's {expected}: choose another")
    settings = import_timm().get_pretrained_cfg(name)
    mean, std = (settings.mean, settings.std) if settings else (IMAGENET_MEAN, IMAGENET_STD)
    return BackboneInfo(extractor, extractor.strides, dict(zip(extractor.sources, levels, strict=True)), multiple, tuple(mean), tuple(std))


def _measure(extractor: Extractor, network: Any) -> tuple[list[FeatureLevel], int]:
    """Return a network's feature levels, and what its images' sides are multiples of.

    Where the cells are irregular, or see everything by attention, they are located without their receptive field, which is then infinite.
    """
    features = functools.partial(extractor.maps, network)
    if extractor.multiple <= extractor.sources[-1] and not _has_attention(network):
        multiple = extractor.sources[-1] if _pads_by_size(network) else extractor.multiple
        try:
            return measure_levels(features, multiple=multiple), multiple
        except (GeometryError, *FORWARD_ERRORS):
            pass
    multiple = max(extractor.multiple, max(extractor.sources[-1], 32))
    width, *lengths = [extractor.side] if extractor.side else [-(-side // multiple) * multiple for side in MEASURED]
    for length in (width, *lengths):
        try:
            grids = locate_cells(features, length=length, width=width)
            break
        except GeometryError:
            if length == (width, *lengths)[-1]:
                raise
    return [FeatureLevel(channels, grid) for channels, grid in zip(network.feature_info.channels(), grids, strict=True)], multiple


def _has_attention(network: nn.Module) -> bool:
    """Whether a layer is named after attention between positions: a quick check; what it misses is found in the longer measurement."""
    return any(
        re.search(r"^(Multi\w*|Window\w*|Global|Local|Eva|Linear\w*|XC\w*|Mask\w*)?Attention\w*$", type(m).__name__)
        for m in network.modules()
    )


def _pads_by_size(network: nn.Module) -> bool:
    """Whether a layer of stride 2 pads like TensorFlow's "SAME", which is the same for all images of multiples of the coarsest stride."""
    from timm.layers import Conv2dSame

    return any(isinstance(m, Conv2dSame) and max(m.stride) > 1 and max(m.kernel_size) > 1 for m in network.modules())


@functools.cache
def find_extractor(name: str, finer: bool) -> Extractor:
    """Return how a timm network's feature maps are extracted; ModelError where its name is unknown or it has none that will do."""
    check_name(name)
    return Extractor.find(functools.partial(_build, name), name, _training_side(name), finer=finer)


def _training_side(name: str) -> int:
    """Return the side of the images that a network was trained on."""
    settings = import_timm().get_pretrained_cfg(name)
    return settings.input_size[-1] if settings else 224


@functools.cache
def _on_meta(name: str, finer: bool) -> Any:
    """Return the feature extractor on the meta device."""
    with torch.device("meta"):
        return _build(name, **find_extractor(name, finer).arguments).eval()


def parameters_mismatch(name: str, found: Mapping[str, Tensor], *, in_channels: int, finer: bool) -> str:
    """Describe how tensors differ from those of a :class:`TimmBackbone` of timm's current ``name``; ``""`` if they do not.

    Nothing is measured: it takes a second, where measuring takes a minute. ModelError where the name is unknown or a stride is missing.
    """
    extractor = find_extractor(name, finer)
    with torch.device("meta"):
        network = _build(name, **extractor.arguments, in_chans=in_channels)
        expected = {f"features.{key}": tensor for key, tensor in network.state_dict().items()}
        if extractor.strides != extractor.sources:
            sources = {
                stride: FeatureLevel(channels, Geometry(Fraction(stride)))
                for stride, channels in zip(extractor.sources, network.feature_info.channels(), strict=True)
            }
            pyramid = FeaturePyramid(sources, extractor.strides)
            expected |= {f"pyramid.{key}": tensor for key, tensor in pyramid.state_dict().items()}
    return name_mismatch(expected, found)


def fit_to_pyramid(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a classifier's tensors as those of a backbone: patches resampled to its side, and its own pyramid where they have none.

    ``found`` has the backbone's names, ``own`` is its state. Patches are resampled as FlexiViT's are (Beyer et al. 2023): an image
    that is resized as they are gives the same embedding.
    """
    from timm.layers import resample_patch_embed

    pyramid = {} if any(key.startswith("pyramid.") for key in found) else {k: v for k, v in own.items() if k.startswith("pyramid.")}
    tensors = {**pyramid, **found}
    for key, kernel in found.items():
        wanted = own.get(key)
        if wanted is not None and key.endswith("patch_embed.proj.weight") and kernel.ndim == 4 and kernel.shape[2:] != wanted.shape[2:]:
            tensors[key] = resample_patch_embed(kernel.float(), list(wanted.shape[2:]))
    return tensors


def check_name(name: str) -> None:
    """Raise a ModelError for everything but timm's own names: paths and addresses would download foreign code or weights."""
    timm = import_timm()
    if not isinstance(name, str):
        raise ModelError(f"found backbone {name!r}, expected a name: {', '.join(PAPERS)} or one of timm's")
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        near = _nearest(architecture, [*PAPERS, *known])
        raise ModelError(f"unknown backbone '{name[:80]}'{near}: give {', '.join(PAPERS)} or one of timm's names")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(architecture)]
    if tag and tag not in tags:
        raise ModelError(f"backbone '{architecture}' has no weights tagged '{tag[:80]}', only {', '.join(tags) or 'none'}")


def current_name(name: str, *, report: Callable[[str], None]) -> str:
    """Return timm's current name of a backbone, checked: it has renamed many, and moved the origin of weights into a tag.

    ``report`` receives a sentence where ``name`` is an earlier one (``swsl_resnet18`` is ``resnet18.fb_swsl_ig1b_ft_in1k``).
    ModelError as :func:`check_name`.
    """
    timm = import_timm()
    from timm.models import get_deprecated_models

    architecture, _, tag = str(name).partition(".")
    current = get_deprecated_models().get(architecture)
    if current:
        architecture, _, origin = current.partition(".")
        tag = tag or (origin if f"{architecture}.{origin}" in timm.list_pretrained(architecture) else "")
        current = f"{architecture}.{tag}" if tag else architecture
        report(f"backbone '{name[:80]}' is now called '{current[:80]}' in timm, and here")
    check_name(current or name)
    return current or name


TORCHVISION_NAMES = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "vit_b_16": "vit_base_patch16_224",
    "swin_t": "swin_tiny_patch4_window7_224",
}
"""torchvision's names of networks that have another name in timm."""


def _nearest(wanted: str, known: list[str]) -> str:
    """Return a hint at the name that was probably meant: the same letters and digits, torchvision's name, or the nearest.

    A name that begins the same way (``efficientnet-b0x``) is preferred.
    """
    plain = re.sub(r"[^a-z0-9]", "", wanted.lower())
    same = [name for name in known if name.replace("_", "") == plain]
    torchvision = next((name for theirs, name in TORCHVISION_NAMES.items() if theirs.replace("_", "") == plain), "")
    if same or torchvision:
        return f" (did you mean '{(same or [torchvision])[0]}'?)"
    family = re.match(r"[a-z]*", plain)
    related = [name for name in known if family and len(family[0]) > 2 and name.startswith(family[0])]
    return nearest_name(wanted.lower(), related) or nearest_name(wanted.lower(), known)


def pretrained(name: str, **arguments: Any) -> Any:
    """Return a timm network with its ImageNet weights, from timm's cache or downloaded.

    ModelError where there are none, or the hub cannot be reached. It is tried once here, since timm tries again and again for a minute.
    """
    timm = import_timm()
    import huggingface_hub as hub

    settings = timm.get_pretrained_cfg(name)
    if settings is None or not settings.has_weights:
        raise ModelError(f"timm has no ImageNet weights for '{name}': give weights=<file>, or none to train from scratch")
    try:
        if settings.hf_hub_id and not isinstance(hub.try_to_load_from_cache(settings.hf_hub_id, "model.safetensors"), str):
            hub.get_session().head(hub.constants.ENDPOINT, timeout=10)
        return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the hub's client and its libraries have no error class in common
        raise ModelError(
            f"the ImageNet weights of '{name}' cannot be downloaded ({type(error).__name__}: {reason(error)}): "
            "give weights=<file>, or none to train from scratch"
        ) from error


def _build(name: str, **arguments: Any) -> Any:
    try:
        return import_timm().create_model(name, features_only=True, **arguments)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"backbone '{name}' returns no feature maps ({type(error).__name__}: {reason(error)}): choose another") from error
