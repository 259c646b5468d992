"""Caffe's networks as written by Google's protobuf from caffe.proto's messages, read back number for number."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from upscore.models.weights import read_weights

descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
FIELD = descriptor_pb2.FieldDescriptorProto

# name, number, type and, of a message, its name; those of BVLC/caffe, src/caffe/proto/caffe.proto, that hold weights, and some others
MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("shape", 7, "BlobShape", False), ("data", 5, "float", True), ("diff", 6, "float", True), ("double_data", 8, "double", True),
        ("num", 1, "int32", False), ("channels", 2, "int32", False), ("height", 3, "int32", False), ("width", 4, "int32", False),
    ],
    "LayerParameter": [
        ("name", 1, "string", False), ("type", 2, "string", False), ("bottom", 3, "string", True), ("top", 4, "string", True),
        ("loss_weight", 5, "float", True), ("blobs", 7, "BlobProto", True), ("propagate_down", 11, "bool", True),
    ],
    "V0LayerParameter": [("name", 1, "string", False), ("type", 2, "string", False), ("blobs", 50, "BlobProto", True)],
    "V1LayerParameter": [
        ("bottom", 2, "string", True), ("top", 3, "string", True), ("name", 4, "string", False), ("type", 5, "int32", False),
        ("blobs", 6, "BlobProto", True), ("blobs_lr", 7, "float", True), ("layer", 1, "V0LayerParameter", False),
    ],
    "NetParameter": [
        ("name", 1, "string", False), ("input", 3, "string", True), ("input_dim", 4, "int32", True), ("force_backward", 5, "bool", False),
        ("layers", 2, "V1LayerParameter", True), ("layer", 100, "LayerParameter", True),
    ],
}  # fmt: skip


def build_messages(*, packed: bool) -> dict[str, Any]:
    """The classes of the messages; numbers are packed, as Caffe writes them, or not."""
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name=f"caffe_{packed}.proto", package=f"caffe_{packed}", syntax="proto2")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            if kind in MESSAGES:
                field = described.field.add(
                    name=name, number=number, label=label, type=FIELD.TYPE_MESSAGE, type_name=f".{file.package}.{kind}"
                )
            else:
                field = described.field.add(name=name, number=number, label=label, type=getattr(FIELD, f"TYPE_{kind.upper()}"))
            if repeated and kind in ("float", "double", "int64"):
                field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}")) for name in MESSAGES}


@pytest.mark.parametrize(("version", "packed", "double"), [*itertools.product((0, 1, 2), (True, False), (False, True))])
def test_what_protobuf_writes_is_read_number_for_number(tmp_path, version, packed, double):
    kinds = build_messages(packed=packed)
    rng = np.random.default_rng(0)
    shapes = {"conv1/7x7_s2": [(3, 2, 7, 5), (3,)], "fc8": [(4, 9), (4,)], "bn": [(6,), (6,), (6,), (6,)], "upscore": [(2, 2, 4, 4)]}
    net = kinds["NetParameter"](name="net", input=["data"], input_dim=[1, 3, 500, 500], force_backward=True)
    written = {}
    for name, sizes in shapes.items():
        blobs = []
        for index, shape in enumerate(sizes):
            values = rng.normal(size=shape).astype(np.float64 if double else np.float32)
            blob = kinds["BlobProto"](diff=[0.5] * 3, **{"double_data" if double else "data": values.ravel().tolist()})
            if version == 2:
                blob.shape.dim.extend(shape)
            else:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - len(shape)) + shape
            blobs.append(blob)
            written[f"{name}.{('weight', 'bias', 'running_mean', 'running_var')[index]}"] = values.astype(np.float32)
        if version == 2:
            net.layer.add(name=name, type="Convolution", bottom=["a"], top=["b"], loss_weight=[1.0], blobs=blobs, propagate_down=[True])
        elif version == 1:
            net.layers.add(name=name, type=4, bottom=["a"], top=["b"], blobs=blobs, blobs_lr=[1.0, 2.0])
        else:
            net.layers.add(bottom=["a"], layer=kinds["V0LayerParameter"](name=name, type="conv", blobs=blobs))
    net.layer.add(name="relu", type="ReLU")
    (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString())
    found = read_weights(tmp_path / "w.caffemodel")
    assert found.keys() == written.keys()
    for name, values in written.items():
        assert np.array_equal(found[name].numpy().reshape(values.shape), values)
        assert version < 2 or found[name].shape == values.shape
