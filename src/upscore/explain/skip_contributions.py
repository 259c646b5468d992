"""What each skip of a fully convolutional network adds.

Long, Shelhamer and Darrell (2015), figure 4, shows FCN-32s, 16s and 8s beside one another:
three networks, trained one after the other. Here it is one network. Its logits are a sum::

    logits = upsampled score_fr  +  upsampled score_pool4  +  upsampled score_pool3
             └──── 32s ────┘
             └────────────── + pool4 ─────────────────┘
             └────────────────────────────── + pool3 ──────────────────────────────┘

since all that follows a score layer is linear. So leaving out the finer terms shows what the
coarser ones say alone, and nothing has to be trained again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.inference.segmenter import evaluation_mode

__all__ = ["STREAMS", "Stream", "add_up_streams", "label_streams", "split_streams"]

STREAMS = {"score_fr": "32s", "score_pool4": "+ pool4", "score_pool3": "+ pool3"}
"""Score layers of an FCN, from coarse to fine, and what their sum up to there is called."""


@dataclass(frozen=True)
class Stream:
    """What a fully convolutional network says with the skips up to one.

    Parameters
    ----------
    name : str
        "32s", "+ pool4" or "+ pool3".
    label_map : (H, W) uint8
        The most probable class.
    confidence : (H, W) float32 in [0, 1]
        Its probability.
    changed : (H, W) bool
        Where the class differs from that of the stream before; nowhere in the first.
    """

    name: str
    label_map: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    changed: npt.NDArray[np.bool_]


def split_streams(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the terms whose sum are the logits.

    Parameters
    ----------
    model : nn.Module
        FCN-32s, 16s or 8s; borrowed, and evaluated in evaluation mode.
    images : (N, C, H, W) float in [0, 1]
        On the network's device.

    Returns
    -------
    dict of str to Tensor
        Score layer to (N, K, H, W), from coarse to fine; empty for other networks.
    """
    layers = [name for name in STREAMS if hasattr(getattr(model, "decoder", None), name)]
    terms = {}
    with evaluation_mode(model), torch.inference_mode():
        for layer in layers:
            with _silenced(model, [other for other in layers if other != layer]):
                terms[layer] = model(images)
    return terms


def add_up_streams(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the logits without any skip, with the coarsest, …, with all: the network's own.

    Parameters
    ----------
    terms : dict of str to Tensor
        Of :func:`split_streams`.

    Returns
    -------
    dict of str to Tensor
        "32s", "+ pool4", "+ pool3", as far as there are such, to (N, K, H, W).
    """
    sums: dict[str, Tensor] = {}
    total = None
    for layer, term in terms.items():
        total = term if total is None else total + term
        sums[STREAMS[layer]] = total
    return sums


def label_streams(model: nn.Module, images: Tensor) -> list[Stream]:
    """Return what a network says of one image without any skip, with the coarsest, …, with all.

    Parameters
    ----------
    model, images
        As in :func:`split_streams`; the first image counts.

    Returns
    -------
    list of Stream
        Empty for networks that are no FCN.
    """
    streams: list[Stream] = []
    for name, logits in add_up_streams(split_streams(model, images)).items():
        confidence, classes = logits[0].float().softmax(0).max(0)
        label_map = classes.to(torch.uint8).cpu().numpy()
        before = streams[-1].label_map if streams else label_map
        streams.append(Stream(name, label_map, confidence.cpu().numpy(), label_map != before))
    return streams


@contextlib.contextmanager
def _silenced(model: nn.Module, layers: list[str]) -> Iterator[None]:
    """Let some layers say 0, whatever they are given."""
    hooks = [
        model.get_submodule(f"decoder.{name}").register_forward_hook(lambda _, __, output: torch.zeros_like(output)) for name in layers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
