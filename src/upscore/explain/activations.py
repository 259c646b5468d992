"""The feature maps of a network for one image, from coarse to fine.

Hyeonwoo Noh, Seunghoon Hong, Bohyung Han, "Learning Deconvolution Network for Semantic
Segmentation", ICCV 2015 (arXiv 1505.04366), figure 4: for one image, one channel of each
unpooling and deconvolution layer of DeconvNet. The authors chose the channels by hand. Here the
channels of a layer are ranked by how much more active they are on the object than elsewhere.
Where the object lies in a feature map is measured: there the layer's output changes when the
object is occluded, that is, painted in the image's mean colour (after Zeiler and Fergus 2014, §4.2)::

    weight[i]  =  mean over c of (activation[c, i] - occluded[c, i])²      normalised to the sum 1
    rank[c]    =  Σ weight[i] activation[c, i]  -  mean over i of activation[c, i]

It works for any network. The recorded maps are the outputs of the outermost modules that the network
calls, and, where it did something in between (unpooled, concatenated, added), their inputs.
Each map is reduced to what is shown as soon as it is computed, so that memory holds one map at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.errors import RecipeError, nearest_name
from upscore.html.drawing import shrink
from upscore.models.late_fusion import LateFusion
from upscore.models.on_backbone import OnBackbone
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.ops.upsample import BilinearUpsample

__all__ = ["Activation", "occlude", "record_activations", "split_at_coarsest"]

CHANNELS = 4
"""How many channels of a layer are recorded."""

SIDE = 440
"""Longer side of a recorded map, in cells; larger ones are averaged down to it."""

_STEPS = {"encoder": "pooled", "contracting": "pooled", "decoder": "unpooled", "expanding": "concatenated", "joins": "concatenated"}
"""Parts of a network whose inputs are recorded, and the operation between modules that made them."""


@dataclass(frozen=True)
class Activation:
    """Several channels of one feature map."""

    name: str  #: the module's, such as ``decoder.deconv4``; ``backbone/16`` for a backbone's feature level of stride 16
    step: str
    """Of the module's input, the operation that made it: "pooled", "unpooled", "concatenated" or "added"; "" for its output."""
    shape: tuple[int, int, int]  #: C, H and W of the feature map
    channels: tuple[int, ...]  #: those recorded: a chosen one, then those of the highest rank
    maps: npt.NDArray[np.float32]  #: (n, h, w): the channels, averaged down where a side was above 440 cells
    mean: npt.NDArray[np.float32]  #: (h, w): the mean over all channels

    @property
    def key(self) -> str:
        """The name by which a channel of the map is chosen: ``decoder.deconv4``, ``decoder.deconv4.unpooled``."""
        return f"{self.name}.{self.step}" if self.step else self.name


def record_activations(
    model: nn.Module, images: Tensor, region: npt.NDArray[np.bool_], *, channels: Mapping[str, int] | None = None
) -> list[Activation]:
    """Return the feature maps of a network, in the order in which they are computed.

    Parameters
    ----------
    model : nn.Module
        Any network of images; run in evaluation mode without gradients, and left in the mode it was in.
    images : (1, C, H, W) float in [0, 1]
        One image, on the network's device.
    region : (H, W) bool
        Pixels of the object.
    channels : mapping of str to int, optional
        By :attr:`Activation.key`, the channel that comes first, whatever its rank. RecipeError for an unknown map or channel.
    """
    chosen = dict(channels or {})
    recorder = _Recorder(chosen)
    with evaluation_mode(model), torch.inference_mode(), recorder.attached_to(model):
        model(torch.cat((images, occlude(images, region))))
    keys = [record.key for record in recorder.records]
    for key in chosen:
        if key not in keys:
            near = nearest_name(key, keys) or f": expected one of {', '.join(keys)}"
            raise RecipeError(f"found a channel of unknown layer '{key[:80]}'{near}")
    return recorder.records


def occlude(images: Tensor, region: npt.NDArray[np.bool_]) -> Tensor:
    """Return images (N, C, H, W) with a region (H, W) bool painted in each image's mean colour."""
    inside = torch.from_numpy(np.ascontiguousarray(region)).to(images.device)
    return torch.where(inside, images.mean((-2, -1), keepdim=True), images)


def split_at_coarsest(records: list[Activation]) -> tuple[list[Activation], list[Activation]]:
    """Return the maps before the first coarsest one, and those from there on: encoder and decoder."""
    cells = [record.shape[1] * record.shape[2] for record in records]
    coarsest = cells.index(min(cells)) if cells else 0
    return records[:coarsest], records[coarsest:]


class _Recorder:
    """Records inputs and outputs of the outermost modules of a network, through forward hooks."""

    def __init__(self, chosen: Mapping[str, int]) -> None:
        self.chosen = chosen
        self.records: list[Activation] = []
        self.running: str | None = None  # the outermost module that runs now
        self.last: list[Tensor] = []  # outputs of the last one
        self.begun = False  # a layer with weights has run: until then there is only the image

    @contextlib.contextmanager
    def attached_to(self, model: nn.Module) -> Iterator[None]:
        hooks = []
        named = ("decoder.head", "decoder") if isinstance(model, OnBackbone) else ()  # their layers are recorded one by one, without prefix
        streams = [f"streams.{i}" for i in range(len(model.streams))] if isinstance(model, LateFusion) else []
        containers = (*named, *streams, *(f"{stream}.decoder" for stream in streams))
        for name, module in model.named_modules():
            if name and name not in containers:
                for container in named:
                    name = name.removeprefix(f"{container}.")
                hooks.append(module.register_forward_pre_hook(lambda module, inputs, name=name: self._enter(name, module, inputs)))
                hooks.append(module.register_forward_hook(lambda module, _, outputs, name=name: self._leave(name, module, outputs)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, module: nn.Module, inputs: Any) -> None:
        if self.running is not None:
            return
        self.running = name
        step = "added" if isinstance(module, BilinearUpsample) else _STEPS.get(name.partition(".")[0])
        for x in _maps(inputs).values():
            if self.begun and step is not None and not any(x is known for known in self.last):
                self._record(name, step, x)

    def _leave(self, name: str, module: nn.Module, outputs: Any) -> None:
        if self.running != name:
            return
        self.running = None
        self.begun = self.begun or any(True for _ in module.parameters()) or isinstance(module, BilinearUpsample)
        maps = _maps(outputs)
        if not self.begun or all(any(x is known for known in self.last) for x in maps.values()):
            return  # the image, or the input unchanged, as from dropout
        for key, x in maps.items():
            self._record(name if key is None else f"{name}/{key}", "", x)
        self.last = list(maps.values())

    def _record(self, name: str, step: str, x: Tensor) -> None:
        activation, occluded = x.float()
        shape = (activation.shape[0], activation.shape[1], activation.shape[2])
        ranked = _rank(activation, occluded).argsort(descending=True, stable=True)[:CHANNELS].tolist()
        chosen = self.chosen.get(f"{name}.{step}" if step else name)
        if chosen is not None:
            if not 0 <= chosen < shape[0]:
                raise RecipeError(f"found channel {chosen} of '{name}', which has {shape[0]}: expected 0 to {shape[0] - 1}")
            ranked = [chosen, *(channel for channel in ranked if channel != chosen)][:CHANNELS]
        maps = np.stack([shrink(channel, side=SIDE) for channel in activation[ranked].cpu().numpy()])
        self.records.append(Activation(name, step, shape, tuple(ranked), maps, shrink(activation.mean(0).cpu().numpy(), side=SIDE)))


def _rank(activation: Tensor, occluded: Tensor) -> Tensor:
    """Return (C,): how much more active each channel (C, H, W) is on the object than elsewhere."""
    weight = (activation - occluded).square().mean(0)
    total = weight.sum()
    mean = activation.mean((1, 2))
    return (activation * weight).sum((1, 2)) / total - mean if total > 0 else mean


def _maps(value: Any) -> dict[Any, Tensor]:
    """Return the feature maps (N, C, H, W) among a module's inputs or outputs, by key; by None where there is only one."""
    if isinstance(value, Mapping):
        found = dict(value)
    elif isinstance(value, list | tuple):
        found = {None: value[0]} if len(value) == 1 else dict(enumerate(value))
    else:
        found = {None: value}
    return {key: x for key, x in found.items() if isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()}
