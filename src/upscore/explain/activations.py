"""What the layers of a network make of an image, from coarse to fine.

Hyeonwoo Noh, Seunghoon Hong, Bohyung Han, "Learning Deconvolution Network for Semantic
Segmentation", ICCV 2015 (arXiv 1505.04366), figure 4: for one image, a map of each
unpooling and deconvolution layer of DeconvNet. The authors chose the maps by hand. Here the
channels of a layer are ranked by how much more active they are where the object lies than
elsewhere. Where it lies in a map nobody has to say: there the layer changes when the object is
painted over in the image's mean colour (after the occlusion of Zeiler and Fergus 2014, §4.2)::

    where[i]  =  mean over c of (seen[c, i] - covered[c, i])²        normalised to the sum 1
    rank[c]   =  Σ where[i] seen[c, i]  -  mean over i of seen[c, i]

Nothing is known of the networks. The maps are what goes out of the outermost modules that a
network calls, and, where it did something in between (unpooled, joined, added), what goes in.
A map is reduced to what is shown as it passes by; only the last one is kept whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.errors import RecipeError, nearest_name
from upscore.inference.segmenter import evaluation_mode
from upscore.models.on_backbone import OnBackbone
from upscore.ops.upsample import BilinearUpsample

__all__ = ["Activation", "paint_over", "record_activations", "split_at_coarsest"]

SHOWN = 4
"""How many channels of a layer are kept."""

SIDE = 440
"""Longer side of a map that is kept, in cells; larger ones are averaged down to it."""

_IN_BETWEEN = {"encoder": "pooled", "contracting": "pooled", "decoder": "unpooled", "expanding": "joined", "joins": "joined"}
"""Parts of a network whose stages are given something new, and what was done to make it."""


@dataclass(frozen=True)
class Activation:
    """Some channels of one map.

    Parameters
    ----------
    name : str
        The module's, such as ``decoder.deconv4``; ``backbone/16`` for a backbone's map of stride 16.
    step : str
        "" for what the module gives; "pooled", "unpooled", "joined" or "added" for what it is given.
    shape : (int, int, int)
        C, H and W of the map.
    channels : tuple of int
        Those kept: a chosen one, then those that stand out most where the object lies.
    maps : (n, h, w) float32
        Theirs, averaged down where a side was above 440 cells.
    mean : (h, w) float32
        The mean over all channels.
    """

    name: str
    step: str
    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    maps: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]

    @property
    def key(self) -> str:
        """What the map is called where a channel of it is chosen: ``decoder.deconv4``, ``decoder.deconv4.unpooled``."""
        return f"{self.name}.{self.step}" if self.step else self.name


def record_activations(
    model: nn.Module, images: Tensor, region: npt.NDArray[np.bool_], *, channels: Mapping[str, int] | None = None
) -> list[Activation]:
    """Return the maps of a network, in the order in which they are made.

    Parameters
    ----------
    model : nn.Module
        Any network of images; borrowed, and evaluated in evaluation mode without gradients.
    images : (1, C, H, W) float in [0, 1]
        One image, on the network's device.
    region : (H, W) bool
        Pixels of the object that is looked at.
    channels : mapping of str to int, optional
        Maps by :attr:`Activation.key`, and the channel that comes first, whatever its rank.

    Raises
    ------
    RecipeError
        ``channels`` names no map, or a channel it has not.
    """
    chosen = dict(channels or {})
    recorder = _Recorder(chosen)
    with evaluation_mode(model), torch.inference_mode(), recorder.listening_to(model):
        model(torch.cat((images, paint_over(images, region))))
    keys = [record.key for record in recorder.records]
    for key in chosen:
        if key not in keys:
            near = nearest_name(key, keys) or f": expected one of {', '.join(keys)}"
            raise RecipeError(f"found a channel of unknown layer '{key[:80]}'{near}")
    return recorder.records


def paint_over(images: Tensor, region: npt.NDArray[np.bool_]) -> Tensor:
    """Return images (N, C, H, W) with a region (H, W) in each image's mean colour."""
    covered = torch.from_numpy(np.ascontiguousarray(region)).to(images.device)
    return torch.where(covered, images.mean((-2, -1), keepdim=True), images)


def split_at_coarsest(records: list[Activation]) -> tuple[list[Activation], list[Activation]]:
    """Return the maps before the first of the fewest cells, and those from there on: the ways down and up."""
    cells = [record.shape[1] * record.shape[2] for record in records]
    turn = cells.index(min(cells)) if cells else 0
    return records[:turn], records[turn:]


class _Recorder:
    """Reduces what passes the outermost modules of a network."""

    def __init__(self, chosen: Mapping[str, int]) -> None:
        self.chosen = chosen
        self.records: list[Activation] = []
        self.inside: str | None = None  # the outermost module that runs now
        self.last: list[Tensor] = []  # what the last one gave
        self.begun = False  # a layer with weights was met: until then there is only the image

    @contextlib.contextmanager
    def listening_to(self, model: nn.Module) -> Iterator[None]:
        hooks = []
        containers = ("decoder", "decoder.head") if isinstance(model, OnBackbone) else ()  # their layers are shown one by one
        for name, module in model.named_modules():
            if name and name not in containers:
                for container in reversed(containers):
                    name = name.removeprefix(f"{container}.")
                hooks.append(module.register_forward_pre_hook(lambda module, given, name=name: self._enter(name, module, given)))
                hooks.append(module.register_forward_hook(lambda module, _, made, name=name: self._leave(name, module, made)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, module: nn.Module, given: Any) -> None:
        if self.inside is not None:
            return
        self.inside = name
        step = "added" if isinstance(module, BilinearUpsample) else _IN_BETWEEN.get(name.partition(".")[0])
        for x in _maps(given).values():
            if self.begun and step is not None and not any(x is known for known in self.last):
                self._record(name, step, x)

    def _leave(self, name: str, module: nn.Module, made: Any) -> None:
        if self.inside != name:
            return
        self.inside = None
        self.begun = self.begun or any(True for _ in module.parameters()) or isinstance(module, BilinearUpsample)
        maps = _maps(made)
        if not self.begun or all(any(x is known for known in self.last) for x in maps.values()):
            return  # the image, or what was given handed on: dropout
        for key, x in maps.items():
            self._record(name if key is None else f"{name}/{key}", "", x)
        self.last = list(maps.values())

    def _record(self, name: str, step: str, x: Tensor) -> None:
        seen, covered = x.float()
        shape = (seen.shape[0], seen.shape[1], seen.shape[2])
        ranked = _stand_out(seen, covered).argsort(descending=True, stable=True)[:SHOWN].tolist()
        wanted = self.chosen.get(f"{name}.{step}" if step else name)
        if wanted is not None:
            if not 0 <= wanted < shape[0]:
                raise RecipeError(f"found channel {wanted} of '{name}', which has {shape[0]}: expected 0 to {shape[0] - 1}")
            ranked = [wanted, *(channel for channel in ranked if channel != wanted)][:SHOWN]
        maps = np.stack([_average_down(one) for one in seen[ranked].cpu().numpy()])
        self.records.append(Activation(name, step, shape, tuple(ranked), maps, _average_down(seen.mean(0).cpu().numpy())))


def _stand_out(seen: Tensor, covered: Tensor) -> Tensor:
    """Return how much more active each channel is where the object lies than elsewhere: (C,) of (C, H, W) with it and without it."""
    where = (seen - covered).square().mean(0)
    total = where.sum()
    return (seen * where).sum((1, 2)) / total - seen.mean((1, 2)) if total > 0 else seen.mean((1, 2))


def _maps(value: Any) -> dict[Any, Tensor]:
    """Return the maps (N, C, H, W) in what a module gives or is given, by key; None for a lone one."""
    if isinstance(value, Mapping):
        found = dict(value)
    elif isinstance(value, list | tuple):
        found = {None: value[0]} if len(value) == 1 else dict(enumerate(value))
    else:
        found = {None: value}
    return {key: x for key, x in found.items() if isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()}


def _average_down(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    scale = min(1.0, SIDE / max(values.shape))
    if scale == 1:
        return values
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
