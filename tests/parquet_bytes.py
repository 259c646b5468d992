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


def write_parquet(file: Path, columns: Mapping[str, Sequence[Any]], *, group: int = 2, features: Mapping[str, Any] | None = None) -> Path:
    """Write columns of structs of bytes and path, of bytes or of numbers, in groups of rows."""
    import pyarrow as arrow
    import pyarrow.parquet

    struct = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    arrays = {name: arrow.array(values, struct if isinstance(values[0], dict) else None) for name, values in columns.items()}
    described = features or {name: {"_type": "Image"} for name, values in columns.items() if isinstance(values[0], dict)}
    table = arrow.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": described}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, str(file), row_group_size=group)
    return file
