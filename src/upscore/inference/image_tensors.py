"""An image's stored values as the tensor a network takes, and back; and the check that a tensor holds images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from upscore.data.array_like import TOLERANCE
from upscore.errors import DataError
from upscore.input_spec import LARGEST, RGB, Image, InputSpec

__all__ = ["check_tensor", "image_to_tensor", "tensor_to_images"]


def image_to_tensor(image: Image) -> Tensor:
    """Return ``image`` (H, W, C) as a (C, H, W) float32 tensor: bytes and 16-bit values as fractions of the largest, floats as they are."""
    tensor = torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32, order="C"))
    largest = LARGEST[image.dtype.name]
    return tensor if largest == 1 else tensor.div_(largest)


def tensor_to_images(images: Tensor, spec: InputSpec = RGB) -> Image:
    """Return images (…, C, H, W), on any device, as (…, H, W, C) of the type of ``spec``: exactly those that became these tensors."""
    if spec.dtype == "float32":
        return np.ascontiguousarray(images.detach().to("cpu", torch.float32).movedim(-3, -1).numpy())
    stored = images.detach().mul(spec.unit).round_().clamp_(0, spec.unit).to("cpu", torch.int32 if spec.dtype == "uint16" else torch.uint8)
    return np.ascontiguousarray(stored.movedim(-3, -1).numpy().astype(spec.dtype, copy=False))


def check_tensor(images: Tensor, spec: InputSpec = RGB) -> None:
    """Raise a DataError for what are no images (N, C, H, W) of the bands of ``spec``: floats, in [0, 1] but for floating-point images.

    Bytes, values from 0 to 255, normalised ones and channels last are told apart in the message, which names the remedy.
    """
    bands = len(spec)
    what = "RGB images (N, 3, H, W)" if spec.is_rgb else f"images (N, {bands}, H, W) of {spec}"
    wanted = f"expected {what}, floats{'' if spec.dtype == 'float32' else ' from 0 to 1'}"
    if not isinstance(images, Tensor):
        raise DataError(f"found {type(images).__name__}, {wanted} in a tensor; predict takes an image (H, W, {bands}) {spec.dtype}")
    found = f"a tensor of shape {tuple(images.shape)} and type {images.dtype}"
    if images.ndim != 4 or images.shape[1] != bands or 0 in images.shape:
        last = images.ndim == 4 and images.shape[3] == bands
        raise DataError(f"found {found}, {wanted}{': move the channels with .permute(0, 3, 1, 2)' if last else ''}")
    if not images.is_floating_point():
        raise DataError(f"found {found}, {wanted}{': divide bytes by 255' if images.dtype == torch.uint8 else ''}")
    if spec.dtype == "float32":
        return
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for what is not a number
        remedy = "divide them by 255" if low >= 0 and 2 < high <= 255 else "give them as they are before normalisation"
        if low >= -0.5 and 1 < high <= 1.5:
            remedy += ", and limit what resizing left outside with .clamp(0, 1)"
        raise DataError(f"found images with values from {low:g} to {high:g}, {wanted}: {remedy}")
