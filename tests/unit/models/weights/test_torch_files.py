"""Pickles of a few bytes that ask for much, or reach for what is not theirs: one line, at once."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from upscore.errors import ModelError
from upscore.models.factory import create_model
from upscore.models.weights import read_weights, torch_files
from upscore.models.weights.caffe_arrays import MAX_BYTES
from upscore.models.weights.transplant import normalization_of

START = b"\x80\x02"


def word(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def archive(path, pickled):
    """A file of torch.save with another pickle in it."""
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w") as written:
        for name, content in parts.items():
            written.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


def tuples_of_tuples(depth=45):
    """A dict with one key, which has two to the power of ``depth`` parts and some bytes."""
    doubled = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return START + b"}(K\x01q\x00" + doubled + b"K\x01u."


def modules_twice_in_one_another(depth=40):
    """A network whose every module holds the next one twice, under a usual key."""
    made = b"cnet\nModule\n)\x81}(" + word("_modules") + b"}ubq\x01"
    for number in range(1, depth):
        twice = b"}(" + word("a") + b"h" + bytes([number]) + word("b") + b"h" + bytes([number]) + b"u"
        made += b"cnet\nModule\n)\x81}(" + word("_modules") + twice + b"ubq" + bytes([number + 1])
    return START + b"}(" + word("model") + b"(" + made + b"t" + word("net") + b"h" + bytes([depth]) + b"u."


@pytest.mark.parametrize(
    "pickled",
    [tuples_of_tuples(), START + b"}r" + struct.pack("<I", 2**28) + b"cnet\nModule\n)\x81.", START + b"N0" * 2_000 + b"N."],
    ids=["tuples of tuples", "a far place in the memory", "many steps"],
)
@pytest.mark.parametrize("in_archive", [True, False])
def test_a_few_bytes_cannot_ask_for_much(tmp_path, pickled, in_archive, monkeypatch):
    monkeypatch.setattr(torch_files, "MAX_STEPS", 1_000)
    path = tmp_path / "w.pth"
    if in_archive:
        archive(path, pickled)
    else:
        path.write_bytes(pickled)
    with pytest.raises(ModelError, match="asks for more work") as error:
        read_weights(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("before", [b"", b"N.", pickle.dumps(0x1950A86A20F9469CFC6C, 2)[2:] + b"N."], ids=["first", "second", "third"])
def test_a_pickle_is_followed_wherever_it_stands_and_however_it_begins(tmp_path, before):
    """The first need not say its protocol for it to be read."""
    (tmp_path / "w.pth").write_bytes(before + tuples_of_tuples()[len(START) :])
    with pytest.raises(ModelError, match="asks for more work"):
        read_weights(tmp_path / "w.pth")


def test_modules_that_hold_one_another_twice_are_not_walked_through(tmp_path):
    with pytest.raises(ModelError, match="was crafted"):
        read_weights(archive(tmp_path / "w.pth", modules_twice_in_one_another()))


class Nested:
    """Pickled, it looks like a network."""


def test_modules_very_deep_inside_one_another_are_not_followed(tmp_path):
    inner = None
    for _ in range(150):
        outer = Nested()
        outer._modules = {} if inner is None else {"a": inner}
        inner = outer
    torch.save(inner, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="inside one another"):
        read_weights(tmp_path / "w.pth")


def test_a_file_changes_nothing_of_torch(tmp_path):
    """BUILD sets attributes of whatever a file named, and a function has defaults."""
    real = torch._utils._rebuild_tensor_v2
    before = real.__defaults__, dict(vars(real))
    change = b"N}" + word("__defaults__") + b"K\x07\x85s\x86b"
    pickled = START + b"(ctorch._utils\n_rebuild_tensor_v2\n" + change + b"cnet\nB\n)\x81t."
    with pytest.raises(ModelError):
        read_weights(archive(tmp_path / "w.pth", pickled))
    assert (real.__defaults__, dict(vars(real))) == before


def test_compressed_parts_are_not_taken_for_numbers(tmp_path):
    """torch maps a file's bytes; noise does not shrink, so that the sizes of such an archive are true."""
    noise = torch.frombuffer(bytearray(np.random.default_rng(0).bytes(2**16)), dtype=torch.float32)
    torch.save({"a": noise}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"compressed parts, which torch\.save never writes"):
        read_weights(archive_of(tmp_path / "w.pth", zipfile.ZIP_DEFLATED))


def archive_of(path, compression):
    with zipfile.ZipFile(path) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as written:
        for name, content in parts.items():
            written.writestr(name, content, compress_type=compression if name.endswith("data/0") else zipfile.ZIP_STORED)
        written.comment = bytes(2**12)
    return path


def test_tensors_that_are_no_plain_numbers_are_named(tmp_path):
    for tensor in (torch.ones(3).to_sparse(), torch.ones(3, device="meta")):
        torch.save({"a": torch.ones(2), "b": tensor}, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"holds in 'b' a (sparse|meta) tensor, expected plain numbers"):
            read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_whole_numbers_are_no_weights(tmp_path, dtype):
    """Quantized weights without their scale would be copied as numbers up to 127."""
    state = create_model("segnet-basic", num_classes=2, width=1 / 32).state_dict()
    torch.save({name: tensor.to(dtype) if tensor.ndim == 4 else tensor for name, tensor in state.items()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"of type torch\.\w+, expected floating-point numbers"):
        create_model("segnet-basic", num_classes=2, width=1 / 32, weights=tmp_path / "w.pth")


def test_statistics_that_only_seem_large_are_not_spread_out(tmp_path):
    torch.save({"normalization.mean": torch.zeros(1).expand(MAX_BYTES)}, tmp_path / "w.pth")
    assert normalization_of(tmp_path / "w.pth") is None


def test_an_older_file_is_still_read(tmp_path):
    torch.save({"model": {"a": torch.ones(2)}, "args": pickle.dumps}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "w.pth")["a"].tolist() == [1, 1]
