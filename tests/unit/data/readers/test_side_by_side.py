"""Masks beside their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.folder_roles import MASK_WORDS
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers.side_by_side import open_side_by_side
from upscore.errors import DataError


def beside(folder: Path, word: str = "_mask", keys: str = "abcde", box: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        Image.new("RGB", (8, 6)).save(folder / f"{key}.jpg")
        mask = np.zeros((6, 8), np.uint8)
        mask[0, 0] = box
        Image.fromarray(mask).save(folder / f"{key}{word}.png")
    return folder


@pytest.mark.parametrize("box", [1, 5])
def test_roboflow_s_export_of_masks(tmp_path: Path, box: int) -> None:
    for split in ("train", "valid"):
        folder = beside(tmp_path / split, box=box)
        (folder / "_classes.csv").write_text(f"Pixel Value, Class\n0, ground\n{box}, box\n")
    (tmp_path / "README.roboflow.txt").touch()
    assert list_splits(tmp_path) == ("train", "val")
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        assert (list(dataset.keys), dataset.labels.names, dataset.split) == (list("abcde"), ("ground", "box"), split)
        assert np.bincount(dataset[0].label.ravel()).tolist() == [47, 1]  # type: ignore[union-attr]
        assert "the names of the 2 classes come from _classes.csv" in dataset.warnings


@pytest.mark.parametrize("word", [*MASK_WORDS, "_Mask"])
def test_one_folder_is_divided(tmp_path: Path, word: str) -> None:
    beside(tmp_path, word)
    (tmp_path / "classes.txt").write_text("ground\nbox\n")
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert (len(train), len(val)) == (4, 1)
    assert sorted([*train.keys, *val.keys]) == list("abcde")
    assert f"names end in {word.lower()}" in train.warnings[0]


def test_folders_of_any_names_are_one_dataset(tmp_path: Path) -> None:
    for number, site in enumerate(("north", "south", "west")):
        beside(tmp_path / site, keys="abcdefgh"[number * 2 : number * 2 + 2])
    assert list_splits(tmp_path) == ("train", "val")
    keys = [key for split in ("train", "val") for key in open_dataset(tmp_path, split).keys]
    assert sorted(keys) == ["north/a", "north/b", "south/c", "south/d", "west/e", "west/f"]


def test_without_names_the_values_are_the_classes(tmp_path: Path) -> None:
    beside(tmp_path)
    dataset = open_dataset(tmp_path, "train")
    assert dataset.labels.names == ("class0", "class1")
    assert any("write the names of the classes 0, 1, 2, … into" in warning for warning in dataset.warnings)
    (tmp_path / "classes.txt").write_text("ground\nbox\n")
    assert open_dataset(tmp_path, "train").labels.names == ("ground", "box")


def test_without_names_values_that_are_not_plainly_classes_are_one_line(tmp_path: Path) -> None:
    beside(tmp_path, box=77)
    with pytest.raises(
        DataError, match=r"write the names of the classes 0, 1, 2, … into .*classes\.txt, one a line; the masks hold the values 0, 77"
    ):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize("word", ["_mask", "-MASK", "_gt"])
def test_masks_of_0_and_255_are_one_object(tmp_path: Path, word: str) -> None:
    beside(tmp_path, word, keys="aüc", box=255)
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / "a.jpg").rename(tmp_path / "a.JPG")
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert train.labels.names == val.labels.names == ("background", "object")
    assert np.bincount(train[0].label.ravel()).tolist() == [47, 1]  # type: ignore[union-attr]
    assert any("0 and 255 alone, which were taken for the classes background and object" in warning for warning in train.warnings)
    assert not any("left out" in warning for warning in train.warnings)


def test_colours_of_a_class_dict(tmp_path: Path) -> None:
    beside(tmp_path)
    (tmp_path / "class_dict.csv").write_text('name,r,g,b\nSky,128,128,128\n"Car",64,0,128\nVoid,0,0,0\n')
    colours = np.array([[128, 128, 128], [64, 0, 128], [0, 0, 0]], np.uint8)
    rng = np.random.default_rng(0)
    stored = {key: rng.integers(0, 3, (6, 8)) for key in "abcde"}
    for key, numbers in stored.items():
        Image.fromarray(colours[numbers]).save(tmp_path / f"{key}_mask.png")
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("Sky", "Car")
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset[index].label, np.where(stored[key] == 2, 255, stored[key]))


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    beside(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\nbox\n")
    (tmp_path / "a_mask.png").rename(tmp_path / "z_mask.png")
    with pytest.raises(DataError, match=r"1 of 5 images have no mask \(a\) and 1 of 5 masks have no image \(z\)"):
        open_side_by_side(tmp_path, "train")
    (tmp_path / "z_mask.png").rename(tmp_path / "a_label.png")
    with pytest.raises(DataError, match="2 kinds, whose names end in _label, _mask: leave those of one kind"):
        open_side_by_side(tmp_path, "train")
