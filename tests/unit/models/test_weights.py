import pickle

import pytest
import torch

from upscore.errors import ModelError
from upscore.models.weights import name_mismatch, read_weights


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
    with pytest.raises(ModelError, match="not a readable weights file"):
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
