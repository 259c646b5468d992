"""Masks beside their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers.side_by_side import MASK_WORDS, open_side_by_side
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


def test_without_names_the_remedy_works(tmp_path: Path) -> None:
    beside(tmp_path)
    with pytest.raises(DataError, match=r"write the names of the classes 0, 1, 2, … into .*classes\.txt, one a line"):
        open_dataset(tmp_path, "train")
    (tmp_path / "classes.txt").write_text("ground\nbox\n")
    assert open_dataset(tmp_path, "train").labels.names == ("ground", "box")


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    beside(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\nbox\n")
    (tmp_path / "a_mask.png").rename(tmp_path / "z_mask.png")
    with pytest.raises(DataError, match=r"1 of 5 images have no mask \(a\) and 1 of 5 masks have no image \(z\)"):
        open_side_by_side(tmp_path, "train")
    (tmp_path / "z_mask.png").rename(tmp_path / "a_label.png")
    with pytest.raises(DataError, match="2 kinds, whose names end in _label, _mask: leave those of one kind"):
        open_side_by_side(tmp_path, "train")
