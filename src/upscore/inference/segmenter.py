"""From images to probabilities: the protocol that every engine and every inference wrapper implements.

A network is a *segmenter*, and so is whatever takes one and gives one back (averages, tiles, proposals,
ensembles, the CRF): inference is closed under composition. :class:`NetworkSegmenter` runs PyTorch modules;
another engine stands in its place by having the five members of :class:`Segmenter`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from upscore.errors import RecipeError
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.ops.geometry import Geometry
from upscore.settings import Precision

__all__ = [
    "NetworkSegmenter",
    "Segmenter",
    "SegmenterWrapper",
    "bf16_is_native",
    "choose_device",
    "runs_channels_last",
]

UNKNOWN_STRIDE = 32
"""Taken for networks without a ``stride`` and a ``geometry``, when a margin is given for their tiles."""


class Segmenter(Protocol):
    """What labels images, whatever computes it."""

    @property
    def geometry(self) -> Geometry | None:
        """Stride, offset and receptive field of its coarsest grid; None where they are not known."""

    @property
    def stride(self) -> int:
        """Crops that begin on multiples of it, in pixels, give the cells that the whole image gives."""

    @property
    def device(self) -> torch.device:
        """Where its results are."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32, which sum to 1 over K, of images (N, C, H, W) float32."""

    def scores(self, images: Tensor) -> Tensor:
        """Return the logits (N, K, H, W) float32, of which :meth:`__call__` gives the softmax."""


class NetworkSegmenter:
    """A PyTorch network as a segmenter: evaluation mode, no gradients, softmax in float32.

    The network is borrowed. Its training mode, module by module, is what it was once a
    call returns, so that a model in the middle of its training can be evaluated; neither is
    it moved or cast unless ``device`` or ``channels_last`` asks for it.

    Parameters
    ----------
    model : nn.Module
        Maps images (N, C, H, W), of RGB in [0, 1], to logits (N, K, H, W); normalises by itself. Its attributes ``geometry``
        and ``stride``, where it has them, become those of the segmenter.
    device : str or torch.device, optional
        Where to compute; the model is moved there. Where it already is, when not given.
    precision : {"fp32", "bf16"}
        ``"bf16"`` runs the network under autocast: about twice as fast on CPUs that
        know the format, probabilities differ by about 1e-2. Others are a RecipeError.
    channels_last : bool
        Store weights and activations in NHWC memory order (faster convolutions); this
        rearranges the model's weights in memory, not their values.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        channels_last: bool = False,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise RecipeError(f"found precision '{precision}', expected 'fp32' or 'bf16'")
        if device is not None:
            model.to(device)
        if channels_last:
            # nn.Module.to accepts a memory format alone; its annotations do not.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        tensor = next(iter([*model.parameters(), *model.buffers()]), None)
        self.device = tensor.device if tensor is not None else torch.device(device or "cpu")
        self.model = model
        self.precision = precision
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.geometry: Geometry | None = getattr(model, "geometry", None)
        stride = getattr(model, "stride", None)  # of a lone layer it is a pair of another meaning
        if not isinstance(stride, int) or stride < 1:
            stride = int(self.geometry.stride) if self.geometry is not None else UNKNOWN_STRIDE
        self.stride: int = stride

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32, on the network's device, of images (N, C, H, W) float32 on any device."""
        return self.scores(images).softmax(1)

    def scores(self, images: Tensor) -> Tensor:
        """Return the network's logits (N, K, H, W) float32, of which :meth:`__call__` gives the softmax."""
        with (
            evaluation_mode(self.model),
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            logits: Tensor = self.model(images.to(self.device, memory_format=self.memory_format))
            return logits.float()


class SegmenterWrapper:
    """A segmenter around others: device, stride and geometry are theirs.

    A subclass implements :meth:`apply` once, for probabilities and for scores.
    """

    def __init__(self, *inner: Segmenter) -> None:
        self.inner = inner

    @property
    def device(self) -> torch.device:
        """Where its results are: the first one's device."""
        return self.inner[0].device

    @property
    def stride(self) -> int:
        """The least common multiple of their strides."""
        return math.lcm(*(segmenter.stride for segmenter in self.inner))

    @property
    def geometry(self) -> Geometry | None:
        """The geometry that needs the widest margin; None where one is not known."""
        known = [segmenter.geometry for segmenter in self.inner]
        return None if None in known else max((geometry for geometry in known if geometry is not None), key=_reach)

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, C, H, W) float32."""
        return self.apply(self.inner[0], images)

    def scores(self, images: Tensor) -> Tensor:
        """Return logits (N, K, H, W) float32."""
        return self.apply(self.inner[0].scores, images)

    def apply(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return what the wrapper makes of ``function``, images to probabilities or images to scores, for ``images``."""
        raise NotImplementedError


def _reach(geometry: Geometry) -> float:
    return math.inf if geometry.receptive_field == math.inf else geometry.margin()


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on; RecipeError where this machine has none of that name.

    ``"auto"`` takes CUDA, then Apple's MPS, then the CPU; any other name is used as it is ("cpu", "cuda", "cuda:1", "mps").
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise RecipeError(f"found device '{wanted}', expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"found device '{wanted}', but this machine has {torch.cuda.device_count()} CUDA devices: use 'auto' or 'cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RecipeError("found device 'mps', but this machine has none: use 'auto' or 'cpu'")
    return device


def runs_channels_last(device: torch.device) -> bool:
    """Return whether the network of a bundle runs in NHWC memory order on ``device``: the orders differ in rounding."""
    return device.type != "mps"


def bf16_is_native(device: str) -> bool:
    """Return whether ``device``, such as "cpu" or "cuda", computes with bfloat16; else it is emulated, many times slower than float32."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # On CPUs, AVX2 and plain AVX-512 emulate it; only these two instruction sets compute with it.
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
