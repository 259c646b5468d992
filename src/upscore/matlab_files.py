"""Parse untrusted MATLAB files (``.mat``, format 5 as MATLAB 5 to 7 write it) into plain values.

Nothing is run, and no more memory is taken than the caller allows: lengths are checked before
anything is allocated, compressed variables are expanded up to a limit, and cells and structs
are counted. Numbers keep the type in which they are stored, so that arrays are as large as
the file says. Sparse and complex arrays, objects and functions are skipped, and are None.

MathWorks, "MAT-File Format", R2014b.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, TypeAlias

import numpy as np

from upscore.text import reason, shortened

__all__ = ["Value", "is_matlab", "parse_matlab"]

Value: TypeAlias = Any
"""An array of numbers, a str for characters, a list for a cell, a list of dicts for a struct array, or None for what is skipped."""

MAX_PARTS = 1_000_000
"""Arrays, cells and fields of one file."""

MAX_DEPTH = 32
"""Cells and structs inside one another."""

_HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)
_COMPLEX = 0x800


def is_matlab(content: bytes) -> bool:
    """Return whether a file begins like MATLAB's, or is in HDF5, as MATLAB 7.3 writes it."""
    return content[:6] == b"MATLAB" or content[:8] == _HDF5 or content[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def parse_matlab(content: bytes | memoryview, *, max_bytes: int) -> dict[str, Value]:
    """Return the variables of a MATLAB file by their names.

    Arrays have the shape and the type that is stored, which may be narrower than MATLAB's; their memory may be the file's own.

    Parameters
    ----------
    content : bytes or memoryview
        The whole file.
    max_bytes : int
        How many bytes compressed variables may expand to, all together.

    Raises
    ------
    ValueError
        A reason to put behind the file's name: it is of another format, damaged, or asks for more memory than is allowed.

    Examples
    --------
    >>> import io, scipy.io
    >>> file = io.BytesIO()
    >>> scipy.io.savemat(file, {"labels": np.eye(2, dtype=np.uint8), "names": np.array(["sky", "tree"], object)})
    >>> parse_matlab(file.getvalue(), max_bytes=1000)["names"]
    ['sky', 'tree']
    """
    view = memoryview(content)
    start = bytes(view[:_HEADER])
    if start[:8] == _HDF5 or start[:10] == b"MATLAB 7.3":
        raise ValueError("it is in MATLAB's format 7.3 (HDF5), expected format 5: save it again in MATLAB with save(file, '-v7')")
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(start[124:128])
    if order is None:
        raise ValueError("it has no header of MATLAB's format 5: save it again in MATLAB with save(file, '-v7')")
    parser = _Parser(order, max_bytes)
    try:
        return parser.variables(view[_HEADER:])
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged ({reason(error)})") from error


class _Parser:
    """Reads elements: a tag of type and length, and that many bytes."""

    def __init__(self, order: str, max_bytes: int) -> None:
        self._order, self._left, self._max_bytes, self._parts = order, max_bytes, max_bytes, 0

    def variables(self, view: memoryview) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while len(view):
            kind, body, view = self._element(view)
            if kind == _COMPRESSED:
                kind, body, _ = self._element(self._expanded(body))
            if kind != _MATRIX:
                raise ValueError(f"it is damaged (an element of type {kind} where a variable was expected)")
            name, value = self._matrix(body, 0)
            if name in found:
                raise ValueError(f"it is damaged (the variable '{shortened(name, 40)}' is there twice)")
            if name:  # what MATLAB adds for objects has none
                found[name] = value
        return found

    def _expanded(self, body: memoryview) -> memoryview:
        machine = zlib.decompressobj()
        expanded = machine.decompress(body, self._left + 1)
        if len(expanded) > self._left:
            raise ValueError(f"its variables expand to more than the {self._max_bytes} bytes that are allowed: it is damaged or crafted")
        if not machine.eof:
            raise ValueError("it is damaged (a compressed variable is truncated)")
        self._left -= len(expanded)
        return memoryview(expanded)

    def _element(self, view: memoryview) -> tuple[int, memoryview, memoryview]:
        """Return the type and the bytes of the first element, and what follows it."""
        kind, length = struct.unpack_from(self._order + "II", view)
        if kind >> 16:  # the short form: length and type share four bytes, and the content follows in four
            kind, length, begin, end = kind & 0xFFFF, kind >> 16, 4, 8
            if length > 4:
                raise ValueError(f"it is damaged (a short element of {length} bytes)")
        else:
            begin = 8
            end = begin + length + (-length % 8 if kind != _COMPRESSED else 0)
        if begin + length > len(view):
            raise ValueError(f"it is damaged or truncated (an element of {length} bytes where {len(view) - begin} are left)")
        return kind, view[begin : begin + length], view[end:]

    def _numbers(self, view: memoryview) -> tuple[np.ndarray[Any, Any], memoryview]:
        kind, body, rest = self._element(view)
        if kind not in _NUMBERS:
            raise ValueError(f"it is damaged (an element of type {kind} where numbers were expected)")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if len(body) % dtype.itemsize:
            raise ValueError(f"it is damaged ({len(body)} bytes of numbers of {dtype.itemsize} bytes each)")
        return np.frombuffer(body, dtype), rest

    def _matrix(self, view: memoryview, depth: int) -> tuple[str, Value]:
        """Return the name and the value of an array, a cell or a struct array; the name is empty inside another."""
        self._parts += 1
        if self._parts > MAX_PARTS or depth > MAX_DEPTH:
            raise ValueError(f"it holds more than {MAX_PARTS} arrays, or more than {MAX_DEPTH} inside one another")
        if not len(view):
            return "", np.zeros((0, 0))
        flags, rest = self._numbers(view)
        if len(flags) != 2 or flags.dtype.itemsize != 4:
            raise ValueError("it is damaged (an array without flags)")
        word = int(flags[0])
        kind = word & 0xFF
        if kind not in (_CELL, _STRUCT, _CHAR, *_NUMERIC):  # sparse arrays, objects, functions and what is newer
            return self._name_of_skipped(rest), None
        dims, rest = self._numbers(rest)
        shape = tuple(int(size) for size in dims[: MAX_DEPTH + 1]) if dims.dtype.kind != "f" else ()
        if not 2 <= len(shape) <= MAX_DEPTH or min(shape) < 0:
            raise ValueError(f"it is damaged (an array of the size {shortened(str(shape), 60)})")
        name, rest = self._text(rest)
        if kind == _CELL:
            return name, self._inner(rest, math.prod(shape), depth)[0]
        if kind == _STRUCT:
            return name, self._structs(rest, math.prod(shape), depth)
        if kind == _CHAR:
            return name, self._text(rest)[0] if math.prod(shape) else ""
        values, _ = self._numbers(rest)
        if len(values) != math.prod(shape):
            raise ValueError(f"it is damaged (an array of the size {shortened(str(shape), 60)} with {len(values)} values)")
        return name, None if word & _COMPLEX else values.reshape(shape, order="F")

    def _name_of_skipped(self, view: memoryview) -> str:
        """Return the name of an array that is not read; "" for an opaque one, which has no dimensions before its name."""
        try:
            return self._text(self._numbers(view)[1])[0]
        except (ValueError, struct.error):
            return ""

    def _text(self, view: memoryview) -> tuple[str, memoryview]:
        kind, body, rest = self._element(view)
        if kind not in _TEXTS:
            raise ValueError(f"it is damaged (an element of type {kind} where text was expected)")
        encoding = _TEXTS[kind] + {"<": "-le", ">": "-be"}[self._order] * (_TEXTS[kind] in ("utf-16", "utf-32"))
        return str(body, encoding), rest

    def _inner(self, view: memoryview, count: int, depth: int) -> tuple[list[Value], memoryview]:
        """Return ``count`` arrays that follow one another; each takes at least the eight bytes of its tag."""
        if count * 8 > len(view) or count > MAX_PARTS:
            raise ValueError(f"it is damaged ({count} cells or fields in {len(view)} bytes)")
        values = []
        for _ in range(count):
            kind, body, view = self._element(view)
            if kind != _MATRIX:
                raise ValueError(f"it is damaged (an element of type {kind} where an array was expected)")
            values.append(self._matrix(body, depth + 1)[1])
        return values, view

    def _structs(self, view: memoryview, count: int, depth: int) -> list[dict[str, Value]]:
        width, view = self._numbers(view)
        _, names, view = self._element(view)
        if len(width) != 1 or not 0 < int(width[0]) <= 1024 or len(names) % int(width[0]):
            raise ValueError("it is damaged (a struct without the names of its fields)")
        length = int(width[0])
        fields = [str(names[i : i + length], "latin-1").partition("\0")[0] for i in range(0, len(names), length)]
        values, _ = self._inner(view, count * len(fields), depth)
        self._parts += count
        if self._parts > MAX_PARTS:
            raise ValueError(f"it holds more than {MAX_PARTS} structs")
        return [dict(zip(fields, values[i * len(fields) : (i + 1) * len(fields)], strict=True)) for i in range(count)]
