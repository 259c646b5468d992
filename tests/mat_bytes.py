"""Small MATLAB files as bytes, written by SciPy, always the same."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.io


def mat_bytes(variables: Mapping[str, object], *, compressed: bool = True) -> bytes:
    """A file of format 5; SciPy writes the date into its header, which is left out."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, dict(variables), do_compression=compressed)
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


def cell(values: Sequence[object]) -> np.ndarray:
    """A cell of one row."""
    row = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        row[0, index] = value
    return row


def structs(rows: Sequence[Mapping[str, object]]) -> np.ndarray:
    """A struct array of one row, of objects with the same fields."""
    array = np.zeros((1, len(rows)), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row.values())
    return array
