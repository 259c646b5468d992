import argparse
import functools
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import ModelError, UpscoreWarning
from upscore.models.backbones import import_timm
from upscore.models.factory import create_model
from upscore.models.weights import load_fitting, name_mismatch, read_weights
from upscore.models.weights.torch_files import MAX_NAMES


class Payload:
    """Pickled, it makes a file when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_state_dicts_are_unwrapped(tmp_path, wrapper):
    state = {"a.weight": torch.arange(3.0)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    assert torch.equal(read_weights(tmp_path / "w.pth")["a.weight"], state["a.weight"])


@pytest.mark.parametrize("content", [b"", b"not a weights file", (10**12).to_bytes(8, "little") + b"{}"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_foreign_files_are_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="not a readable weights file") as error:
        read_weights(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [lambda state, path: torch.save(state, path), lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_hostile_files_run_nothing(tmp_path, write):
    write({"a": Payload(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"not a readable weights file|found an object of the class \w*io.open under 'a'"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_files_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds no state dict"):
        read_weights(tmp_path / "w.pth")


def test_a_text_is_refused_in_words(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"a letter to a friend\n")
    with pytest.raises(ModelError, match=r"w\.pth' is not a readable weights file: expected \.safetensors"):
        read_weights(tmp_path / "w.pth")


def test_files_of_an_older_torch(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "w.pth")["a"].tolist() == [1, 1]


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="no weights file"):
        read_weights(tmp_path / "absent.pth")


def test_mismatch_is_listed_shortly():
    one = {f"layer{i}": torch.zeros(i) for i in range(9)}
    assert name_mismatch(one, dict(one)) == ""
    assert name_mismatch(one, {}) == "lacks 'layer0', 'layer1', 'layer2' and 6 more"
    assert name_mismatch({}, one).startswith("holds 'layer0'")
    assert name_mismatch({"a": torch.zeros(2)}, {"b": torch.zeros(2)}) == "lacks 'a' and holds 'b' instead"


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def filled(tensors):
    """Load into another network; return its state and what was reported."""
    fresh, said = network(), []
    load_fitting(fresh, tensors, source="w.pth", report=said.append)
    return fresh.state_dict(), said


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "module._orig_mod.", "model.backbone.", "_orig_mod.module.model."],
)
def test_what_all_names_begin_with_is_taken_off_and_said(prefix):
    state = network().state_dict()
    found, said = filled({prefix + name: tensor for name, tensor in state.items()})
    assert equal(found, state)
    assert said == [f"w.pth: the prefix '{prefix}' was removed from all names"]


def test_nothing_is_said_of_a_file_that_fits():
    state = network().state_dict()
    found, said = filled(state)
    assert equal(found, state)
    assert said == []


def test_an_encoder_is_taken_out_of_a_larger_network_and_said():
    state = network().state_dict()
    larger = {f"module.backbone.{name}": tensor for name, tensor in state.items()} | {"module.decode_head.conv.weight": torch.zeros(1)}
    found, said = filled(larger)
    assert equal(found, state)
    assert len(said) == 2
    assert "'backbone' is used; 1 other tensors ('decode_head.conv.weight') are ignored" in said[1]


@pytest.mark.parametrize("change", [lambda s: s.pop("module.0.weight"), lambda s: s.update({"module.9.weight": torch.zeros(1)})])
def test_a_prefix_is_not_taken_off_where_the_rest_does_not_fit(change):
    state = {f"module.{name}": tensor for name, tensor in network().state_dict().items()}
    change(state)
    with pytest.raises(ModelError, match=r"the file lacks '0\.weight'"):
        filled(state)


def test_counters_of_batches_may_be_missing_and_other_tensors_may_not():
    state = network().state_dict()
    found, _ = filled({name: tensor for name, tensor in state.items() if "num_batches" not in name})
    assert equal(found, state)
    for lacking in ("1.running_mean", "1.weight"):
        with pytest.raises(ModelError, match=f"lacks '{lacking}'"):
            filled({name: tensor for name, tensor in state.items() if name != lacking})


def test_a_norm_without_statistics_is_not_filled_up_with_counters():
    state = {name: tensor for name, tensor in network().state_dict().items() if "running" not in name and "num_batches" not in name}
    with pytest.raises(ModelError, match="running_mean"):
        filled(state)


STATE = {"a.weight": torch.arange(3.0), "a.bias": torch.ones(1)}


class Trainer:
    """Of a module that is not there where the file is read."""

    def __init__(self):
        self.best = 1


@pytest.mark.parametrize(
    "wrapped",
    [
        {"model_state_dict": STATE, "optimizer_state_dict": {}},
        {"state_dict_ema": STATE},
        {"ema": {"module": STATE}},
        {"model": STATE, "args": argparse.Namespace(lr=0.1), "epoch": 9},
        {"state_dict": STATE, "best": np.float64(71.2), "where": Path("a"), "trainer": Trainer(), "f": functools.partial(print, 1)},
        {"state_dict": STATE, "arrays": np.arange(3), "callbacks": {"x": {1, 2}}, "t": (1, [None])},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_are_found_in_checkpoints_with_other_objects(tmp_path, wrapped, zipped):
    torch.save(wrapped, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert equal(read_weights(tmp_path / "w.pth"), STATE)


def test_of_several_state_dicts_the_running_mean_is_taken_and_said(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    said = []
    assert read_weights(tmp_path / "w.pth", report=said.append)["a"] == 1
    assert said == ["the file holds weights as 'state_dict_ema', 'state_dict': 'state_dict_ema' is used"]


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: {"model": n}, lambda n: nn.DataParallel(n)])
def test_of_a_network_saved_as_a_whole_the_tensors_are_read(tmp_path, wrap):
    whole = network()
    whole[0].register_buffer("passing", torch.ones(1), persistent=False)
    torch.save(wrap(whole), tmp_path / "w.pth")
    found, _ = filled(read_weights(tmp_path / "w.pth"))
    assert equal(found, whole.state_dict())


class Calls:
    """Pickled, it calls a function with arguments when it is read."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr, print, torch.load, torch.hub.load])
def test_functions_in_a_file_are_not_called(tmp_path, function, capsys):
    harmful = Calls(function, "open('ran', 'w')")
    torch.save({"state_dict": STATE, "hook": harmful, "nested": [Calls(getattr, harmful, "x")]}, tmp_path / "w.pth")
    before = set(Path().iterdir())
    assert equal(read_weights(tmp_path / "w.pth"), STATE)
    assert set(Path().iterdir()) == before
    assert capsys.readouterr().out == ""


def test_an_object_in_the_place_of_tensors_is_named_with_what_to_do(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1), "b": Trainer()}}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"found an object of the class .*Trainer under 'b', expected tensors by name: load the file .*save"
    ):
        read_weights(tmp_path / "w.pth")


def test_a_torchscript_archive_is_refused_with_what_to_do(tmp_path):
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"TorchScript.*torch\.save\(torch\.jit\.load\(FILE\)\.state_dict\(\)"):
        read_weights(tmp_path / "w.pt")


def test_files_that_ask_for_more_than_they_hold_are_refused(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as plain, zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
        bomb.writestr("archive/data/99", bytes(2**20))
    with pytest.raises(ModelError, match="asks for more memory"):
        read_weights(tmp_path / "z.pth")
    names = b"".join(b"cmodule\nname%d\n0" % number for number in range(MAX_NAMES + 1))
    (tmp_path / "n.pth").write_bytes(b"\x80\x02" + names + b"N.")
    with pytest.raises(ModelError, match="not a readable weights file"):
        read_weights(tmp_path / "n.pth")


@pytest.mark.parametrize(
    "claim",
    [
        b"N" + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f",
        pickle.BYTEARRAY8 + (2**36).to_bytes(8, "little"),
        pickle.BINBYTES8 + (2**36).to_bytes(8, "little"),
    ],
)
def test_a_few_bytes_that_claim_gigabytes_take_none(tmp_path, claim):
    program = b"\x80\x05cargparse\nNamespace\n)\x81" + claim + b"."
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    code = (
        "import resource, sys; import torch; from upscore.models.weights import read_weights; from upscore.errors import ModelError\n"
        "have = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (have + 2**30, have + 2**30))\n"
        "try: read_weights(sys.argv[1])\n"
        "except ModelError as error: print('MemoryError' in str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "w.pth")], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "False\n"


def test_a_network_inside_itself_ends(tmp_path):
    whole = network()
    whole._modules["again"] = whole
    torch.save(whole, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert equal(found, {name: found[name] for name in network().state_dict()})


def test_an_unreadable_file_is_said_to_be_so(tmp_path, monkeypatch):
    torch.save(STATE, tmp_path / "w.pth")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)"):
        read_weights(tmp_path / "w.pth")


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return import_timm().create_model("resnet10t").state_dict()


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_rgb_weights_fit_other_channels_as_timm_adapts_them_and_it_is_said(tmp_path, resnet, channels):
    import_timm()
    from timm.models import adapt_input_conv

    torch.save(resnet, tmp_path / "w.pth")
    with pytest.warns(UpscoreWarning, match=r"'features.conv1.0.weight', made for 3 channels, is (summed|repeated)"):
        model = create_model("fcn32s", backbone="resnet10t", num_classes=2, in_channels=channels, weights=str(tmp_path / "w.pth"))
    first = model.state_dict()["backbone.features.conv1.0.weight"]
    assert torch.equal(first, adapt_input_conv(channels, resnet["conv1.0.weight"]))


def test_weights_of_four_channels_do_not_become_three(tmp_path, resnet):
    torch.save(resnet | {"conv1.0.weight": torch.zeros(24, 4, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="conv1"):
        create_model("fcn32s", backbone="resnet10t", num_classes=2, weights=str(tmp_path / "w.pth"))


def test_caffes_numbers_have_no_meaning_for_other_channels(tmp_path):
    state = create_model("fcn32s", backbone="vgg16", width=0.05, num_classes=2, normalization="caffe").state_dict()
    torch.save({name.removeprefix("backbone."): tensor for name, tensor in state.items()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"'caffe', three channels from 0 to 255.*found in_channels 4"):
        create_model("fcn32s", backbone="vgg16", width=0.05, num_classes=2, in_channels=4, weights=str(tmp_path / "w.pth"))


def test_a_whole_network_behind_a_prefix_is_taken_whole(tmp_path):
    state = create_model("fcn8s", backbone="vgg16", width=0.05, num_classes=2).state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": torch.full_like(tensor, 0.5) if "score" in name else tensor for name, tensor in state.items()}},
        tmp_path / "w.pth",
    )
    with pytest.warns(UpscoreWarning, match=r"prefix 'module\.' was removed"):
        model = create_model("fcn8s", backbone="vgg16", width=0.05, num_classes=2, weights=str(tmp_path / "w.pth"))
    assert float(model.state_dict()["decoder.score_fr.weight"].min()) == 0.5
