"""Access to the compiled kernels: whether they are installed and can process a tensor."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

__all__ = ["compiled_for", "threads"]


def compiled_for(x: Tensor, *dtypes: torch.dtype) -> ModuleType | None:
    """Return ``upscore._native`` if it is installed and ``x`` is a plain CPU tensor of one of ``dtypes``; else None."""
    if x.device.type != "cpu" or x.dtype not in dtypes or type(x) not in (Tensor, torch.nn.Parameter):
        return None
    try:
        from upscore import _native
    except ImportError:
        return None
    return _native


def threads() -> int:
    """Return the number of threads for a kernel: torch's, but at most 256."""
    return min(torch.get_num_threads(), 256)
