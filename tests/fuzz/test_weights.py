"""Weights files and bundles of anyone's making: taken, or refused in one line; nothing in them runs."""

import functools
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from fuzz.examples import altered, fuzz, taken_or_refused
from upscore.models.bundle import Bundle
from upscore.models.weights import read_weights
from upscore.models.zoo import create_model
from upscore.types import LabelSpace

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "n": torch.tensor(3)}


def torch_bytes(value, *, zipped=True):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def npz_bytes(write=np.savez, **arrays):
    buffer = io.BytesIO()
    write(buffer, **arrays)
    return buffer.getvalue()


ARRAYS = {"conv1_0": np.arange(12.0, dtype=np.float32).reshape(2, 3, 2), "conv1_1": np.zeros(2, np.int8)}
VALID = {
    "zip.pth": torch_bytes({"state_dict": STATE, "epoch": 3}),
    "old.pth": torch_bytes(STATE, zipped=False),
    "whole.pth": torch_bytes(torch.nn.Linear(2, 2)),
    "w.safetensors": save(STATE),
    "plain.npz": npz_bytes(**ARRAYS),
    "packed.npz": npz_bytes(np.savez_compressed, **ARRAYS),
}
CHUNKS = (
    b"\x80\x02", b"cos\nsystem\n", b"cbuiltins\neval\n", b"(", b"R", b".", b"\x8c\xff", b"B\xff\xff\xff\x7f",
    b"\x8e" + b"\xff" * 7 + b"\x00", b"\x8a\xff" + b"\x7f" * 255, b"PK\x03\x04", b"PK\x05\x06", b"\x00" * 64, b"\xff" * 16,
    b"F32", b"F8_E4M3", b"data_offsets", b"__metadata__", b"'shape': (99999999999,)", b"'descr': '|O'", b"\x93NUMPY\x03\x00",
)  # fmt: skip


def tried(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    with taken_or_refused():
        read_weights(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize("name", VALID)
def test_altered_files(folder, name):
    @fuzz
    @given(altered(VALID[name], CHUNKS))
    @example(b"")
    @example(VALID[name][:-1])
    def test(data):
        tried(folder, name, data)

    test()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz"])
def test_any_bytes(folder, name):
    @fuzz
    @given(st.binary(max_size=300))
    def test(data):
        tried(folder, name, data)

    test()


OPERATIONS = (
    *(b"(", b"t", b"l", b"d", b"}", b"]", b")", b"0", b"2", b"N", b"R", b"b", b"o", b"a", b"e", b"s", b"u", b"q\x01", b"h\x01", b"K\x01"),
    *(b"\x81", b"\x85", b"\x90", b"\x92", b"\x93", b"X\x03\x00\x00\x00abc", b"X\x05\x00\x00\x00touch", b"\x8c\x07weights"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"cposix\nsystem\n", b"cargparse\nNamespace\n"),
    b"ccollections\nOrderedDict\n",
)
opcodes = st.lists(st.sampled_from(OPERATIONS), max_size=40)


@fuzz
@given(opcodes, st.booleans())
def test_pickles_of_any_program(folder, program, zipped):
    data = b"\x80\x02" + b"".join(program) + b"."
    if zipped:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/data/0", bytes(16))
        data = buffer.getvalue()
    before = set(os.listdir("."))
    tried(folder, "p.pth", data)
    assert set(os.listdir(".")) == before


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
tops = st.sampled_from(["state_dict", "model", "a", "ema"])
checkpoints = st.recursive(
    plain | st.binary(max_size=8) | st.just(STATE), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tops, inner, max_size=3)
)


@fuzz
@given(checkpoints)
def test_checkpoints_of_any_plain_values(folder, value):
    tried(folder, "c.pth", torch_bytes(value))
    tried(folder, "c.pth", pickle.dumps(value))


headers = st.dictionaries(
    st.text(max_size=6) | st.just("a"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I64", "BOOL", "F4", "U64", "F8_E5M2", "", 3]),
            "shape": st.lists(st.integers(-1, 2**40), max_size=4),
            "data_offsets": st.lists(st.integers(-1, 2**62), min_size=1, max_size=3),
        }
    )
    | st.text(max_size=5),
    max_size=4,
)


@fuzz
@given(headers, st.binary(max_size=64), st.integers(-4, 4))
def test_headers_of_any_content(folder, header, data, off):
    text = json.dumps(header).encode()
    tried(folder, "h.safetensors", struct.pack("<Q", max(0, len(text) + off)) + text + data)


@functools.cache
def small_bundle():
    arguments = {"backbone": "vgg16", "num_classes": 2, "width": 1 / 64}
    return Bundle.of("fcn32s", arguments, create_model("fcn32s", **arguments), LabelSpace(("a", "b")), card={"history": [{"loss": 1.0}]})


odd = st.sampled_from([10**400, -1, 0, 2**70, "tf_efficientnet_l2", "resnet18", "../x", "\x1b[2J"])
keys = st.text(max_size=6) | st.sampled_from(["num_classes", "backbone", "width", "history"])
values = st.recursive(plain | odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6)
KEYS = ("architecture", "arguments", "labels", "inference", "card", "weights", "version", "format", "more")


@fuzz
@given(st.sampled_from(KEYS), values, st.booleans())
def test_descriptions_of_any_content(tmp_path_factory, key, value, inside):
    place = tmp_path_factory.getbasetemp() / "bundle"
    if not place.exists():
        small_bundle().save(place)
        (place / "kept.json").write_bytes((place / "bundle.json").read_bytes())
    description = json.loads((place / "kept.json").read_text())
    if inside and isinstance(description.get(key), dict) and isinstance(value, dict):
        description[key] |= value
    else:
        description[key] = value
    (place / "bundle.json").write_text(json.dumps(description))
    with taken_or_refused():
        Bundle.load(place)
