"""Read a network of MatConvNet, ``.mat``: VGG16 as its authors publish it, and the FCNs that were ported from Caffe.

A network is in the variables of the file, or in the fields of one variable ``net``::

    DagNN       layers: struct array of name, params (a cell of names)      params: struct array of name, value
    SimpleNN    layers: cell of structs of name, weights (a cell of arrays), or filters and biases

A convolution's arrays are (height, width, inputs, outputs), and its first layer takes RGB. Here they become Caffe's: (outputs,
inputs, height, width), the first layer for BGR. So does a transposed convolution's, (height, width, outputs, inputs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from upscore.errors import ModelError
from upscore.files import read_file
from upscore.matlab_files import Value, parse_matlab
from upscore.models.weights.caffe_arrays import ALWAYS_READ, MAX_BYTES, MAX_COMPRESSION, as_float32, blob_names
from upscore.text import shortened

__all__ = ["read_matconvnet"]

_EXPECTED = "expected a network of MatConvNet: 'layers', with 'params' where it is a DagNN"


def read_matconvnet(path: Path) -> dict[str, Tensor]:
    """Return a network's weights as tensors named ``layer.weight`` and ``layer.bias``, arranged as Caffe's, for BGR.

    ModelError where the file is of another format of MATLAB's, is damaged, too large or no network, or its layers are other than
    convolutions.
    """
    content = read_file(path, max_bytes=MAX_BYTES, what="a network of MatConvNet", error=ModelError)
    maximum = min(MAX_BYTES, max(ALWAYS_READ, MAX_COMPRESSION * len(content)))
    try:
        variables = parse_matlab(content, max_bytes=maximum)
    except ValueError as error:
        raise ModelError(f"'{path}' is not a readable weights file: {error}") from error
    net = variables.get("net", [variables])
    fields = net[0] if isinstance(net, list) and net and isinstance(net[0], Mapping) else {}
    found: dict[str, Tensor] = {}
    takes_image = True
    for name, arrays in _layers(fields):
        if not isinstance(name, str) or not name or any(not _is_numbers(array) for array in arrays):
            raise ModelError(f"'{path}' holds a layer '{shortened(str(name))}' without arrays of numbers, {_EXPECTED}")
        if len(arrays) > 2 or f"{name}.weight" in found:
            raise ModelError(
                f"'{path}' holds in '{shortened(name)}' {len(arrays)} arrays, or it twice: expected a convolution's filters and biases"
            )
        if not arrays:
            continue
        filters = arrays[0]
        kernel = filters.reshape(*filters.shape, *(1,) * (4 - filters.ndim)).transpose(3, 2, 0, 1)
        if takes_image and kernel.shape[1] == 3:
            kernel = kernel[:, ::-1]
        takes_image = False
        flat = [array.ravel(order="F") for array in arrays[1:]]
        found |= {blob: as_float32(values) for blob, values in zip(blob_names(name), [kernel, *flat], strict=False)}
    if not found:
        raise ModelError(f"'{path}' holds no weights: found the variables {shortened(', '.join(variables) or 'none')}, {_EXPECTED}")
    return found


def _layers(net: Mapping[str, Any]) -> Iterator[tuple[Value, list[Value]]]:
    """Yield the name of each layer of a network, and its arrays of weights."""
    params, layers = net.get("params"), net.get("layers")
    values = {param.get("name"): param.get("value") for param in _structs(params) if isinstance(param.get("name"), str)}
    for layer in _structs(layers):
        if params is not None:
            names = layer.get("params")
            yield (
                layer.get("name"),
                [values.get(name) if isinstance(name, str) else None for name in names] if isinstance(names, list) else [],
            )
        elif isinstance(weights := layer.get("weights"), list):
            yield layer.get("name"), [array for array in weights if not _is_numbers(array) or array.size]
        else:
            yield layer.get("name"), [layer[field] for field in ("filters", "biases") if field in layer]


def _structs(value: Value) -> Iterator[Mapping[str, Value]]:
    """Yield the structs of a struct array, or of a cell of structs."""
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            yield item
        elif isinstance(item, list):
            yield from (inner for inner in item[:1] if isinstance(inner, Mapping))


def _is_numbers(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.ndim <= 4
