"""Parquet files as Hugging Face writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(pixels: np.ndarray, **options: Any) -> bytes:
    """Return an encoded image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def write_parquet(
    file: Path, columns: Mapping[str, Sequence[Any]], *, group: int = 2, features: Mapping[str, Any] | None = None, **options: Any
) -> Path:
    """Write columns of structs of bytes and path, of bytes or of numbers, in groups of rows; with pyarrow's options."""
    import pyarrow as arrow
    import pyarrow.parquet

    struct = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    arrays = {name: arrow.array(values, struct if isinstance(values[0], dict) else None) for name, values in columns.items()}
    described = features or {name: {"_type": "Image"} for name, values in columns.items() if isinstance(values[0], dict)}
    table = arrow.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": described}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, str(file), row_group_size=group, **options)
    return file


def state_small_sizes(file: Path, size: int = 1000) -> None:
    """Let the footer of a file state ``size`` bytes for each column and group of rows, whatever they take."""
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(str(file))
    stated = set()
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        stated |= {group.total_byte_size, *(group.column(number).total_uncompressed_size for number in range(group.num_columns))}
    data = file.read_bytes()
    end = len(data) - 8
    begin = end - int.from_bytes(data[end : end + 4], "little")
    footer = data[begin:end]
    for large in stated:
        if large > size:
            footer = footer.replace(_varint(large), _varint(size, len(_varint(large))))
    file.write_bytes(data[:begin] + footer + data[end:])
    metadata = pyarrow.parquet.read_metadata(str(file))
    assert all(metadata.row_group(number).total_byte_size <= size for number in range(metadata.num_row_groups))


def _varint(number: int, length: int = 0) -> bytes:
    """Return a number of 64 bits of Thrift's compact protocol, of a length in bytes where it is given."""
    value, found = number << 1, []
    while value or len(found) < length or not found:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found[:-1], found[-1] & 127])
