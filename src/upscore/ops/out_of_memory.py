"""Whether an error means that memory ran out: PyTorch, NumPy, OpenCV and the system each report it in a way of their own."""

from __future__ import annotations

import errno

import torch

__all__ = ["is_out_of_memory"]

MESSAGES = (
    "out of memory",  # CUDA and MPS, also where it is a plain RuntimeError; a loader's shared memory
    "can't allocate memory",  # PyTorch's allocator on a processor
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
"""Found, in lower case, in errors that have no type of their own."""

ONEDNN = ("could not create a primitive", "could not execute a primitive", "could not create a memory object")
"""All that oneDNN says where its code or its scratch space could not be had; with more behind it, it is another error."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that memory, of a processor, a device or shared, could not be had.

    Parameters
    ----------
    error : BaseException
        As it was raised. Of a chain, only the error itself counts.

    Returns
    -------
    bool
        True for ``MemoryError``, ``torch.OutOfMemoryError``, an ``OSError`` of ``ENOMEM``, and for errors of the
        types that PyTorch and OpenCV raise for everything (``RuntimeError``, ``cv2.error``, ``ValueError``) whose message says so.

    Examples
    --------
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
