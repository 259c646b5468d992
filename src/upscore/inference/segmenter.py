"""From images to probabilities: the one signature that every inference wrapper keeps.

A *segmenter* is any callable that maps images (N, 3, H, W) float32 in [0, 1] to
probabilities (N, K, H, W) float32. A network is one, and so is whatever takes one and
gives one back (tiles, flips, scales, ensembles): inference is closed under composition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from upscore.errors import RecipeError
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.settings import Precision

__all__ = ["NetworkSegmenter", "Segmenter", "bf16_is_native", "choose_device", "runs_channels_last"]

Segmenter: TypeAlias = Callable[[Tensor], Tensor]
"""images (N, 3, H, W) float32 in [0, 1] -> probs (N, K, H, W) float32, summing to 1 over K."""


class NetworkSegmenter:
    """A network as a segmenter: evaluation mode, no gradients, softmax in float32.

    The network is borrowed. Its training mode, module by module, is what it was once a
    call returns, so that a model in the middle of its training can be evaluated; neither is
    it moved or cast unless ``device`` or ``channels_last`` asks for it.

    Parameters
    ----------
    model : nn.Module
        Maps images (N, 3, H, W) in [0, 1] to logits (N, K, H, W); normalises by itself.
    device : str or torch.device, optional
        Where to compute; the model is moved there. Where it already is, when not given.
    precision : {"fp32", "bf16"}
        ``"bf16"`` runs the network under autocast: about twice as fast on processors that
        know the format, probabilities differ by about 1e-2.
    channels_last : bool
        Keep weights and activations in NHWC memory order (faster convolutions); this
        rearranges the model's weights in memory, not their values.

    Raises
    ------
    RecipeError
        The precision is not one of the two.
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

    def __call__(self, images: Tensor) -> Tensor:
        """Return class probabilities.

        Parameters
        ----------
        images : (N, 3, H, W) float32 in [0, 1]
            On any device.

        Returns
        -------
        (N, K, H, W) float32
            On the network's device; sums to 1 over K.
        """
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


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    wanted : str or torch.device
        ``"auto"`` takes CUDA, then Apple's MPS, then the CPU; anything else is taken at its
        word ("cpu", "cuda", "cuda:1", "mps").

    Raises
    ------
    RecipeError
        There is no such device on this machine.
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
    """Return whether the network of a bundle is kept in NHWC memory order on ``device``: layouts differ in rounding."""
    return device.type != "mps"


def bf16_is_native(device: str) -> bool:
    """Return whether ``device``, such as "cpu" or "cuda", computes with bfloat16; else it is emulated, many times slower than float32."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # On processors, AVX2 and plain AVX-512 emulate it; only these two instruction sets compute with it.
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
