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
        (GOOD + "nc: 3\n", "nc is 3 but names holds 2"),
        (GOOD + "nc: yes\n", "nc is True"),
        (GOOD + "masks_dir: ../x\n", "masks_dir is '../x'"),
        (GOOD + "masks_dir: 3\n", "masks_dir is a number, expected a path"),
        (GOOD + "test: {a: b}\n", "test is a mapping, expected a path"),
        (GOOD + "test: []\n", "test is an empty list"),
        (GOOD + "label_mapping: {0: 2}\n", "sends 0 to 2, expected a class from 0 to 1"),
        (GOOD + "label_mapping: {2147483648: 0}\n", "stored value 2147483648, expected a whole number of at most 32 bits"),
        (GOOD + "label_mapping: {a: 0}\n", "stored value 'a'"),
        (GOOD + "label_mapping: {true: 0}\n", "stored value True, expected a whole number"),
        (GOOD + "label_mapping: {1.0: 0}\n", r"stored value 1\.0, expected a whole number"),
        (GOOD + "label_mapping: {7: 0, 0x7: 1}\n", "line 5: '0x7' is given twice"),
        (GOOD + "label_mapping: {1: 0, true: 1}\n", "line 5: 'true' is given twice"),
        (GOOD + "label_mapping: {0: ignored}\n", "sends 0 to ignored, expected a class from 0 to 1, or ignore_label"),
        (
            GOOD + f"label_mapping: {{{', '.join(f'{value}: 0' for value in range(10_001))}}}\n",
            "names 10001 stored values, expected at most",
        ),
        (GOOD + f"label_mapping:\n  ? 0x{'f' * 5000}\n  : 0\n", r"the number 0xf.* is too large: whole numbers fit 64 bits"),
        (GOOD + "ignore_label: a\n", "ignore_label is a, expected the stored value"),
        (GOOD + "ignore_label: true\n", "ignore_label is True, expected the stored value"),
        (GOOD + "label_mapping: {0: 1}\nignore_label: 0\n", "0 is ignored by ignore_label and class 1 by label_mapping"),
        (GOOD + "channels: 65\n", "channels is 65, expected the number of the images' bands, 1 to 64"),
        (GOOD + "nmaes: x\n", r"unknown key 'nmaes' \(did you mean 'names'\?\)"),
        (GOOD + "label_maping: {0: 0}\n", r"unknown key 'label_maping' \(did you mean 'label_mapping'\?\)"),
        (GOOD + "msks_dir: x\n", r"unknown key 'msks_dir' \(did you mean 'masks_dir'\?\)"),
        ("path: sub\nval: x\ntrian: y\nnames: [a]\n", r"unknown key 'trian' \(did you mean 'train'\?\)"),
        (GOOD + "valid: images/x\n", "val and valid are both given"),
        (f"train: images\nnames: [0x{'f' * 5000}]\n", r"the number 0xf.* is too large: whole numbers fit 64 bits"),
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


def test_ultralytics_own_files_are_understood(tmp_path: Path) -> None:
    text = (
        "path: cityscapes8 # dataset root dir\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames:\n  0: road\n  1: car\n"
        "label_mapping:\n  -1: ignore_label\n  0: ignore_label\n  7: 0\n  8: 1\n  65535: ignore_label\n"
        "channels: 3\nkpt_shape: [17, 3]\nflip_idx: [0, 2, 1]\nroboflow:\n  workspace: mine\n  version: 4\n3: x\n"
        "download: |\n  import os\n  os.system('touch fetched')\n"
    )
    schema = read_schema(written(tmp_path, text))
    assert schema.mapping == {-1: 255, 0: 255, 7: 0, 8: 1, 65535: 255}
    assert (schema.masks_dir_given, schema.download_given) == (True, True)
    assert schema.warnings == ("dataset.yaml: keys of other tools were left out (kpt_shape, flip_idx, roboflow, 3, download)",)
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("value", [-9999, -1, 0, 1, 128, 254, 256, 65535])
def test_ignore_label_is_a_stored_value_that_is_ignored(tmp_path: Path, value: int) -> None:
    alone = read_schema(written(tmp_path, f"{GOOD}ignore_label: {value}\n"))
    assert alone.mapping == {0: 0, 1: 1} | {value: 255}
    mapped = read_schema(written(tmp_path, f"{GOOD}label_mapping: {{7: 1}}\nignore_label: {value}\n"))
    assert mapped.mapping == {7: 1, value: 255}


def test_ignore_label_255_changes_nothing(tmp_path: Path) -> None:
    assert read_schema(written(tmp_path, GOOD + "ignore_label: 255\n")).mapping is None


@pytest.mark.parametrize(("key", "split"), [("training", "train"), ("valid", "val"), ("validation", "val"), ("testing", "test")])
def test_splits_have_other_names(tmp_path: Path, key: str, split: str) -> None:
    assert read_schema(written(tmp_path, f"{key}: images\nnames: [a, b]\n")).splits == {split: ("images",)}
    both = read_schema(written(tmp_path, f"{split}:\n{key}: images\nnames: [a, b]\n"))
    assert both.splits == {split: ("images",)}


def test_names_may_be_a_number_of_classes(tmp_path: Path) -> None:
    schema = read_schema(written(tmp_path, "train: images\nnc: 2\n"))
    assert schema.labels.names == ("class0", "class1")
    assert "gives no names" in schema.warnings[0]


@pytest.mark.parametrize("path", ["mine", "../datasets/mine", "/content/mine", "C:\\data\\mine", "elsewhere", "datasets\\elsewhere"])
def test_a_path_that_leads_nowhere_is_the_files_own_folder_where_that_fits(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "mine"
    (folder / "images" / "train").mkdir(parents=True)
    schema = read_schema(written(folder, f"path: {path}\ntrain: images/train\nnames: [a, b]\n"))
    assert schema.root == folder
    assert len(schema.warnings) == 1
    assert "the folder of the file was taken" in schema.warnings[0]
    (folder / path.replace("\\", "/").lstrip("/")).mkdir(parents=True, exist_ok=True)
    if not path.startswith(("/", "C:")):
        again = read_schema(folder / "dataset.yaml")  # now it leads somewhere
        assert again.root.resolve() == (folder / path.replace("\\", "/")).resolve()


def test_a_path_that_leads_nowhere_and_fits_nothing_is_kept_for_the_error(tmp_path: Path) -> None:
    schema = read_schema(written(tmp_path, "path: nowhere\ntrain: images/train\nnames: [a, b]\n"))
    assert (schema.root, schema.warnings) == (tmp_path / "nowhere", ())


@pytest.mark.parametrize(
    "place", ["../images/train", "images\\train", "..\\images\\train", "/content/set/images/train", "D:\\set\\images\\train"]
)
def test_places_as_other_machines_write_them(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "deep" / "set"
    (folder / "images" / "train").mkdir(parents=True)
    schema = read_schema(written(folder, f"train: {place}\nnames: [a, b]\n"))
    assert schema.splits == {"train": ("images/train",)}
    assert bool(schema.warnings) == (place != "images\\train")


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
