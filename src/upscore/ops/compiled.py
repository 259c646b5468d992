"""The compiled module: whether it is here, and can read a tensor's memory."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

__all__ = ["compiled_for", "threads"]


def compiled_for(x: Tensor, *dtypes: torch.dtype) -> ModuleType | None:
    """Return ``upscore._native`` if somebody compiled it and x is a plain tensor on the processor of one of these types."""
    if x.device.type != "cpu" or x.dtype not in dtypes or type(x) not in (Tensor, torch.nn.Parameter):
        return None
    try:
        from upscore import _native
    except ImportError:
        return None
    return _native


def threads() -> int:
    """Return how many threads it may use: torch's number, and at most 256, which is what it takes."""
    return min(torch.get_num_threads(), 256)
