"""Caffe's own files: what is in them, and what is wrong with those that are none."""

import numpy as np
import pytest

from caffe_files import blob, caffemodel, field, varint
from upscore.errors import ModelError
from upscore.models.weights import caffemodel as module
from upscore.models.weights import read_weights

KERNEL = np.arange(12, dtype=np.float32).reshape(2, 1, 3, 2)


def read(path, content):
    (path / "w.caffemodel").write_bytes(content)
    return read_weights(path / "w.caffemodel")


def layer(*blobs, name=b"conv"):
    return field(100, field(1, name) + b"".join(field(7, content) for content in blobs))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_blobs_by_layer_and_index(tmp_path, version):
    found = read(tmp_path, caffemodel({"inception_3a/1x1": [KERNEL, np.array([1.0, 2.0])]}, version=version))
    assert list(found) == ["inception_3a/1x1.weight", "inception_3a/1x1.bias"]
    assert np.array_equal(found["inception_3a/1x1.weight"].numpy(), KERNEL)
    assert found["inception_3a/1x1.bias"].shape == ((2,) if version == 2 else (1, 1, 1, 2))


def test_caffes_batch_norm_is_divided_by_its_factor(tmp_path):
    found = read(tmp_path, caffemodel({"bn": [np.array([2.0, 4.0]), np.array([6.0, 8.0]), np.array([2.0])]}))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"bn.running_mean": [1.0, 2.0], "bn.running_var": [3.0, 4.0]}


def test_a_scalar_and_numbers_without_a_shape(tmp_path):
    content = layer(blob(np.array(3.0)), name=b"scale") + layer(field(5, np.array([1.0, 2.0], "<f4").tobytes()), name=b"flat")
    found = read(tmp_path, content)
    assert (found["scale.weight"].shape, float(found["scale.weight"])) == ((), 3.0)
    assert found["flat.weight"].tolist() == [1.0, 2.0]


def test_numbers_in_several_pieces_and_forms(tmp_path):
    piece = field(5, np.array([1.0, 2.0], "<f4").tobytes())
    single = b"".join(varint(5 << 3 | 5) + np.array(value, "<f4").tobytes() for value in range(200))
    found = read(tmp_path, layer(piece + single + field(1, 1) + piece + field(2, 204) + field(3, 1) + field(4, 1)))
    assert found["conv.weight"].flatten().tolist() == [1, 2, *range(200), 1, 2]


def test_gradients_and_whatever_else_is_there_are_skipped(tmp_path):
    gradient = field(6, np.ones(9, "<f4").tobytes())
    content = field(1, b"net") + field(77, b"unknown") + varint(78 << 3 | 5) + bytes(4) + varint(79 << 3 | 1) + bytes(8)
    assert list(read(tmp_path, content + layer(gradient + blob(KERNEL)))) == ["conv.weight"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has 0 bytes"),
        (b"name: 'VGG'\nlayer { name: 'conv1' }", r"see that it is no prototxt or web page saved under this name"),
        (b"<!DOCTYPE html><html><head>", "not a readable Caffe network"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "not a readable Caffe network"),
        (caffemodel({"conv": [KERNEL]})[:-3], "truncated or damaged"),
        (field(1, b"net"), "holds no layer with weights"),
        (layer(), "holds no layer with weights"),
        (b"\xff" * 11, "a number of more than 64 bits"),
        (b"\xa2", "a number that is truncated"),
        (varint(100 << 3 | 2) + varint(2**63), "a field of 9223372036854775808 bytes where 0 are left"),
        (layer(field(5, bytes(6))), "6 bytes of numbers of 4 bytes each"),
        (layer(varint(5 << 3 | 5) + bytes(3)), "a number that is truncated"),
        (layer(field(1, 3) + field(5, bytes(8))), r"a blob of the shape \[3, 0, 0, 0\] with 2 numbers"),
        (layer(field(7, field(1, varint(2**63) + varint(2))) + field(5, bytes(8))), "a blob of the shape .9223372036854775808, 2. with 2"),
        (layer(field(7, field(1, varint(2**64 - 1))) + field(5, bytes(4))), "a blob of the shape"),
        (layer(field(7, field(1, varint(1) * 40)) + field(5, bytes(4))), "a blob of more than 32 axes"),
        (layer(*[blob(KERNEL)] * 5), "holds in 'conv' 5 blobs, expected at most 4"),
        (layer(blob(KERNEL)) * 2, "holds two layers 'conv' with blobs"),
        (layer(blob(KERNEL), name=b"n" * 2000), "a layer's name of 2000 bytes"),
        (varint(7 << 3 | 3) + bytes(20), "a field 7 of type 3"),
        (bytes(20), "a field 0 of type 0"),
    ],
)
def test_what_is_no_network_is_one_line(tmp_path, content, complaint):
    with pytest.raises(ModelError, match=complaint) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_work_is_bounded_whatever_a_file_repeats(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FIELDS", 1000)
    run = varint(5 << 3 | 5) + bytes(4) + field(9, b"")
    for content in (field(8, 1) * 2000, layer(run * 1000), layer() * 1000):
        with pytest.raises(ModelError, match="more than 1000 fields"):
            read(tmp_path, content)


def test_a_file_beyond_the_limit_is_not_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match="expected a Caffe network of 1 to 100"):
        read(tmp_path, caffemodel({"conv": [np.zeros(100)]}))
