"""Damaged and hostile weights files and bundles: success or an error in one line, in bounded memory and time."""

import io
import json
import pickle
import resource
import signal
import warnings
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from caffe_files import blob, caffemodel, field, layers_of, matconvnet, varint
from fuzz.examples import altered, fuzz
from mat_bytes import mat_bytes
from upscore.errors import UpscoreError
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, load_model
from upscore.models.factory import create_model
from upscore.models.weights.transplant import holds_whole_network, normalization_of
from upscore.types import LabelSpace

NAME, ARGUMENTS = "fcn8s", {"backbone": "vgg16", "width": 1 / 64}
LABELS = LabelSpace(("ground", "disc", "bar"))

SECONDS = 60
"""After which an input counts as one that hangs."""

GIGABYTES = 2
"""That the process may grow by over all inputs."""


@contextmanager
def bounded():
    """Stop what hangs, and pass on nothing but success and one line."""

    def stop(*_):
        raise AssertionError(f"took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    told = ""
    try:
        yield
    except UpscoreError as error:
        told = str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "\n" not in told
    assert len(told) < 3000


@pytest.fixture(autouse=True)
def bounded_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIGABYTES * 2**20


class State(dict):
    """Tensors by name, of which nobody wants to see the numbers."""

    def __repr__(self):
        return "state"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return State(create_model(NAME, num_classes=len(LABELS), **ARGUMENTS).state_dict())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


def try_weights(path):
    """Do with a file what create_model and a plan do."""
    for ask in (normalization_of, holds_whole_network):
        with bounded():
            ask(path)
    with bounded():
        create_model(NAME, num_classes=len(LABELS), weights=path, report=str, **ARGUMENTS)


edits = st.lists(
    st.tuples(st.sampled_from(("flip", "cut", "put", "repeat")), st.floats(0, 1), st.binary(max_size=9), st.integers(1, 200)), max_size=4
)


def edited(content, changes):
    """Return bytes with some of them changed, left out, put in or repeated."""
    altered = bytearray(content)
    for kind, where, new, count in changes:
        at = int(where * len(altered))
        if kind == "flip" and at < len(altered):
            altered[at] ^= count % 255 + 1
        elif kind == "cut":
            del altered[at : at + count]
        elif kind == "put":
            altered[at:at] = new
        else:
            altered[at:at] = altered[at : at + count]
    return bytes(altered)


dtypes = st.sampled_from(("F32", "F16", "BF16", "F64", "I8", "U8", "I64", "BOOL", "F8_E4M3", "C64", "X", ""))
sizes = st.integers(-1, 3) | st.sampled_from((2**31, 2**40, 2**63 - 1, 10**30))
shapes = st.lists(sizes, max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("9" * 5000)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


headers = st.one_of(
    st.tuples(st.just("bytes"), edits),
    st.tuples(st.just("dtype"), dtypes),
    st.tuples(st.sampled_from(("shape", "data_offsets")), shapes),
    st.tuples(st.just("entry"), st.tuples(st.text(max_size=20), values)),
    st.tuples(st.just("length"), st.sampled_from((0, 2**62, 2**27))),
)
"""What is changed in the header of a safetensors file, and to what."""


@fuzz
@given(place_in_header=st.floats(0, 1, exclude_max=True), change=headers)
def test_safetensors(place, state, place_in_header, change):
    path = place / "w.safetensors"
    whole = save(dict(state))
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    name = sorted(header)[int(place_in_header * len(header))]
    kind, value = change
    if kind in ("dtype", "shape", "data_offsets"):
        header[name][kind] = value
    elif kind == "entry":
        header[value[0] or name] = value[1]
    text = json.dumps(header).encode()
    if kind == "bytes":
        text = edited(text, value)
    said = value if kind == "length" else len(text)
    path.write_bytes(said.to_bytes(8, "little") + text + whole[8 + length :])
    try_weights(path)


def parts_of(state):
    """A file of torch.save as a dict of its parts."""
    buffer = io.BytesIO()
    torch.save({"state_dict": dict(state), "epoch": 3, "args": slice}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def operations(names):
    """Pickles of random operations, which now and then fit together."""
    word = st.sampled_from(names).map(lambda text: b"X" + len(text).to_bytes(4, "little") + text.encode())
    small = st.integers(0, 255).map(lambda number: bytes([number]))
    one = (
        word
        | st.sampled_from(
            (b"}", b"(", b"u", b"s", b"b", b"R", b"\x81", b"t", b"\x85", b"\x86", b"\x87", b"]", b"e", b"a", b"Q", b"N", b")")
        )
        | st.sampled_from(
            (b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cos\nsystem\n", b"cnet\nM\n", b"ctorch\nSize\n")
        )
        | small.map(lambda number: b"K" + number)
        | small.map(lambda number: b"h" + number)
        | small.map(lambda number: b"q" + number)
        | st.sampled_from((b"r\xff\xff\xff\x0f", b"J\xff\xff\xff\x7f", b"0", b"2", b"\x8e\xff\xff\xff\xff\xff\xff\x00\x00"))
    )
    return st.lists(one, max_size=60).map(lambda found: b"\x80\x02" + b"".join(found) + b".")


@fuzz
@given(data=st.data())
def test_archives_of_torch(place, state, data):
    path, parts = place / "w.pth", parts_of(state)
    change = data.draw(st.sampled_from(("file", "part", "operations", "compressed", "bare")))
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    if change == "part":
        name = data.draw(st.sampled_from((pickled, pickled, *sorted(parts))))
        parts[name] = edited(parts[name], data.draw(edits))
    elif change in ("operations", "bare"):
        parts[pickled] = data.draw(
            operations(("_modules", "_parameters", "state_dict", "model", "module.conv1_1.weight", "storage", "0", "cpu"))
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if change == "compressed" else zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    content = parts[pickled] if change == "bare" else buffer.getvalue()
    path.write_bytes(edited(content, data.draw(edits)) if change in ("file", "bare") else content)
    try_weights(path)


@fuzz
@given(data=st.data())
def test_legacy_files_of_torch(place, state, data):
    path = place / "old.pth"
    if data.draw(st.booleans()):
        few = dict(list(state.items())[:3])
        buffer = io.BytesIO()
        torch.save(few, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(edited(buffer.getvalue(), data.draw(edits)))
    else:
        path.write_bytes(edited(pickle.dumps({"a": np.zeros(3)}, data.draw(st.integers(0, 5))), data.draw(edits)))
    try_weights(path)


def npy(shape, descr, content, fortran=False):
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@fuzz
@given(data=st.data())
def test_arrays_of_caffe(place, data):
    path = place / "w.npz"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", data.draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as archive:
        for name in data.draw(st.lists(st.sampled_from(("conv1_1_0", "conv1_1_1", "bn/0", "bn/2", "x", "../fc8_w", "")), max_size=3)):
            descr = data.draw(st.sampled_from(("<f4", ">f8", "|i1", "<u8", "|O", "<c8", "|V9", "<M8[s]", "?")))
            shape = tuple(data.draw(st.lists(st.integers(-1, 4) | st.sampled_from((2**31, 10**18)), max_size=4)))
            size = data.draw(st.integers(0, 300) | st.just(2**16))
            content = npy(shape if data.draw(st.booleans()) else (size,), descr, bytes(size), data.draw(st.booleans()))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a name that is there twice
                archive.writestr(f"{name}.npy", edited(content, data.draw(edits)) if data.draw(st.booleans()) else content)
    path.write_bytes(edited(buffer.getvalue(), data.draw(edits)))
    try_weights(path)


counts = st.integers(0, 40) | st.sampled_from((2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**69))
contents = st.recursive(
    st.binary(max_size=12) | counts.map(varint) | st.just(blob(np.ones((2, 3), np.float32))),
    lambda inner: st.lists(
        st.tuples(st.sampled_from((0, 1, 2, 4, 5, 6, 7, 8, 50, 100, 2**29)), st.integers(0, 7), inner, counts), max_size=4
    ).map(
        lambda fields: b"".join(
            varint(number << 3 | kind) + (varint(len(inside)) + inside if kind == 2 else varint(count))
            for number, kind, inside, count in fields
        )
    ),
    max_leaves=12,
)
"""Messages of messages, whose fields and lengths now and then fit together."""


@fuzz
@given(data=st.data())
def test_caffes_own_files(place, state, data):
    path = place / "w.caffemodel"
    few = layers_of({name.removeprefix("backbone."): tensor.numpy() for name, tensor in list(state.items())[:6]})
    form = {name: data.draw(st.booleans()) for name in ("packed", "double", "legacy")}
    if data.draw(st.booleans()):
        chunks = (varint(2**63), varint(2**32 - 1), field(100, b""), field(5, b"\0" * 4), field(7, field(1, 2**40)), b"\xff" * 12)
        path.write_bytes(data.draw(altered(caffemodel(few, version=data.draw(st.integers(0, 2)), **form), chunks)))
    else:
        path.write_bytes(field(100, field(1, b"conv1_1") + data.draw(contents)) + data.draw(contents))
    try_weights(path)


@fuzz
@given(data=st.data())
def test_files_of_matconvnet(place, state, data):
    path = place / "w.mat"
    few = layers_of({name.removeprefix("backbone."): tensor.numpy() for name, tensor in list(state.items())[3:7]})
    content = mat_bytes(matconvnet(few, dag=data.draw(st.booleans())), compressed=data.draw(st.booleans()))
    chunks = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x0e\0\0\0", b"\x0f\0\0\0\x08\0\0\0", b"\0\0\0\x80", bytes(8))
    path.write_bytes(data.draw(altered(content, chunks)))
    try_weights(path)


@pytest.fixture(scope="module")
def saved(place, state):
    model = create_model(NAME, num_classes=len(LABELS), **ARGUMENTS)
    bundle = Bundle.of(NAME, ARGUMENTS, model, LABELS, card={"history": [{"epoch": 1, "loss": 0.5}]})
    bundle.save(place / "one")
    Ensemble((bundle, bundle)).save(place / "both")
    return State({path: path.read_bytes() for path in (*place.glob("*/*.json"), *place.glob("*/*.safetensors"))})


def altered_json(text, data):
    """Return a document with a value anywhere in it replaced, a key added, or bytes changed."""
    change = data.draw(st.sampled_from(("bytes", "value", "key", "argument")))
    if change == "bytes":
        return edited(text, data.draw(edits))
    document = json.loads(text)
    inner = document
    for _ in range(data.draw(st.integers(0, 3))):
        keys = [key for key in inner if isinstance(inner[key], dict) and inner[key]] if isinstance(inner, dict) else []
        if keys:
            inner = inner[data.draw(st.sampled_from(sorted(keys)))]
    if change == "argument" and "arguments" in document:
        arguments = (
            "backbone",
            "width",
            "padding",
            "in_channels",
            "num_classes",
            "upsampling",
            "depth",
            "channels",
            "report",
            "new",
            "name",
        )
        hostile = scalars | st.sampled_from(
            (1e308, -1, 0, 10**9, 10**400, "resnet18", "vgg16", "tf_efficientnet_l2", "hf-hub:a/b", "learned")
        )
        document["arguments"][data.draw(st.sampled_from(arguments))] = data.draw(hostile)
        document["architecture"] = data.draw(
            st.sampled_from((NAME, "unet", "fcn32s", "sliding-window", "full-resolution", "unet-backbone"))
        )
    elif inner:
        key = data.draw(st.text(max_size=8)) if change == "key" else data.draw(st.sampled_from(sorted(inner)))
        inner[key] = data.draw(values)
    try:
        return json.dumps(document).encode(errors="surrogatepass")
    except ValueError:  # an integer of more digits than Python writes
        return text


def try_altered(folder, name, saved, content):
    path = folder / name
    path.write_bytes(content)
    try:
        with bounded():
            load_model(folder)
    finally:
        path.write_bytes(saved[path])


@fuzz
@given(data=st.data())
def test_descriptions_of_bundles(place, saved, data):
    folder = place / "one"
    try_altered(folder, "bundle.json", saved, altered_json(saved[folder / "bundle.json"], data))


@fuzz
@given(data=st.data())
def test_descriptions_of_ensembles(place, saved, data):
    folder = place / "both"
    try_altered(folder, "ensemble.json", saved, altered_json(saved[folder / "ensemble.json"], data))


@fuzz
@given(changes=edits)
def test_weights_of_bundles(place, saved, changes):
    folder = place / "one"
    try_altered(folder, "weights.safetensors", saved, edited(saved[folder / "weights.safetensors"], changes))


def test_a_deflated_bomb_is_refused_packed(place):
    path = place / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1_1_0.npy", "w", force_zip64=True) as member:
        member.write(npy((2**28,), "|i1", b""))
        for _ in range(2**8):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(UpscoreError, match="declares"):
        create_model(NAME, num_classes=3, weights=path, **ARGUMENTS)
