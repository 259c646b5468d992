"""Write small networks in the format of Caffe's files, by hand: the bytes of a protocol buffer."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from mat_bytes import cell, structs


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: bytes | int) -> bytes:
    """A field of bytes (wire type 2) or of a whole number (wire type 0)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(values: np.ndarray, *, legacy: bool = False, packed: bool = True, double: bool = False) -> bytes:
    """A BlobProto; ``legacy`` has num, channels, height and width in place of a shape."""
    if legacy:
        sizes = (1,) * (4 - values.ndim) + values.shape
        head = b"".join(field(number, size) for number, size in enumerate(sizes, start=1))
    else:
        head = field(7, field(1, b"".join(varint(size) for size in values.shape)))
    number, item = (8, "<f8") if double else (5, "<f4")
    data = np.ascontiguousarray(values, item)
    if packed:
        return head + field(number, data.tobytes())
    tag = varint(number << 3 | (1 if double else 5))
    return head + b"".join(tag + struct.pack("<d" if double else "<f", value) for value in data.ravel())


def caffemodel(layers: Mapping[str, Sequence[np.ndarray]], *, version: int = 2, **form: bool) -> bytes:
    """A NetParameter with layers of these names and blobs, as Caffe of this version wrote it: 0, 1 or 2."""
    parts = [field(1, b"network"), field(100 if version == 2 else 2, field(1, b"data") if version == 2 else field(4, b"data"))]
    for name, blobs in layers.items():
        written = [blob(values, **{"legacy": version < 2} | form) for values in blobs]
        if version == 2:
            layer = field(1, name.encode()) + field(2, b"Convolution") + field(3, b"bottom") + b"".join(field(7, b) for b in written)
            parts.append(field(100, layer + field(106, field(1, 64))))
        elif version == 1:
            parts.append(field(2, field(2, b"bottom") + field(4, name.encode()) + field(5, 4) + b"".join(field(6, b) for b in written)))
        else:
            inner = field(1, name.encode()) + field(2, b"conv") + b"".join(field(50, b) for b in written)
            parts.append(field(2, field(1, inner) + field(2, b"bottom")))
    return b"".join(parts)


def layers_of(state: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The blobs of each layer, in Caffe's order, of tensors by name; counters of batch normalisation are no blobs."""
    layers: dict[str, list[np.ndarray]] = {}
    for kind in ("weight", "bias", "running_mean", "running_var"):
        for name, values in state.items():
            if name.rpartition(".")[2] == kind:
                layers.setdefault(name.rpartition(".")[0], []).append(values)
    return {layer: layers[layer] for layer in dict.fromkeys(name.rpartition(".")[0] for name in state) if layer in layers}


def matconvnet(layers: Mapping[str, Sequence[np.ndarray]], *, dag: bool) -> dict[str, object]:
    """The variables of MatConvNet's file for a network of convolutions: (height, width, inputs, outputs), the first one for RGB."""
    rows, params = [], []
    for index, (name, blobs) in enumerate(layers.items()):
        kernel, *biases = blobs
        kernel = kernel.reshape(*kernel.shape, *(1,) * (4 - kernel.ndim))
        values = [(kernel[:, ::-1] if index == 0 else kernel).transpose(2, 3, 1, 0), *(bias.reshape(-1, 1) for bias in biases)]
        names = [f"{name}{letter}" for letter in "fb"[: len(values)]]
        params += zip(names, values, strict=True)
        rows.append({"name": name, "params": cell(names), "block": {"stride": 1.0}} if dag else {"name": name, "weights": cell(values)})
        rows.append({"name": f"relu{index}", "params": cell([]), "block": 0.0} if dag else {"name": f"relu{index}", "type": "relu"})
    if not dag:
        return {"layers": cell(rows), "meta": {"normalization": {"averageImage": np.zeros((1, 1, 3))}}}
    return {"layers": structs(rows), "params": structs([{"name": name, "value": value} for name, value in params])}
