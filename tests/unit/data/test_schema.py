"""``dataset.yaml``: every mistake is one line, and nothing in it can hurt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.data.schema import read_schema
from upscore.errors import DataError

GOOD = "path: sub\ntrain: images/train\nval: [images/a, images/b]\nnames: {0: road, 1: car}\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "dataset.yaml"
    file.write_text(text, "utf-8")
    return file


def test_every_key_is_understood(tmp_path: Path) -> None:
    schema = read_schema(
        written(tmp_path, GOOD + "nc: 2\nmasks_dir: labels\nlabel_mapping: {0: 0, 7: 1, 9: -1, 255: 255}\ntest: list.txt\n")
    )
    assert schema.root == tmp_path / "sub"
    assert schema.splits == {"train": ("images/train",), "val": ("images/a", "images/b"), "test": ("list.txt",)}
    assert schema.masks_dir == "labels"
    assert schema.labels.names == ("road", "car")
    assert schema.mapping == {0: 0, 7: 1, 9: -1, 255: 255}
    plain = read_schema(written(tmp_path, "train: images\nnames: [a, 7]\n"))
    assert (plain.root, plain.masks_dir, plain.mapping, plain.labels.names) == (tmp_path, "masks", None, ("a", "7"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "mask_dir: x\n", r"unknown key 'mask_dir' \(did you mean 'masks_dir'\?\)"),
        (GOOD + "3: x\n", "unknown key '3'"),
        (GOOD + "nc: 3\n", "nc is 3 but names holds 2"),
        (GOOD + "nc: yes\n", "nc is True"),
        (GOOD + "masks_dir: ../x\n", "masks_dir is '../x'"),
        (GOOD + "masks_dir: 3\n", "masks_dir is a number, expected a path"),
        (GOOD + "test: {a: b}\n", "test is a mapping, expected a path"),
        (GOOD + "test: []\n", "test is an empty list"),
        (GOOD + "label_mapping: {0: 2}\n", "sends 0 to 2, expected a class from 0 to 1"),
        (GOOD + "label_mapping: {256: 0}\n", "stored value 256"),
        (GOOD + "label_mapping: {a: 0}\n", "stored value 'a'"),
        (GOOD + "label_mapping: [0, 1]\n", "label_mapping is a list"),
        (GOOD + "label_mapping: {0: 0, 0: 1}\n", "line 5: '0' is given twice"),
        (GOOD + "train: other\n", "line 5: 'train' is given twice"),
        ("train: images\n", "names is missing"),
        ("train: images\nnames: {1: a, 2: b}\n", "expected the class numbers 0 to 1"),
        ("train: images\nnames: {0: a, x: b}\n", "expected the class numbers 0 to 1"),
        ("train: images\nnames: text\n", "names is text"),
        ("train: images\nnames: [yes, no]\n", r"name of class 0 is yes/no \(True\), expected text"),
        ("train: images\nnames: [a, a]\n", "class name 'a' is given 2 times"),
        ("names: [a, b]\n", "no split is given"),
        ("", "found empty"),
        ("- a\n- b\n", "found a list"),
        ("train: [\n", "not valid YAML in line 2"),
        ("train: !!python/object/apply:os.system [echo]\nnames: [a]\n", "not valid YAML in line 1"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases"),
        ("[" * 5000, "YAML"),
        ("train: " + "9" * 5000 + "\nnames: [a]\n", "YAML"),
        ("train: \x01\n", "YAML"),
        ("train: images\nnames: [a, " + "b" * 201 + "]\n", r"\(201 characters\)' is too long, expected at most 200"),
        (GOOD + "nc: 0x" + "f" * 5000 + "\n", "not valid YAML in line 5: the number 0xfff.* is too large"),
        (GOOD + "nc: !!int\n", "not valid YAML in line 5: '' cannot be read as int"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_schema(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_yaml(tmp_path: Path) -> None:
    file = tmp_path / "dataset.yaml"
    with pytest.raises(DataError, match="no such file"):
        read_schema(file)
    file.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="cannot be read as YAML"):
        read_schema(file)
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(DataError, match="at most"):
        read_schema(file)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=":{}[],-&*!|>%@'\"#? \nabtrainmes019.~", max_size=60))
def test_any_text_is_a_schema_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    problem = ""
    try:
        read_schema(written(tmp_path_factory.getbasetemp(), text))
    except DataError as error:
        problem = str(error)
    assert "\n" not in problem
