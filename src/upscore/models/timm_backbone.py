"""Any timm classifier with feature maps of stride 8, 16 and 32 as a backbone.

timm is imported when the first backbone is built, not before: it imports torchvision, and
together they take seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from upscore.errors import GeometryError, ModelError, nearest_name
from upscore.models.backbone import FeatureLevel, PaddingMode, measure_levels
from upscore.models.normalization import IMAGENET_MEAN, IMAGENET_STD
from upscore.models.weights import name_mismatch
from upscore.text import reason

__all__ = ["STRIDES", "BackboneInfo", "TimmBackbone", "check_name", "current_name", "import_timm", "inspect_backbone", "pretrained"]

STRIDES = (8, 16, 32)
"""Every backbone has these; finer ones only where a decoder reads them."""

FINER = (2, 4)

PAPERS = ("alexnet", "googlenet", "vgg16")
"""Names that are not timm's, and that a user may have meant."""


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

    Raises
    ------
    ModelError
        The name is unknown, the network lacks a stride, its cells do not lie on a regular grid
        (padding that depends on the image's size, windows), or weights cannot be downloaded.

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
        self.levels = dict(zip(info.strides, info.levels, strict=True))
        self.mean, self.std = info.mean, info.std
        arguments = {"out_indices": info.indices, "in_chans": in_channels}
        self.features = pretrained(name, features_only=True, **arguments) if weights == "imagenet" else _build(name, **arguments)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the maps by stride of normalised images (N, C, H, W)."""
        return dict(zip(self.levels, self.features(x), strict=True))


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a timm network without its weights."""

    strides: tuple[int, ...]  #: 8, 16 and 32, and before them 2 and 4 where these were asked for and exist
    indices: tuple[int, ...]  #: of timm's feature maps with these strides
    levels: tuple[FeatureLevel, ...]  #: their channels and measured geometry
    mean: tuple[float, ...]  #: with ``std``, RGB statistics in [0, 1] that its weights were trained with
    std: tuple[float, ...]


@functools.cache
def inspect_backbone(name: str, *, finer: bool = False) -> BackboneInfo:
    """Return what is known of a timm network, built on the meta device: nothing is allocated or downloaded.

    Errors are those of :class:`TimmBackbone`.
    """
    strides, indices, chosen = _on_meta(name, finer)
    if _pads_by_size(chosen):
        raise ModelError(f"backbone '{name}' cannot be aligned with the image: its padding depends on the size; choose another")
    try:
        levels = tuple(measure_levels(chosen))
    except GeometryError as error:
        raise ModelError(f"backbone '{name}' cannot be aligned with the image: {error}; choose another") from error
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"backbone '{name}' does not take images of any size ({reason(error)}): choose another") from error
    for stride, channels, level in zip(strides, chosen.feature_info.channels(), levels, strict=True):
        if level.geometry.stride != stride:
            raise ModelError(f"backbone '{name}' has cells {level.geometry.stride} pixels apart, expected timm's {stride}: choose another")
        if level.channels != channels:
            raise ModelError(f"backbone '{name}' does not return its feature maps as (N, C, H, W): choose another")
    settings = import_timm().get_pretrained_cfg(name)
    mean, std = (settings.mean, settings.std) if settings else (IMAGENET_MEAN, IMAGENET_STD)
    return BackboneInfo(strides, indices, levels, tuple(mean), tuple(std))


def _pads_by_size(network: nn.Module) -> bool:
    """Whether a layer of stride 2 pads like TensorFlow's "SAME": a quick check, where measuring the largest networks takes minutes."""
    from timm.layers import Conv2dSame

    return any(isinstance(m, Conv2dSame) and max(m.stride) > 1 and max(m.kernel_size) > 1 for m in network.modules())


@functools.cache
def _on_meta(name: str, finer: bool) -> tuple[tuple[int, ...], tuple[int, ...], Any]:
    """Return the strides that are read, timm's indices of their maps, and the feature extractor on the meta device."""
    check_name(name)
    with torch.device("meta"):
        full = _build(name)
        found = list(full.feature_info.reduction())
        missing = [stride for stride in STRIDES if stride not in found]
        if missing:
            raise ModelError(f"backbone '{name}' has feature maps of stride {found}, not of {missing[0]}: choose one with 8, 16 and 32")
        strides = (*(stride for stride in FINER if finer and stride in found), *STRIDES)
        positions = [len(found) - 1 - found[::-1].index(stride) for stride in strides]  # the deepest map of each stride
        indices = tuple(full.feature_info.out_indices[position] for position in positions)
        chosen = _build(name, out_indices=indices).eval()
    return strides, indices, chosen


def parameters_mismatch(name: str, found: Mapping[str, Tensor], *, in_channels: int, finer: bool) -> str:
    """Describe how tensors differ from those of a :class:`TimmBackbone` of timm's current ``name``; ``""`` if they do not.

    Nothing is measured: it takes a second, where measuring takes a minute. ModelError where the name is unknown or a stride is missing.
    """
    _, indices, _ = _on_meta(name, finer)
    with torch.device("meta"):
        expected = _build(name, out_indices=indices, in_chans=in_channels).state_dict()
    return name_mismatch({f"features.{key}": tensor for key, tensor in expected.items()}, found)


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
    import_timm()
    from timm.models import get_deprecated_models

    current = get_deprecated_models().get(name) if isinstance(name, str) else None
    if current:
        report(f"backbone '{name}' is now called '{current}' in timm, and here")
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
