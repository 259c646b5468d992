"""Which folders hold images and which masks."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from upscore.data.folder_pairs import plain_splits
from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS
from upscore.data.readers.dataset_yaml import open_yaml
from upscore.data.readers.plain_folder import open_plain_folder
from upscore.errors import DataError

CLASSES = "ground\nbox\n"


def dataset(root: Path, images: str, masks: str, splits: dict[str, str]) -> Path:
    """Two images for each split; its name in the folders of images and of masks."""
    for image_split, mask_split in splits.items():
        for key in "ab":
            for place, suffix, mode in ((images.format(image_split), "jpg", "RGB"), (masks.format(mask_split), "png", "L")):
                file = root / place / f"{key}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (8, 6)).save(file)
    (root / "classes.txt").write_text(CLASSES)
    return root


SAME = {"train": "train", "val": "val"}


@pytest.mark.parametrize(
    ("images", "masks", "splits", "warning"),
    [
        ("images/{}", "masks/{}", SAME, ""),
        ("images/{}", "masks/{}", {"training": "training", "validation": "validation"}, ""),
        ("images/{}", "masks/{}", {"train": "train", "valid": "val"}, ""),
        ("images/{}", "masks/{}", {"Train": "train", "Valid": "val"}, ""),
        ("imgs/{}", "masks/{}", SAME, "imgs"),
        ("img_dir/{}", "ann_dir/{}", SAME, "ann_dir"),
        ("images/{}", "annotations/{}", {"training": "training", "validation": "validation"}, "annotations"),
        ("Image/{}", "GT/{}", SAME, "GT"),
        ("JPEGImages/{}", "labels/{}", SAME, "labels"),
        ("{}/images", "{}/masks", {"train": "train", "valid": "valid"}, ""),
        ("{}/image", "{}/label", SAME, "label"),
        ("{}_images", "{}_masks", SAME, "train_masks"),
        ("images_{}", "masks-{}", SAME, "masks-train"),
        ("{}", "{}annot", SAME, "trainannot"),
        ("{}", "{}_masks", SAME, "train_masks"),
    ],
)
def test_folders_by_other_names(tmp_path: Path, images: str, masks: str, splits: dict[str, str], warning: str) -> None:
    root = dataset(tmp_path / "set", images, masks, splits)
    assert plain_splits(root) == ("train", "val")
    for split in ("train", "val", "valid"):
        found = open_plain_folder(root, split)
        assert (found.keys, found.labels.names) == (["a", "b"], ("ground", "box"))
        assert found.split == ("train" if split == "train" else "val")
    warnings = open_plain_folder(root, "train").warnings
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


@pytest.mark.parametrize("images", IMAGE_FOLDERS)
def test_every_word_for_images_can_be_divided(tmp_path: Path, images: str) -> None:
    dataset(tmp_path, images + "{}", "masks{}", {"": ""})
    assert len(open_plain_folder(tmp_path, "train")) == len(open_plain_folder(tmp_path, "val")) == 1


@pytest.mark.parametrize("masks", MASK_FOLDERS)
def test_every_word_for_masks_can_be_divided(tmp_path: Path, masks: str) -> None:
    dataset(tmp_path, "images{}", masks + "{}", {"": ""})
    assert len(open_plain_folder(tmp_path, "train")) == 1


def test_several_folders_are_an_error_and_the_remedy_works(tmp_path: Path) -> None:
    root = dataset(tmp_path, "imgs/{}", "mask/{}", SAME)
    dataset(tmp_path, "imgs/{}", "gt/{}", SAME)
    with pytest.raises(DataError, match=r"the images may be in imgs and the masks in gt, mask: name them in a dataset\.yaml") as error:
        open_plain_folder(root, "train")
    said = str(error.value).partition("as in ")[2]
    (root / "dataset.yaml").write_text(
        said.replace(", val:", "\nval:").replace(", masks_dir:", "\nmasks_dir:").replace(", names:", "\nnames:")
    )
    found = open_yaml(root / "dataset.yaml", "val")
    assert (found.keys, found.labels.names) == (["a", "b"], ("background", "thing"))


def test_two_folders_of_one_split_are_an_error(tmp_path: Path) -> None:
    root = dataset(tmp_path, "{}_images", "{}_masks", SAME)
    dataset(tmp_path, "{}_images", "{}_labels", SAME)
    with pytest.raises(DataError, match="the images of train may be in train_images and the masks in train_labels, train_masks"):
        plain_splits(root)


def test_val_comes_before_its_other_names(tmp_path: Path) -> None:
    root = dataset(tmp_path, "images/{}", "masks/{}", {"train": "train", "val": "val", "valid": "valid", "dev": "dev"})
    for name in "ab":
        (root / "images" / "valid" / f"{name}.jpg").rename(root / "images" / "valid" / f"other{name}.jpg")
    assert open_plain_folder(root, "val").keys == ["a", "b"]


def test_folders_that_are_no_pair_of_splits_are_divided_as_before(tmp_path: Path) -> None:
    root = dataset(tmp_path, "images/{}", "masks/{}", {"dev": "dev", "night": "night"})
    assert plain_splits(root) == ("train", "val")
    assert sorted(open_plain_folder(root, "train").keys + open_plain_folder(root, "val").keys) == ["dev/a", "dev/b", "night/a", "night/b"]


def test_folders_of_text_are_no_masks(tmp_path: Path) -> None:
    root = dataset(tmp_path, "images/{}", "annotations/{}", SAME)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.3\n")
    assert open_plain_folder(root, "train").keys == ["a", "b"]
