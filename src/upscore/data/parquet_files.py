"""Read the images in the columns of Parquet files, in which Hugging Face stores datasets.

A column of images holds structs of ``bytes`` and ``path``, or bytes alone. The file's footer is read first; then the group of rows (some
hundreds) that holds the image, one column of it at a time. The last few of these stay in memory as long as a dataset of such files does.

Memory is bounded whatever a file states. Before a group is read the headers of its pages are (:mod:`upscore.data.parquet_pages`): all
that is decompressed at a time, and all values of a column in a group once written out, are at most 2 GiB.

The package pyarrow reads the format. It is optional: ``pip install 'upscore[parquet]'``.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from upscore.data.parquet_pages import Chunk, measure_pages, read_chunks
from upscore.errors import DataError
from upscore.files import check_file, read_file
from upscore.text import reason

__all__ = ["PARQUET_SUFFIX", "ParquetTable", "RowGroups", "read_image_bytes", "read_image_paths", "read_table", "row_groups"]

PARQUET_SUFFIX = ".parquet"
"""Ending of the files' names, in lower case."""

_MAX_ROWS = 5_000_000
_MAX_GROUP = 2**32  # bytes of a group of rows, as the footer states them
_MAX_COLUMN = 2**31  # bytes of a column in a group of rows: its pages once decompressed, and its values
_MAX_IMAGE = 2**30
_MAX_METADATA = 2**24
_GROUPS_IN_MEMORY = 4  # of images and masks, while threads go from one group to the next
_FOOTERS_IN_MEMORY = 64
_BUFFER = 2**20  # bytes that are read at a time


@dataclass(frozen=True)
class ParquetTable:
    """What the footer of a file says."""

    file: Path
    rows: int
    image_columns: tuple[str, ...]  #: those that hold images
    features: dict[str, Any] = field(default_factory=dict)  #: Hugging Face's description of each column; empty where there is none


def read_table(file: Path) -> ParquetTable:
    """Read the footer of a Parquet file.

    Raises
    ------
    DataError
        pyarrow is not installed, the file is no such file, or it has too many rows or too large groups of them.
    """
    with _opened(file) as table:
        schema = table.schema_arrow
        columns = tuple(column.name for column in schema if _is_image(column.type))
        return ParquetTable(file, table.metadata.num_rows, columns, _features(schema.metadata or {}))


def read_image_paths(file: Path, column: str) -> list[str | None]:
    """Return the path that each row of a column of images gives, None where it gives none; no image is read."""
    with _opened(file) as table:
        if not _is_struct(table.schema_arrow.field(column).type):
            return [None] * table.metadata.num_rows
        paths: list[str | None] = []
        in_memory = 0
        chunks = _chunks(file)
        for group in range(table.metadata.num_row_groups):
            for values in _read_leaves(file, table, chunks, group, [f"{column}.path"], _MAX_COLUMN - in_memory):
                in_memory += values.nbytes
                paths += [None if value is None else str(value) for value in values.field("path").to_pylist()]
        return paths


def read_image_bytes(file: Path, column: str, row: int) -> bytes:
    """Return the encoded image in a row of a column, counted from 1.

    Where the row holds no bytes, its path is read, which must lead to a file below the folder of the Parquet file, or the one above.

    Raises
    ------
    DataError
        As by :func:`read_table`; there is no such row or column, or it holds no image.
    """
    value = row_groups().value(file, column, row)
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, bytes) and data:
        return data
    if not isinstance(path, str) or not path:
        raise DataError(f"{file}: row {row} has no image in '{column}', expected bytes or a path")
    return read_file(_find(file, path, row), max_bytes=_MAX_IMAGE, what="an image")


def _find(file: Path, path: str, row: int) -> Path:
    parts = path.replace("\\", "/").split("/")
    if "\0" not in path and ".." not in parts and not os.path.isabs(path):
        for folder in (file.parent, file.parent.parent):
            found = folder.joinpath(*parts)
            if found.is_file():
                return found
    raise DataError(f"{file}: row {row} names the image {path[:200]!r}, which is not below {file.parent}")


class RowGroups:
    """The groups of rows that were read last, a column each. Threads share them, and a group is read once at a time.

    All datasets of Parquet files in a process hold the same, from :func:`row_groups`; in another process they have those there.
    """

    def __init__(self) -> None:
        self._read: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._footers: OrderedDict[tuple[object, ...], list[list[Chunk]]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[[], RowGroups], tuple[()]]:
        return row_groups, ()

    def renew_lock(self) -> None:
        """Forget who holds the lock, in a new process."""
        self._lock = threading.Lock()

    def value(self, file: Path, column: str, row: int) -> Any:
        """Return the value of a column in a row, counted from 1."""
        found = file.stat()
        identity = (str(file), found.st_mtime_ns, found.st_size)
        with self._lock:
            for key in reversed(self._read):
                if key[:4] == (*identity, column) and key[4] < row <= key[5]:  # type: ignore[operator]
                    self._read.move_to_end(key)
                    return _as_python(file, column, row, self._read[key][row - 1 - int(str(key[4]))])
            with _opened(file) as table:
                begin, end, group = _group_of(file, table.metadata, row)
                if column not in table.schema_arrow.names:
                    raise DataError(f"{file}: has no column '{column}'")
                values = self._read_group(file, table, identity, group, column)
                if len(values) != end - begin:
                    raise ValueError(f"group {group + 1} holds {len(values)} rows, and its footer states {end - begin}")
                chosen = _as_python(file, column, row, values[row - 1 - begin])
            self._read[(*identity, column, begin, end)] = values
            return chosen

    def _read_group(self, file: Path, table: Any, identity: tuple[object, ...], group: int, column: str) -> Any:
        import pyarrow

        if identity not in self._footers:
            self._footers[identity] = _chunks(file)
            if len(self._footers) > _FOOTERS_IN_MEMORY:
                self._footers.popitem(last=False)
        kind = table.schema_arrow.field(column).type
        leaves = [f"{column}.bytes", f"{column}.path"] if _is_struct(kind) else [column]
        while len(self._read) >= _GROUPS_IN_MEMORY or sum(values.nbytes for values in self._read.values()) > _MAX_COLUMN:
            self._read.popitem(last=False)
        parts = list(_read_leaves(file, table, self._footers[identity], group, leaves, _MAX_COLUMN))
        return pyarrow.chunked_array(parts, None if parts else kind)


def _as_python(file: Path, column: str, row: int, cell: Any) -> Any:
    """Return a cell's value; its size is checked before it is copied."""
    binary = cell["bytes"] if cell.is_valid and _is_struct(cell.type) else cell
    if binary.is_valid and (size := binary.as_buffer().size) > _MAX_IMAGE:
        raise DataError(f"{file}: row {row} holds {size} bytes in '{column}', expected at most {_MAX_IMAGE}")
    return cell.as_py()


_shared: weakref.ref[RowGroups] | None = None


def row_groups() -> RowGroups:
    """Return the groups of rows in memory, which whoever reads many images holds; they are forgotten when nobody does any more."""
    global _shared
    found = None if _shared is None else _shared()
    if found is None:
        found = RowGroups()
        _shared = weakref.ref(found)
    return found


def _renew_lock() -> None:
    if _shared is not None and (found := _shared()) is not None:
        found.renew_lock()


os.register_at_fork(after_in_child=_renew_lock)


def _chunks(file: Path) -> list[list[Chunk]]:
    with file.open("rb") as opened:
        return read_chunks(opened, _MAX_METADATA)


def _read_leaves(file: Path, table: Any, chunks: list[list[Chunk]], group: int, leaves: Sequence[str], max_bytes: int) -> Iterator[Any]:
    """Yield the values of a group of rows in parts; ValueError where they take more than ``max_bytes``."""
    rows = table.metadata.row_group(group).num_rows
    with file.open("rb") as opened:
        pages = [measure_pages(opened, chunk, rows) for chunk in chunks[group] if ".".join(chunk.path) in leaves]
    if len(pages) != len(leaves):
        raise ValueError(f"group {group + 1} of its rows has no {' and '.join(leaves)}")
    if sum(sizes.total for sizes in pages) > max_bytes:
        raise ValueError(f"the pages of {leaves[0]} take more than {max_bytes} bytes in a group of rows once decompressed")
    # Rows may all refer to one long value in a dictionary: in memory each has its own.
    longest = sum(sizes.dictionary for sizes in pages)
    step = max(1, min(rows, max_bytes // 8 // longest) if longest else rows)
    total = 0
    for batch in table.iter_batches(step, row_groups=[group], columns=list(leaves), use_threads=False):
        total += batch.nbytes
        if total > max_bytes:
            raise ValueError(f"the values of {leaves[0]} take more than {max_bytes} bytes in a group of rows")
        yield batch.column(0)


def _group_of(file: Path, metadata: Any, row: int) -> tuple[int, int, int]:
    """Return the first row of the group that holds a row, the one after its last, both from 0, and its number."""
    begin = 0
    for group in range(metadata.num_row_groups):
        end = begin + metadata.row_group(group).num_rows
        if begin < row <= end:
            return begin, end, group
        begin = end
    raise DataError(f"{file}: has no row {row}, expected 1 to {begin}")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a file whose footer was checked; errors of pyarrow, which raises nearly anything, become one line."""
    if find_spec("pyarrow") is None:
        raise DataError(f"{file}: Parquet files are read by pyarrow, which is not installed: pip install 'upscore[parquet]'")
    import pyarrow.parquet

    check_file(file, what="Parquet")
    try:
        with pyarrow.parquet.ParquetFile(
            str(file),
            thrift_string_size_limit=_MAX_METADATA,
            thrift_container_size_limit=_MAX_METADATA,
            pre_buffer=False,
            buffer_size=_BUFFER,
        ) as table:
            _check(table.metadata)
            yield table
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: cannot be read as Parquet ({reason(error)}): copy or export it again") from None


def _check(metadata: Any) -> None:
    if not 0 <= metadata.num_rows <= _MAX_ROWS:
        raise ValueError(f"it states {metadata.num_rows} rows, expected at most {_MAX_ROWS}")
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        # What pyarrow tells of a group's columns is not asked for: where a footer is damaged it ends the process instead of raising.
        if group.num_rows < 0 or not 0 <= group.total_byte_size <= _MAX_GROUP:
            raise ValueError(f"group {number + 1} of its rows states {group.total_byte_size} bytes, expected at most {_MAX_GROUP}")
        total += group.num_rows
    if total != metadata.num_rows:
        raise ValueError(f"it states {metadata.num_rows} rows, and its groups hold {total}")


def _is_struct(kind: Any) -> bool:
    import pyarrow

    parts = {part.name: part.type for part in kind} if pyarrow.types.is_struct(kind) else {}
    text = (pyarrow.string(), pyarrow.large_string(), pyarrow.null())
    return _is_binary(parts.get("bytes")) and parts.get("path") in text


def _is_image(kind: Any) -> bool:
    return _is_struct(kind) or _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    import pyarrow

    return kind is not None and bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get(b"huggingface", b"{}")[:_MAX_METADATA])
        found = content["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {str(name): feature for name, feature in found.items()} if isinstance(found, dict) else {}
