"""Opening a dataset by looking at what is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.opening import list_splits, open_dataset
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
            with pytest.raises(DataError, match=r"dataset\.yaml.*images/ and masks/.*PASCAL VOC.*shapes") as error:
                opening(place)
            assert "\n" not in str(error.value)


def test_options_are_for_shapes_alone(tmp_path: Path) -> None:
    touch_pair(tmp_path, "train")
    with pytest.raises(DataError, match="count, seed"):
        open_dataset(tmp_path, "train", seed=1, count=3)


@pytest.mark.parametrize("name", ["camvid", "pennfudan", "em"])
def test_real_data_opens(shared_data: Path, name: str) -> None:
    dataset = open_dataset(shared_data / name, "val")
    sample = dataset[0]
    assert sample.label is not None
    assert sample.image.shape[:2] == sample.label.shape
    assert (sample.instances is not None) == (name == "pennfudan")


@pytest.mark.parametrize("path", ["x" * 10**6, "a/" * 10**5, "a\0b", "\ud800", "", "\x1b[2J\n"])
def test_a_path_that_no_file_can_have_is_one_bounded_line(path: str) -> None:
    for open_it in (open_dataset, list_splits):
        with pytest.raises(DataError, match="expected a dataset") as error:
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
