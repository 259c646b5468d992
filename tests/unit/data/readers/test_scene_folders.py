"""A folder for each scene: their images and masks inside, or scenes inside images/ and masks/."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from small_files import image, mask, write
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

SCENES = ("rome", "oslo", "lima", "bonn", "kyiv")


def scene(folder: Path, count: int = 3, images: str = "images", masks: str = "masks") -> None:
    for number in range(count):
        image(folder / images / f"f{number}.png", number)
        path = folder / masks / f"f{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask(0, 1)).save(path)


def test_scenes_are_divided_as_a_whole(tmp_path: Path) -> None:
    for name in SCENES:
        scene(tmp_path / name, images="imgs", masks="labels")
    write(tmp_path / "classes.txt", "ground\nbox\n")
    train, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    scenes = [{key.partition("/")[0] for key in dataset.keys} for dataset in (train, val)]
    assert (len(scenes[0]), len(scenes[1])) == (4, 1)
    assert not scenes[0] & scenes[1]
    assert any("3 of 15 images, those of 1 of 5 groups by folder" in warning for warning in train.warnings)
    assert train.labels.names == ("ground", "box")


def test_scenes_in_folders_of_splits(tmp_path: Path) -> None:
    scene(tmp_path / "train" / "rome")
    scene(tmp_path / "valid" / "oslo")
    assert list_splits(tmp_path) == ("train", "val")
    assert list(open_dataset(tmp_path, "val").keys) == ["oslo/f0", "oslo/f1", "oslo/f2"]
    assert open_dataset(tmp_path, "train").labels.names == ("class0", "class1")
    with pytest.raises(DataError, match=r"found split_by and data that is divided already \(train, val\): leave it out"):
        open_dataset(tmp_path, "train", split_by="folder")


def test_scenes_inside_the_folders_of_images_and_masks(tmp_path: Path) -> None:
    for name in SCENES:
        scene(tmp_path, images=f"images/{name}", masks=f"masks/{name}")
    val = open_dataset(tmp_path, "val", split_by="folder")
    assert len({key.partition("/")[0] for key in val.keys}) == 1
    assert len(val) == 3
    assert (val[0].label == mask(0, 1)).all()  # type: ignore[union-attr]
