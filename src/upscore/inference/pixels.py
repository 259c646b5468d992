"""A picture's bytes, back from what a network is given: for those who look at colours themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["bytes_of"]


def bytes_of(images: Tensor) -> npt.NDArray[np.uint8]:
    """Return images (…, 3, H, W) in [0, 1], on any device, as (…, H, W, 3) uint8: exactly those that were divided by 255."""
    return np.ascontiguousarray(images.detach().mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8).movedim(-3, -1).numpy())
