"""Read a Caffe network that was exported as NumPy arrays, ``.npz``: layers' blobs by name.

Exporters name the blobs in many ways: ``conv1_1/0``, ``conv1_1_0``, ``conv1_1_w``,
``conv1_1/weights``, ``conv1_1.weight``. What they hold depends on the layer:

====================  =====================================
convolution, linear   weight, bias
papers' BN            scale, shift[, mean, variance]
BatchNorm             mean, variance, factor of both
Scale                 scale, shift
====================  =====================================
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib import format as npy
from torch import Tensor

from upscore.errors import ModelError
from upscore.text import reason

__all__ = ["ALWAYS_READ", "MAX_BYTES", "MAX_COMPRESSION", "as_float32", "blob_names", "means_and_variances", "read_caffe_arrays"]

MAX_BYTES = 4 * 2**30
"""Bytes of all arrays together; VGG16's are half a gigabyte."""

MAX_COMPRESSION = 20
"""Bytes of arrays for each of the file; trained weights hardly compress."""

ALWAYS_READ = 2**24
"""Bytes of arrays that are read, however small the file is."""

_BLOB = re.compile(r"(?P<layer>.+)[/_.](?P<kind>[0-3]|[wWbB]|weights?|bias(?:es)?|running_mean|running_var)")
_BLOBS = ("weight", "bias", "running_mean", "running_var")
_KINDS = {"w": "weight", "weights": "weight", "b": "bias", "biases": "bias"} | {str(index): blob for index, blob in enumerate(_BLOBS)}


def blob_names(layer: str) -> tuple[str, ...]:
    """Return what a layer's blobs are called here, in Caffe's order.

    >>> blob_names("conv1_1")[:2]
    ('conv1_1.weight', 'conv1_1.bias')
    """
    return tuple(f"{layer}.{blob}" for blob in _BLOBS)


def read_caffe_arrays(path: Path) -> dict[str, Tensor]:
    """Return a file's arrays as tensors named ``layer.weight``, ``layer.bias``, ``layer.running_mean`` and ``layer.running_var``.

    Sizes are checked before anything is read, and nothing is unpickled. ModelError where the file is damaged or too large, an array
    holds no numbers, or its name has no layer and blob.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total, size = sum(member.file_size for member in members), path.stat().st_size
            maximum = min(MAX_BYTES, max(ALWAYS_READ, MAX_COMPRESSION * size))
            if total > maximum:
                raise ModelError(
                    f"'{path}' ({size} bytes) declares {total} bytes of arrays, expected at most {maximum}: it is damaged or no network's"
                )
            arrays: dict[str, Tensor] = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[_name(path, member.filename, arrays)] = _read(path, file, member)
    except ModelError:
        raise
    except Exception as error:  # zipfile, zlib, and NumPy that reads a header as Python, raise a dozen unrelated kinds
        why = f"{type(error).__name__}: {reason(error)}"
        raise ModelError(f"'{path}' is not a readable weights file ({why}): expected NumPy's .npz") from error
    return means_and_variances(arrays)


def _name(path: Path, filename: str, others: dict[str, Tensor]) -> str:
    match = _BLOB.fullmatch(filename.removesuffix(".npy"))
    if not match:
        raise ModelError(f"'{path}' holds an array '{filename[:80]}', expected names of a layer and its blob, as conv1_1/0 or conv1_1_w")
    kind = match["kind"].lower()
    name = f"{match['layer']}.{_KINDS.get(kind, kind)}"
    if name in others:
        raise ModelError(f"'{path}' holds '{name}' twice, the second time as '{filename[:80]}'")
    return name


def _read(path: Path, file: IO[bytes], member: zipfile.ZipInfo) -> Tensor:
    """Return one array, after its header has been checked against its size."""
    version = npy.read_magic(file)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.kind not in "fiu":
        raise ModelError(f"'{path}' holds in '{member.filename[:80]}' no array of numbers ({dtype}): export float32 arrays")
    size = math.prod(shape) * dtype.itemsize
    if size != member.file_size - file.tell():
        raise ModelError(f"'{path}' is damaged: '{member.filename[:80]}' declares {size} bytes and has {member.file_size - file.tell()}")
    if math.prod(shape) * np.dtype(np.float32).itemsize > MAX_BYTES:
        raise ModelError(f"'{path}' holds in '{member.filename[:80]}' {math.prod(shape)} numbers, expected at most {MAX_BYTES // 4}")
    values = np.frombuffer(file.read(size), dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return as_float32(values)


def as_float32(values: npt.NDArray[Any]) -> Tensor:
    """Return a copy of an array as float32; a number that is too large becomes infinite."""
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def means_and_variances(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return blobs by name with those of Caffe's BatchNorm, sums and their count, turned into a mean and a variance."""
    found = dict(arrays)
    for name, factor in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind != "running_mean" or factor.numel() != 1 or f"{layer}.running_var" in arrays:
            continue
        sums = [found.pop(f"{layer}.{blob}", None) for blob in ("weight", "bias")]
        if sums[0] is None or sums[1] is None:
            found |= {f"{layer}.{blob}": tensor for blob, tensor in zip(("weight", "bias"), sums, strict=True) if tensor is not None}
            continue
        count = float(factor)
        for blob, tensor in zip(("running_mean", "running_var"), sums, strict=True):
            assert tensor is not None
            found[f"{layer}.{blob}"] = tensor / count if count else torch.zeros_like(tensor)
    return found
