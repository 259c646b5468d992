"""What each skip connection of a fully convolutional network contributes.

Long, Shelhamer and Darrell (2015), figure 4, compares FCN-32s, 16s and 8s: three networks,
trained one after the other. Here they are partial sums of one network, whose logits are::

    logits = upsampled score_fr  +  upsampled score_pool4  +  upsampled score_pool3
             └──── 32s ────┘
             └────────────── + pool4 ─────────────────┘
             └────────────────────────────── + pool3 ──────────────────────────────┘

since every operation after a score layer is linear. Leaving out the finer terms shows what the
coarser ones predict by themselves, without training another network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.ops.evaluation_mode import evaluation_mode

__all__ = ["PARTIAL_SUMS", "SkipPrediction", "accumulate_terms", "predict_by_skips", "split_logits"]

PARTIAL_SUMS = {"score_fr": "32s", "score_pool4": "+ pool4", "score_pool3": "+ pool3"}
"""Score layers of an FCN, from coarse to fine, and the name of the sum up to each."""


@dataclass(frozen=True)
class SkipPrediction:
    """What a fully convolutional network predicts from the sum up to one skip."""

    name: str  #: "32s", "+ pool4" or "+ pool3"
    label_map: npt.NDArray[np.uint8]  #: (H, W), the most probable class
    confidence: npt.NDArray[np.float32]  #: (H, W) in [0, 1], its probability
    changed: npt.NDArray[np.bool_]  #: (H, W), where the class differs from that of the sum before; False everywhere in the first


def split_logits(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the terms whose sum is the logits: score layer to (N, K, H, W), from coarse to fine; empty for networks other than an FCN.

    ``model`` is run in evaluation mode, and left in the mode it was in; ``images`` (N, C, H, W) float in [0, 1] are on its device.
    """
    layers = [name for name in PARTIAL_SUMS if hasattr(getattr(model, "decoder", None), name)]
    terms = {}
    with evaluation_mode(model), torch.inference_mode():
        for layer in layers:
            with _zeroed(model, [other for other in layers if other != layer]):
                terms[layer] = model(images)
        if any(upsampling.bias is not None for upsampling in getattr(getattr(model, "decoder", None), "upsamplings", ())):
            with _zeroed(model, layers):
                constant = model(images)  # of the biases between the sums, which belong to the coarsest term
            terms |= {layer: terms[layer] - constant for layer in layers[1:]}
    return terms


def accumulate_terms(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the logits without any skip, with the coarsest, …, with all: the last are the network's own.

    ``terms`` are those of :func:`split_logits`; the result is "32s", "+ pool4", "+ pool3", those the network has, to (N, K, H, W).
    """
    sums: dict[str, Tensor] = {}
    total = None
    for layer, term in terms.items():
        total = term if total is None else total + term
        sums[PARTIAL_SUMS[layer]] = total
    return sums


def predict_by_skips(model: nn.Module, images: Tensor) -> list[SkipPrediction]:
    """Return what a network predicts for one image without any skip, with the coarsest, …, with all; empty for networks other than an FCN.

    Arguments are those of :func:`split_logits`; only the first image is used.
    """
    predictions: list[SkipPrediction] = []
    for name, logits in accumulate_terms(split_logits(model, images)).items():
        confidence, classes = logits[0].float().softmax(0).max(0)
        label_map = classes.to(torch.uint8).cpu().numpy()
        previous = predictions[-1].label_map if predictions else label_map
        predictions.append(SkipPrediction(name, label_map, confidence.cpu().numpy(), label_map != previous))
    return predictions


@contextlib.contextmanager
def _zeroed(model: nn.Module, layers: list[str]) -> Iterator[None]:
    """Replace the output of some layers by zeros."""
    zero = [model.get_submodule(f"decoder.{name}") for name in layers]
    hooks = [layer.register_forward_hook(lambda _, __, output: torch.zeros_like(output)) for layer in zero]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
