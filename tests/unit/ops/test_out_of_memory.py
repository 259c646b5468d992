"""Each library's way to say that memory ran out, raised by the library itself where that is safe."""

import errno
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from upscore.errors import DataError, RecipeError
from upscore.ops.out_of_memory import is_out_of_memory

BY_MESSAGE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 2.00 GB, max allowed: 9.07 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", BY_MESSAGE, ids=lambda error: str(error)[:30])
def test_what_libraries_say_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: torch.empty(1 << 59, dtype=torch.uint8),
        lambda: torch.empty((1 << 40, 1 << 40)),
        lambda: np.empty((1 << 58,), np.uint8),
        lambda: np.empty((1 << 40, 1 << 40)),
        lambda: cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), 0, (1 << 31) - 3, 0, (1 << 31) - 3, cv2.BORDER_CONSTANT),
    ],
    ids=["torch", "torch, beyond counting", "numpy", "numpy, beyond counting", "opencv"],
)
def test_what_libraries_raise_is_recognised(allocate):
    with pytest.raises(Exception) as caught:
        allocate()
    assert is_out_of_memory(caught.value), repr(caught.value)


def test_a_limit_of_the_system_is_recognised():
    code = """
import resource, torch
from upscore.ops.out_of_memory import is_out_of_memory
conv, image = torch.nn.Conv2d(3, 64, 3), torch.zeros(1, 3, 4096, 4096)
resource.setrlimit(resource.RLIMIT_AS, (1, resource.getrlimit(resource.RLIMIT_AS)[1]))
try:
    conv(image)
except Exception as error:
    print(is_out_of_memory(error), repr(error)[:200])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("True"), said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        DataError("memory.png: cannot be read"),
        RecipeError("found precision 'fp8'"),
        KeyError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)
