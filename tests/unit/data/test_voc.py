"""PASCAL VOC's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.voc import VOC_NAMES, open_voc, voc_splits
from upscore.errors import DataError
from upscore.types import voc_palette


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for key in ("2007_1", "2007_2", "unlabelled"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{key}.jpg")
    for key in ("2007_1", "2007_2"):
        mask = Image.fromarray(np.array([[0, 15, 20, 255, 0]] * 4, np.uint8)).convert("P")
        mask.putpalette(np.array(voc_palette(256), np.uint8).tobytes())
        mask.save(tmp_path / "SegmentationClass" / f"{key}.png")
        Image.fromarray(np.array([[0, 1, 2, 255, 0]] * 4, np.uint8)).save(tmp_path / "SegmentationObject" / f"{key}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_2\n2007_1\n")
    (lists / "seg11valid.txt").write_text("2007_1\n")
    return tmp_path


def test_a_list_is_a_split(root: Path) -> None:
    assert voc_splits(root) == ("seg11valid", "train")
    dataset = open_voc(root, "train")
    assert dataset.keys == ["2007_2", "2007_1"]
    assert dataset.labels.names == VOC_NAMES
    assert dataset.labels.palette == voc_palette(21)
    sample = dataset[0]
    assert sample.label[0].tolist() == [0, 15, 20, 255, 0]  # type: ignore[index]
    assert sample.instances[0].tolist() == [0, 1, 2, 0, 0]  # type: ignore[index]
    assert open_voc(root, "seg11valid").keys == ["2007_1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the list is empty"),
        ("nope\n", r"nope\.jpg: no such file"),
        ("unlabelled\n", "1 of 1 pictures have no mask"),
        ("a/../b\n", "without folder"),
        ("2007_1\n2007_1\n", "two pictures share"),
    ],
)
def test_a_wrong_list_is_one_line(root: Path, content: str, message: str) -> None:
    (root / "ImageSets" / "Segmentation" / "mine.txt").write_text(content)
    with pytest.raises(DataError, match=message) as error:
        open_voc(root, "mine")
    assert "\n" not in str(error.value)


def test_an_unknown_list_names_the_nearest(root: Path) -> None:
    with pytest.raises(DataError, match=r"trai\.txt \(did you mean 'train'\?\), found seg11valid, train"):
        open_voc(root, "trai")
