"""Recognise errors of exhausted memory, which PyTorch, NumPy, OpenCV and the system report in different ways."""

from __future__ import annotations

import errno

import torch

__all__ = ["is_out_of_memory"]

MESSAGES = (
    "out of memory",  # CUDA and MPS, also where it is a plain RuntimeError; a loader's shared memory
    "can't allocate memory",  # PyTorch's allocator on a CPU
    "cannot allocate memory",  # the system's text of ENOMEM
    "not enough memory",  # PyTorch's allocator on Windows
    "failed to allocate",  # OpenCV, oneDNN
    "unable to allocate",  # NumPy's arrays
    "insufficient memory",
    "std::bad_alloc",
    "storage size calculation overflowed",  # PyTorch: more bytes than can be counted
    "array is too big",  # NumPy: likewise
    "_status_alloc_failed",  # cuBLAS, cuDNN
    "invalid buffer size",  # MPS
)
"""Lower-case parts of messages of errors without a type of their own."""

ONEDNN = ("could not create a primitive", "could not execute a primitive", "could not create a memory object")
"""The complete messages of oneDNN when memory is exhausted; a longer message is another error."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` means that host, device or shared memory is exhausted; causes in its chain are not considered.

    True for ``MemoryError``, ``torch.OutOfMemoryError``, an ``OSError`` of ``ENOMEM``, and for errors of the generic types of
    PyTorch and OpenCV (``RuntimeError``, ``cv2.error``, ``ValueError``) with a message of :data:`MESSAGES`.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("found 3 channels"))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    plain = isinstance(error, RuntimeError | ValueError) or (type(error).__module__, type(error).__name__) == ("cv2", "error")
    text = str(error).lower()
    return plain and (text.strip() in ONEDNN or any(message in text for message in MESSAGES))
