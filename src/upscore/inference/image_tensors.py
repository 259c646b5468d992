"""An image's bytes as what a network is given, and back again for those who look at colours themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["bytes_of", "image_to_tensor"]


def bytes_of(images: Tensor) -> npt.NDArray[np.uint8]:
    """Return images (…, 3, H, W) in [0, 1], on any device, as (…, H, W, 3) uint8: exactly those that were divided by 255."""
    return np.ascontiguousarray(images.detach().mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8).movedim(-3, -1).numpy())


def image_to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """Return ``image`` (H, W, 3) uint8 as a (3, H, W) float32 tensor in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32, order="C")).div_(255)
