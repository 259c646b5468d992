"""Read a Caffe network as it is published, ``.caffemodel``: the blobs of its layers by name.

The file is a protocol buffer, and is read without that library: a message is a row of fields,
each a number with a type, and of few of them the content is of interest::

    NetParameter      2 layers (V1LayerParameter)      100 layer (LayerParameter)
    LayerParameter    1 name      7 blobs
    V1LayerParameter  4 name      6 blobs      1 layer (V0LayerParameter: 1 name, 50 blobs)
    BlobProto         7 shape     5 data (float)     8 double_data     1 num  2 channels  3 height  4 width
    BlobShape         1 dim

Everything else is skipped. The numbers of the fields are those of BVLC/caffe's
``src/caffe/proto/caffe.proto``; the forks of DeconvNet and SegNet share them.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscore.errors import ModelError
from upscore.files import check_file
from upscore.models.weights.caffe_arrays import MAX_BYTES, as_float32, blob_names, means_and_variances
from upscore.text import reason, shortened

__all__ = ["read_caffemodel"]

MAX_FIELDS = 200_000
"""Fields of all messages that are read; a run of unpacked numbers counts as one. A layer with two blobs takes about twenty."""

MAX_NAME = 1000
"""Bytes of a layer's name."""

MAX_AXES = 32
"""Axes of a blob, as in Caffe."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED32: 4, _FIXED64: 8}
_LAYER, _V1_LAYER = 100, 2
_NAME_AND_BLOBS = {_LAYER: (1, 7), _V1_LAYER: (4, 6)}
_V0_LAYER = 1
_V0_NAME_AND_BLOBS = (1, 50)
_LEGACY_AXES, _DATA, _SHAPE, _DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Return a network's blobs as tensors named ``layer.weight``, ``layer.bias``, ``layer.running_mean`` and ``layer.running_var``.

    Blobs are what :mod:`~upscore.models.weights.caffe_arrays` lists. Layers without blobs are left out. No more memory is taken than
    the file has bytes. ModelError where the file is damaged, too large or no Caffe network, a blob has not as many numbers as its
    shape says, or two layers of a name have blobs.
    """
    size = check_file(path, what="a Caffe network", error=ModelError)
    if not 0 < size <= MAX_BYTES:
        raise ModelError(f"'{path}' has {size} bytes, expected a Caffe network of 1 to {MAX_BYTES}")
    found: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # closed with the last view of it
        for layer, blobs in _Message(content).layers():
            if f"{layer}.weight" in found:
                raise ModelError(f"'{path}' holds two layers '{shortened(layer)}' with blobs, expected names that are unique")
            if len(blobs) > 4:
                raise ModelError(f"'{path}' holds in '{shortened(layer)}' {len(blobs)} blobs, expected at most 4")
            found |= dict(zip(blob_names(layer), blobs, strict=False))
    except _DamagedError as error:
        raise ModelError(
            f"'{path}' is not a readable Caffe network ({error}): expected a binary .caffemodel; copy it again, and see that it is no "
            "prototxt or web page saved under this name"
        ) from error
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read ({error.strerror or reason(error)})") from error
    if not found:
        raise ModelError(f"'{path}' holds no layer with weights, expected a trained Caffe network")
    return means_and_variances(found)


class _DamagedError(Exception):
    """Why a file is no Caffe network."""


class _Message:
    """The fields of a message in memory, read one after another; ``budget`` is how many fields may still be read of the file."""

    def __init__(self, view: memoryview, budget: list[int] | None = None) -> None:
        self._view, self._position = view, 0
        self._budget = [MAX_FIELDS] if budget is None else budget

    def layers(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Yield the name and the blobs of each layer that has any, of a NetParameter."""
        for number, kind, value in self.fields():
            if number not in _NAME_AND_BLOBS or kind != _BYTES:
                continue
            name, blobs = self._inner(value).layer(*_NAME_AND_BLOBS[number], older=number == _V1_LAYER)
            if blobs:
                yield name, blobs

    def layer(self, name_field: int, blobs_field: int, *, older: bool) -> tuple[str, list[Tensor]]:
        """Return the name and the blobs of a layer, whose fields have these numbers."""
        name, blobs = "", list[Tensor]()
        for number, kind, value in self.fields():
            if kind != _BYTES:
                continue
            if number == name_field:
                if len(value) > MAX_NAME:
                    raise _DamagedError(f"a layer's name of {len(value)} bytes")
                name = str(value, "utf-8", "backslashreplace")
            elif number == blobs_field:
                blobs.append(self._inner(value).blob())
            elif older and number == _V0_LAYER:
                v0_name, v0_blobs = self._inner(value).layer(*_V0_NAME_AND_BLOBS, older=False)
                name, blobs = v0_name or name, blobs + v0_blobs
        return name, blobs

    def blob(self) -> Tensor:
        """Return the numbers of a blob in its shape."""
        parts = list[Tensor]()
        legacy, shape = dict[int, int](), list[int]()
        has_shape = False
        for number, kind, value in self.fields(numbers={_DATA: _FIXED32, _DOUBLE_DATA: _FIXED64}):
            if number in (_DATA, _DOUBLE_DATA) and kind == _BYTES:
                item = "<f4" if number == _DATA else "<f8"
                if len(value) % int(item[2]):
                    raise _DamagedError(f"{len(value)} bytes of numbers of {item[2]} bytes each")
                parts.append(as_float32(np.frombuffer(value, item)))
            elif number in _LEGACY_AXES and kind == _VARINT:
                legacy[number] = value
            elif number == _SHAPE and kind == _BYTES:
                has_shape, shape = True, [*shape, *self._inner(value).shape()]
        values = parts[0] if len(parts) == 1 else torch.cat([torch.zeros(0), *parts])
        if not has_shape:
            shape = [legacy.get(axis, 0) for axis in _LEGACY_AXES] if legacy else [len(values)]
        if len(shape) > MAX_AXES or any(not 0 <= size < 2**63 for size in shape) or math.prod(shape) != len(values):
            raise _DamagedError(f"a blob of the shape {shortened(str(shape), 60)} with {len(values)} numbers")
        return values.reshape(shape)

    def shape(self) -> list[int]:
        """Return the sizes of a BlobShape, packed or not."""
        sizes = list[int]()
        for number, kind, value in self.fields():
            if number == 1 and kind == _VARINT:
                sizes.append(value)
            elif number == 1 and kind == _BYTES:
                packed = self._inner(value)
                while packed._position < len(value):
                    sizes.append(packed._varint())
                    self._count()
            if len(sizes) > MAX_AXES:
                raise _DamagedError(f"a blob of more than {MAX_AXES} axes")
        return sizes

    def fields(self, numbers: dict[int, int] | None = None) -> Iterator[tuple[int, int, Any]]:
        """Yield number, wire type and value of each field: an int for a varint, else bytes.

        ``numbers`` are fields that repeat a number of this fixed size, one a field where they are not packed; such a run is one field
        of packed bytes.
        """
        view = self._view
        while self._position < len(view):
            self._count()
            start = self._position
            tag = self._varint()
            number, kind = tag >> 3, tag & 7
            if kind not in (_VARINT, _BYTES, *_FIXED) or number == 0:
                raise _DamagedError(f"a field {number} of type {kind} where {len(view) - start} bytes are left")
            if kind == _VARINT:
                yield number, kind, self._varint()
                continue
            if (numbers or {}).get(number) == kind and self._position == start + 1:
                yield number, _BYTES, self._run(start, _FIXED[kind])
                continue
            length = self._varint() if kind == _BYTES else _FIXED[kind]
            if length > len(view) - self._position:
                raise _DamagedError(f"a field of {length} bytes where {len(view) - self._position} are left: it is truncated or damaged")
            self._position += length
            yield number, kind, view[self._position - length : self._position]

    def _run(self, start: int, size: int) -> bytes:
        """Return the values of a run of fields with equal tags of one byte, from ``start`` on, as packed bytes."""
        step, end, block = 1 + size, start, 64
        while True:
            count = min(block, (len(self._view) - end) // step)
            rows = np.frombuffer(self._view, np.uint8, count * step, end).reshape(count, step)
            others = np.flatnonzero(rows[:, 0] != self._view[start])
            same = int(others[0]) if len(others) else count
            end += same * step
            if same < count or count < block:
                break
            block *= 2  # so that the work is in proportion to the run
        if end == start:
            raise _DamagedError("a number that is truncated")
        self._position = end
        return np.frombuffer(self._view, np.uint8, end - start, start).reshape(-1, step)[:, 1:].tobytes()

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            if self._position >= len(self._view):
                raise _DamagedError("a number that is truncated")
            byte = self._view[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _DamagedError("a number of more than 64 bits")

    def _inner(self, view: memoryview) -> _Message:
        return _Message(view, self._budget)

    def _count(self) -> None:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise _DamagedError(f"more than {MAX_FIELDS} fields")
