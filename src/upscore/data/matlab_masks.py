"""Find the mask in a MATLAB file: the one matrix of whole numbers in its variables, or in their structs.

SBD, SIFT Flow, PASCAL-Context and NYUDv2 store masks so, and know the names of :data:`KNOWN`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import MAX_PIXELS
from upscore.matlab_files import Value, parse_matlab
from upscore.text import listed, reason

__all__ = ["KNOWN", "find_matrix"]

KNOWN = ("S", "LabelMap", "segmentation", "GTcls.Segmentation", "GTinst.Segmentation")
"""Matrices that are masks, whatever other matrices are in the file."""

_MAX_BYTES = 2 * MAX_PIXELS


def find_matrix(file: EncodedImage) -> npt.NDArray[Any]:
    """Return the mask of a MATLAB file, (H, W), as it is stored.

    A DataError is raised where the file is damaged, of MATLAB's format 7.3, or holds no such matrix or several.
    """
    try:
        variables = parse_matlab(file.data, max_bytes=_MAX_BYTES)
    except ValueError as error:
        raise file.error(f"the MATLAB file cannot be read: {reason(error, 200)}") from error
    matrices = dict(_matrices("", variables))
    chosen = [name for name in KNOWN if name in matrices] or list(matrices)
    if len(chosen) != 1:
        found = listed(chosen) if chosen else f"the variables {listed(list(variables)) or 'none'}"
        raise file.error(f"the MATLAB file holds {len(chosen)} matrices that may be a mask, found {found}: save one, of whole numbers")
    matrix = matrices[chosen[0]]
    if matrix.size > MAX_PIXELS:
        raise file.error(f"the mask has {matrix.size} pixels, expected at most {MAX_PIXELS}")
    return np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("="))


def _matrices(name: str, value: Value) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the matrices in a value with their names; those in the fields of a struct as ``struct.field``."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping):
        for field, inner in value.items():
            yield from _matrices(f"{name}.{field}" if name else str(field), inner)
    elif isinstance(value, np.ndarray) and value.ndim == 2 and min(value.shape) > 1:
        yield name, value
