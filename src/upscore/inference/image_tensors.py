"""An image's bytes as the tensor a network takes, and back; and the check that a tensor holds images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.errors import DataError

__all__ = ["check_tensor", "image_to_tensor", "tensor_to_images"]

TOLERANCE = 1e-3
"""By how much values of an image tensor may leave [0, 1], as rounding does."""


def image_to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """Return ``image`` (H, W, 3) uint8 as a (3, H, W) float32 tensor in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32, order="C")).div_(255)


def tensor_to_images(images: Tensor) -> npt.NDArray[np.uint8]:
    """Return images (…, 3, H, W) in [0, 1], on any device, as (…, H, W, 3) uint8: exactly those that were divided by 255."""
    return np.ascontiguousarray(images.detach().mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8).movedim(-3, -1).numpy())


def check_tensor(images: Tensor) -> None:
    """Raise a DataError for what are no images (N, 3, H, W), floats in [0, 1].

    Bytes, values from 0 to 255, normalised ones and channels last are told apart in the message, which names the remedy.
    """
    wanted = "expected RGB images (N, 3, H, W), floats from 0 to 1"
    if not isinstance(images, Tensor):
        raise DataError(f"found {type(images).__name__}, {wanted} in a tensor; predict takes an image (H, W, 3) uint8")
    found = f"a tensor of shape {tuple(images.shape)} and type {images.dtype}"
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        last = images.ndim == 4 and images.shape[3] == 3
        raise DataError(f"found {found}, {wanted}{': move the channels with .permute(0, 3, 1, 2)' if last else ''}")
    if not images.is_floating_point():
        raise DataError(f"found {found}, {wanted}{': divide bytes by 255' if images.dtype == torch.uint8 else ''}")
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for what is not a number
        remedy = "divide them by 255" if low >= 0 and 2 < high <= 255 else "give them as they are before normalisation"
        if low >= -0.5 and 1 < high <= 1.5:
            remedy += ", and limit what resizing left outside with .clamp(0, 1)"
        raise DataError(f"found images with values from {low:g} to {high:g}, {wanted}: {remedy}")
