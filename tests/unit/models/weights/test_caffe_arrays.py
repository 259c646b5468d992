"""Caffe's blobs as NumPy arrays: every way of naming them, and files that are not what they say."""

import io
import zipfile

import numpy as np
import pytest
import torch

from upscore.errors import ModelError
from upscore.models.weights import caffe_arrays, read_weights


@pytest.mark.parametrize(
    ("weight", "bias"),
    [("/0", "/1"), ("_0", "_1"), ("_w", "_b"), ("_W", "_b"), ("/weights", "/biases"), (".weight", ".bias")],
)
@pytest.mark.parametrize("layer", ["conv1_1", "conv1/7x7_s2", "fc6-deconv"])
def test_blobs_by_any_name(tmp_path, layer, weight, bias):
    kernel, shift = np.random.rand(2, 3, 4, 5).astype(np.float32), np.arange(2.0)
    np.savez(tmp_path / "w.npz", **{layer + weight: np.asfortranarray(kernel), layer + bias: shift})
    found = read_weights(tmp_path / "w.npz")
    assert set(found) == {f"{layer}.weight", f"{layer}.bias"}
    assert np.array_equal(found[f"{layer}.weight"].numpy(), kernel)
    assert found[f"{layer}.bias"].dtype == torch.float32


def test_caffes_batch_norm_is_divided_by_its_factor(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **{"bn_0": np.array([2.0, 4.0]), "bn_1": np.array([6.0, 8.0]), "bn_2": np.array([2.0])})
    found = read_weights(tmp_path / "w.npz")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"bn.running_mean": [1.0, 2.0], "bn.running_var": [3.0, 4.0]}


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return path


def array_of(shape, descr="<f4", content=b""):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (array_of((10**12,)), "is damaged: 'conv1_0.npy' declares 4000000000000 bytes and has 0"),
        (array_of((3,), content=bytes(11)), "declares 12 bytes and has 11"),
        (saved(np.array([{"a": 1}], dtype=object)), "no array of numbers"),
        (saved(np.array(["a"])), "no array of numbers"),
        (b"not an array", "not a readable weights file"),
        (b"", "not a readable weights file"),
        (array_of("__import__('os').system('x')"), "not a readable weights file"),
        (array_of("(3, "), "not a readable weights file"),
        (array_of("(" * 3000), "not a readable weights file"),
        (array_of("-" * 9000 + "3"), "not a readable weights file"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, content, complaint):
    with pytest.raises(ModelError, match=complaint) as error:
        read_weights(archive(tmp_path / "w.npz", **{"conv1_0.npy": content}))
    assert "\n" not in str(error.value)


def test_names_that_say_no_layer(tmp_path):
    np.savez(tmp_path / "w.npz", conv1=np.zeros(3))
    with pytest.raises(ModelError, match=r"holds an array 'conv1\.npy', expected names of a layer and its blob"):
        read_weights(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", conv1_w=np.zeros(3), conv1_0=np.zeros(3))
    with pytest.raises(ModelError, match=r"holds 'conv1\.weight' twice"):
        read_weights(tmp_path / "w.npz")


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(caffe_arrays, "MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "w.npz", conv1_0=np.zeros(100_000, np.float32))
    assert (tmp_path / "w.npz").stat().st_size < 10_000
    with pytest.raises(ModelError, match="expected at most 10000"):
        read_weights(tmp_path / "w.npz")


def test_files_cut_short(tmp_path):
    np.savez(tmp_path / "w.npz", conv1_0=np.zeros(100))
    whole = (tmp_path / "w.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "w.npz").write_bytes(whole[:length])
        with pytest.raises(ModelError, match="not a readable weights file") as error:
            read_weights(tmp_path / "w.npz")
        assert "\n" not in str(error.value)


def test_small_integers_that_would_swell_to_floats_are_counted_as_what_they_become(tmp_path, monkeypatch):
    monkeypatch.setattr(caffe_arrays, "MAX_BYTES", 10_000)
    path = archive(tmp_path / "w.npz", **{"conv1_0.npy": saved(np.arange(5000, dtype=np.int8))})
    with pytest.raises(ModelError, match="5000 numbers, expected at most 2500"):
        read_weights(path)


def test_a_small_file_does_not_unpack_to_a_large_one(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", conv1_0=np.zeros(2**24, np.int8))
    with pytest.raises(ModelError, match="bytes of arrays, expected at most 16777216"):
        read_weights(tmp_path / "w.npz")


def test_compressed_arrays_that_are_damaged_are_one_line(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", conv1_0=np.random.default_rng(0).normal(size=500))
    content = (tmp_path / "w.npz").read_bytes()
    said = []
    for at in range(0, len(content), 41):
        (tmp_path / "w.npz").write_bytes(content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :])
        try:
            read_weights(tmp_path / "w.npz")  # some bytes, such as a file's date, change nothing
        except ModelError as error:
            said.append(str(error))
    assert any("invalid" in line and "decompressing" in line for line in said)
