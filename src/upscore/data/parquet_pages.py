"""What the pages of a Parquet column take once they are decompressed, by their own headers, before any of them is.

The footer states sizes too, but decoders allocate what the header of each page states. Footer and headers are structs of the compact
protocol of Apache Thrift (https://github.com/apache/parquet-format, parquet.thrift), of which the few fields that matter are taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Chunk", "PageSizes", "measure_pages", "read_chunks"]

_MAX_DEPTH = 16
_FIRST_READ, _MAX_HEADER = 512, 2**20  # bytes of a page's header
_MAX_EMPTY = 100  # pages without a value
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # kinds of pages
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8  # encodings; others state a number of values inside the page
_OTHERS = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}
_INT, _BINARY, _STRUCT = (4, 5, 6), 8, 12  # types of the compact protocol


class Chunk(NamedTuple):
    """Where the pages of a column's leaf are, in a group of rows."""

    path: tuple[str, ...]  #: the names from the column to the leaf
    begin: int  #: in bytes from the beginning of the file
    end: int


@dataclass
class PageSizes:
    """What pages take once decompressed, in bytes."""

    total: int = 0
    dictionary: int = 0  #: the page that holds the values that rows refer to


def read_chunks(file: BinaryIO, max_footer: int) -> list[list[Chunk]]:
    """Return the chunks of each group of rows; ValueError where the footer cannot be read or is longer than ``max_footer`` bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < 8 or tail[4:] != b"PAR1" or length > min(size - 8, max_footer):
        raise ValueError(f"its footer states {length} bytes, expected at most {max_footer} in the file")
    file.seek(size - 8 - length)
    footer = _Compact(file.read(length)).struct()
    return [[_chunk(_struct(column.get(3)), size) for column in _structs(group.get(1))] for group in _structs(footer.get(4))]


def measure_pages(file: BinaryIO, chunk: Chunk, rows: int) -> PageSizes:
    """Return the sizes of the pages of a chunk of ``rows`` rows, whose leaf has one value in each.

    Raises
    ------
    ValueError
        A header is none, has another number of values than there are, or an encoding whose size the header does not tell.
    """
    sizes, found, pages, position = PageSizes(), 0, 0, chunk.begin
    while position < chunk.end and found < rows:
        pages += 1
        if pages > rows + _MAX_EMPTY:
            raise ValueError(f"{rows} rows are in more than {pages - 1} pages")
        header, length = _page_header(file, position, chunk.end)
        kind, size, stored = (header.get(key) for key in (1, 2, 3))
        if not isinstance(size, int) or not isinstance(stored, int) or size < 0 or stored < 0:
            raise ValueError(f"a page states {size} bytes stored as {stored}")
        sizes.total += size
        about = _struct(header.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0)))  # type: ignore[arg-type]
        values, encoding = about.get(1), about.get(4 if kind == _DATA_V2 else 2)
        if kind in (_DATA, _DICTIONARY, _DATA_V2):
            if encoding not in (_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY):
                found_encoding = _OTHERS.get(encoding, f"number {encoding}")  # type: ignore[arg-type]
                raise ValueError(f"the pages of {'.'.join(chunk.path)} have the encoding {found_encoding}, expected PLAIN or a dictionary")
            # A text takes four bytes at least, for its length; null takes less, but not in a dictionary.
            if not isinstance(values, int) or not 0 <= values <= (size // 4 if kind == _DICTIONARY else rows - found):
                raise ValueError(f"a page of {size} bytes states {values} values, of {rows} rows")
        if kind == _DICTIONARY:
            sizes.dictionary = max(sizes.dictionary, size)
        elif kind in (_DATA, _DATA_V2):
            found += int(values or 0)
        position += length + stored
    return sizes


def _page_header(file: BinaryIO, position: int, end: int) -> tuple[dict[int, Any], int]:
    """Return the header of the page at a position, and its length in bytes."""
    length = _FIRST_READ
    while True:
        file.seek(position)
        reader = _Compact(file.read(min(length, end - position)))
        try:
            return reader.struct(), reader.position
        except IndexError:
            if length >= min(_MAX_HEADER, end - position):
                raise ValueError("the header of a page is damaged") from None
            length *= 8


def _chunk(column: dict[int, Any], size: int) -> Chunk:
    path, length, begin, dictionary = (column.get(key) for key in (3, 7, 9, 11))
    if not isinstance(path, list) or not isinstance(length, int) or not isinstance(begin, int):
        raise ValueError("its footer does not state where a column is")
    if isinstance(dictionary, int) and 0 < dictionary < begin:
        begin = dictionary
    if not 0 <= begin <= begin + length <= size:
        raise ValueError(f"its footer states a column in the bytes {begin} to {begin + length}, and the file has {size}")
    return Chunk(tuple(name.decode(errors="replace") for name in path if isinstance(name, bytes)), begin, begin + length)


def _struct(value: Any) -> dict[int, Any]:
    return value if isinstance(value, dict) else {}


def _structs(value: Any) -> list[dict[int, Any]]:
    return [_struct(item) for item in value] if isinstance(value, list) else []


class _Compact:
    """Reads values of the compact protocol; an IndexError is raised at the end of the data, a ValueError where they are none."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return a struct as a dictionary from the numbers of its fields; of maps and sets nothing is returned."""
        fields: dict[int, Any] = {}
        number = 0
        while kind := (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("its structs are nested too deeply")
        if kind in (1, 2, 3):
            return self._byte()
        if kind in _INT:
            return self._integer()
        if kind == 7:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 11:
            count = self._varint()
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._value(kinds >> 4, depth + 1)
                self._value(kinds & 15, depth + 1)
            return None
        if kind == _STRUCT:
            return self.struct(depth)
        raise ValueError(f"found a value of the type {kind}, which there is not")

    def _byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def _bytes(self, count: int) -> bytes:
        begin = self.position
        self.position += count
        if self.position > len(self.data):
            raise IndexError
        return self.data[begin : self.position]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number has more than ten bytes")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
