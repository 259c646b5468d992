"""Whether an error means that there was not enough memory, whichever library says so."""

from __future__ import annotations

import torch

from upscore.errors import UpscoreError

__all__ = ["is_out_of_memory"]

_WORDS = (
    "out of memory",  # CUDA, MPS, HIP
    "can't allocate memory",  # torch on a processor
    "cannot allocate memory",  # the operating system
    "not enough memory",
    "insufficient memory",  # OpenCV
    "status_alloc_failed",  # cuBLAS, cuDNN
    "bad_alloc",  # C++
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` is an allocation that failed, on the processor or on a device.

    An :class:`upscore.errors.UpscoreError` is not: it has said already what to do.

    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)"))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, UpscoreError) or not isinstance(error, Exception):
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in _WORDS)
