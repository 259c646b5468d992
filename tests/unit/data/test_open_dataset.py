"""Opening a dataset by looking at what is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.open_dataset import READERS, describe_readers, list_splits, open_dataset
from upscore.errors import DataError


def touch_pair(root: Path, split: str) -> None:
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (root / part / split).mkdir(parents=True)
        shape = (4, 4, 3) if part == "images" else (4, 4)
        Image.fromarray(np.zeros(shape, np.uint8)).save(root / part / split / f"a.{suffix}")


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    assert list_splits(tmp_path) == ("train",)
    assert open_dataset(tmp_path, "train").labels.names == ("class0",)
    file = tmp_path / "dataset.yaml"
    file.write_text("train: images/train\nval: images/train\nnames: [x, y]\n")
    for place in (tmp_path, file, str(file)):
        assert list_splits(place) == ("train", "val")
        assert open_dataset(place, "train").labels.names == ("x", "y")
    assert list_splits("shapes") == ("train", "val", "test")
    shapes = open_dataset("shapes", "val", size=(32, 40), count=3)
    assert len(shapes) == 3
    assert shapes[2].image.shape == (32, 40, 3)


def test_what_is_no_dataset_is_told_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    for place in (tmp_path, tmp_path / "none", tmp_path / "file.txt", "a\0b"):
        for opening in (open_dataset, list_splits):
            with pytest.raises(DataError, match=r"shapes.*dataset\.yaml.*PASCAL VOC.*images/ and masks/.*masks beside them") as error:
                opening(place)
            assert "\n" not in str(error.value)


def test_options_are_for_shapes_alone(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    with pytest.raises(DataError, match="options seed, count, expected split_by"):
        open_dataset(tmp_path, "train", seed=1, count=3)
    with pytest.raises(DataError, match="options length, expected size, count, seed"):
        open_dataset("shapes", "train", length=1)
    assert len(open_dataset("shapes", "train", seed=None)) == 800


@pytest.mark.parametrize("name", ["camvid", "pennfudan", "em"])
def test_real_data_opens(shared_data: Path, name: str) -> None:
    dataset = open_dataset(shared_data / name, "val")
    sample = dataset[0]
    assert sample.label is not None
    assert sample.image.shape[:2] == sample.label.shape
    assert (sample.instances is not None) == (name == "pennfudan")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ((), "nothing in it"),
        (("a.jpg", "b.JPG", "README", "s/x.txt"), r"files \(2 \.jpg, 1 without a suffix\) and the folder s"),
        (("s/x.txt", "t/y.txt"), "the folders s, t"),
    ],
)
def test_what_a_folder_holds_is_said_where_it_is_no_dataset(tmp_path: Path, files: tuple[str, ...], found: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=f"the folder is no dataset: found {found}; expected "):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "street.yaml", "dataset.yml"])
def test_a_folder_s_own_description_is_read(tmp_path: Path, name: str) -> None:
    for split in ("train", "val"):
        touch_pair(tmp_path, split)
    (tmp_path / "settings.yaml").write_text("epochs: 3\nnames: a setting\n")  # it describes no dataset
    (tmp_path / name).write_text("train: images/train\nval: images/val\nnames: [x, y]\nlabel_mapping: {0: 1}\n")
    assert list_splits(tmp_path) == ("train", "val")
    dataset = open_dataset(tmp_path, "valid")
    assert (dataset.labels.names, dataset.split) == (("x", "y"), "val")
    assert (dataset[0].label == 1).all()  # type: ignore[union-attr]


def test_of_several_descriptions_the_best_named_counts_and_two_others_are_an_error(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    for number, name in enumerate(("b.yaml", "a.yaml", "data.yml", "data.yaml", "dataset.yml", "dataset.yaml")):
        (tmp_path / name).write_text(f"train: images/train\nnames: [of{number}, y]\n")
        if name == "a.yaml":
            with pytest.raises(DataError, match=r"found a\.yaml, b\.yaml, which all describe a dataset: name the one that is meant"):
                open_dataset(tmp_path)
            assert open_dataset(tmp_path / "a.yaml").labels.names[0] == "of1"
        else:
            assert open_dataset(tmp_path).labels.names[0] == f"of{number}"
        if number > 1:
            others = [name for name in ("dataset.yml", "data.yaml", "data.yml", "a.yaml", "b.yaml") if (tmp_path / name).exists()]
            assert any(others[-1] in warning and "not read" in warning for warning in open_dataset(tmp_path).warnings)


def test_a_data_yaml_that_cannot_be_read_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    (tmp_path / "data.yaml").write_bytes("names: [도로, b]\ntrain: images/train\n".encode("cp949"))
    with pytest.raises(DataError, match="save it with the encoding UTF-8"):
        open_dataset(tmp_path)


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    (tmp_path / "classes.txt").write_text("x\ny\n")
    for folder in (tmp_path, tmp_path / "images" / "train", tmp_path / "masks" / "train"):
        (folder / "__MACOSX").mkdir()
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "__MACOSX/._a.jpg"):
            (folder / name).write_bytes(b"\0\5\x16\7")
    dataset = open_dataset(tmp_path, "train")
    assert (list(dataset.keys), list(dataset.warnings)) == (["a"], [])


def test_links_in_circles_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(DataError, match="no such dataset"):
        open_dataset(tmp_path / "round")
    touch_pair(tmp_path, "train")
    (tmp_path / "classes.txt").write_text("x\ny\n")
    for part, name in (("images", "b.jpg"), ("masks", "b.png")):
        (tmp_path / part / "train" / name).symlink_to(name)
    dataset = open_dataset(tmp_path, "train")
    assert list(dataset.keys) == ["a", "b"]
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read"):
        dataset[1]


def test_folders_of_millions_are_not_walked_for_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch_pair(tmp_path, "train")
    monkeypatch.setattr("upscore.data.paired_files._MAX_FILES", 3)
    for number in range(4):
        (tmp_path / "images" / "train" / f"{number}.jpg").touch()
    with pytest.raises(DataError, match="holds more than 3 files, links followed"):
        open_dataset(tmp_path, "train")


def test_every_layout_is_in_the_help_and_in_the_errors() -> None:
    from upscore.cli.arguments import DATA_HELP
    from upscore.training.recipe import describe_settings

    (setting,) = [meaning for name, _, meaning in describe_settings() if name == "data.path"]
    for reader in READERS:
        assert reader.description.partition(" (")[0] in describe_readers()
        for text in (reader.description, DATA_HELP, setting):
            assert reader.name in text


def test_the_word_shapes_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch_pair(tmp_path / "shapes", "train")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("shapes").name == "shapes"
    assert len(open_dataset("shapes")) == 800
    assert len(open_dataset("./shapes")) == len(open_dataset(tmp_path / "shapes")) == 1


def test_no_other_reader_takes_a_voc_folder(tmp_path: Path) -> None:
    for part in ("JPEGImages", "SegmentationClass"):
        (tmp_path / part).mkdir()
    (tmp_path / "SegmentationClass" / "a.png").touch()
    recognising = [reader.name for reader in READERS if reader.recognise(str(tmp_path))]
    assert recognising[0] == "PASCAL VOC"


def test_names_that_no_file_can_have_are_one_line(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(DataError, match="no such dataset"):
            open_dataset(name)


def test_keys_and_their_order_are_what_they_always_were(tmp_path: Path) -> None:
    """Runs are resumed, and images drawn for val, by these: pinned."""
    for key in ("train/b", "train/deep/ä", "train/B", "train/a 1", "val/0"):
        for part, suffix in (("images", "jpg"), ("masks", "png")):
            (tmp_path / part / key).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB" if part == "images" else "L", (4, 4)).save(tmp_path / part / f"{key}.{suffix}")
    (tmp_path / "classes.txt").write_text("x\ny\n")
    expected = ["B", "a 1", "b", "deep/ä"]
    assert list(open_dataset(tmp_path).keys) == expected
    (tmp_path / "dataset.yaml").write_text("train: images/train\nval: [images/val, images/train]\ntest: list.txt\nnames: [x, y]\n")
    (tmp_path / "list.txt").write_text("images/val/0.jpg\nimages/train/b.jpg\n")
    assert list(open_dataset(tmp_path).keys) == expected
    assert list(open_dataset(tmp_path, "val").keys) == ["images/val/0", *(f"images/train/{key}" for key in expected)]
    assert list(open_dataset(tmp_path, "test").keys) == ["val/0", "train/b"]


@pytest.mark.parametrize("path", ["x" * 10**6, "a/" * 10**5, "a\0b", "\ud800", "", "\x1b[2J\n"])
def test_a_path_that_no_file_can_have_is_one_bounded_line(path: str) -> None:
    for open_it in (open_dataset, list_splits):
        with pytest.raises(DataError, match="expected the word shapes") as error:
            open_it(path)
        assert len(str(error.value)) < 2100
        assert not set(str(error.value)) & set("\n\x1b\0")


def test_paths_too_long_inside_a_file_are_one_bounded_line(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for key in ("path", "train", "masks_dir"):
        values = {"path": ".", "train": "images", "masks_dir": "masks"} | {key: "images/" * 30_000}
        (tmp_path / "dataset.yaml").write_text("".join(f"{name}: {value}\n" for name, value in values.items()) + "names: [a, b]\n")
        with pytest.raises(DataError) as error:
            open_dataset(tmp_path, "train")
        assert len(str(error.value)) < 2100
    (tmp_path / "list.txt").write_text("x" * 10**6)
    (tmp_path / "dataset.yaml").write_text("train: list.txt\nnames: [a, b]\n")
    with pytest.raises(DataError):
        open_dataset(tmp_path, "train")


def test_a_pipe_for_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.yaml")
    with pytest.raises(DataError, match="a pipe, a device or a socket"):
        open_dataset(tmp_path / "dataset.yaml", "train")
