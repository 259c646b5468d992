"""Folders of images and masks: what pairs with what, and what is said when something does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.folder_pairs import plain_splits
from upscore.data.readers.dataset_yaml import open_yaml, yaml_splits
from upscore.data.readers.plain_folder import open_plain_folder
from upscore.errors import DataError

SIZE = (6, 8)


def make_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def mask(path: Path, values: int | np.ndarray = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(np.uint8(values), size).copy()).save(path)


def pair(root: Path, key: str, values: int | np.ndarray = 0, suffix: str = ".jpg") -> None:
    make_image(root / "images" / f"{key}{suffix}")
    mask(root / "masks" / f"{key}.png", values)


def described(root: Path, extra: str = "", names: str = "[a, b]") -> Path:
    file = root / "dataset.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: {names}\n{extra}")
    return file


def refused(opening: object, *arguments: object) -> str:
    with pytest.raises(DataError) as error:
        opening(*arguments)  # type: ignore[operator]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_yaml_dataset_is_read_in_a_stable_order(tmp_path: Path) -> None:
    for key in ("train/b", "train/deep/a", "train/c", "val/x"):
        pair(tmp_path, key, 1)
    (tmp_path / "images" / "train" / ".hidden").touch()
    file = described(tmp_path)
    dataset = open_yaml(file, "train")
    assert yaml_splits(file) == ("train", "val")
    assert dataset.keys == ["b", "c", "deep/a"]
    assert (dataset.name, dataset.split, len(dataset), dataset.warnings) == (tmp_path.name, "train", 3, ())
    sample = dataset[2]
    assert (sample.key, sample.image.shape, sample.instances) == ("deep/a", (*SIZE, 3), None)
    assert (sample.label == 1).all()  # type: ignore[union-attr]


def test_label_mapping_ignores_what_it_does_not_name(tmp_path: Path) -> None:
    pair(tmp_path, "train/a", np.array([[0, 7, 9, 11, 200, 254, 255, 1]]))
    dataset = open_yaml(described(tmp_path, "label_mapping: {0: 0, 7: 1, 9: -1, 11: 255, 255: 1}"), "train")
    assert dataset[0].label[0].tolist() == [0, 1, 255, 255, 255, 255, 1, 255]  # type: ignore[index]


def test_values_that_are_no_class_are_refused_when_read(tmp_path: Path) -> None:
    pair(tmp_path, "train/a", np.array([[0, 1, 2, 254, 255, 0, 0, 0]]))
    assert re.search(r"found 2, 254 in the mask, expected 0 to 1", refused(open_yaml(described(tmp_path), "train").__getitem__, 0))


def test_masks_dir_takes_the_place_of_the_last_images(tmp_path: Path) -> None:
    root = tmp_path / "images"  # a folder above the dataset that happens to have the name
    make_image(root / "x" / "images" / "train" / "a.png")
    mask(root / "x" / "labels" / "deep" / "train" / "a.png", 1)
    (root / "d.yaml").write_text("path: x\ntrain: images/train\nnames: [a, b]\nmasks_dir: labels/deep\n")
    assert open_yaml(root / "d.yaml", "train").keys == ["a"]
    make_image(root / "y" / "photos" / "a.png")
    (root / "d.yaml").write_text("path: y\ntrain: photos\nnames: [a, b]\n")
    assert "has no folder 'images'" in refused(open_yaml, root / "d.yaml", "train")


def test_lists_of_folders_and_of_images(tmp_path: Path) -> None:
    for key in ("one/a", "two/a", "two/b"):
        pair(tmp_path, key)
    file = described(tmp_path)
    file.write_text("train: [images/one, images/two]\nval: some.txt\nnames: [a, b]\n")
    assert open_yaml(file, "train").keys == ["images/one/a", "images/two/a", "images/two/b"]
    (tmp_path / "some.txt").write_text("images/two/b.jpg\n\nimages/one/a.jpg\n")
    assert open_yaml(file, "val").keys == ["two/b", "one/a"]
    (tmp_path / "some.txt").write_text("images/two/none.jpg\n")
    assert "names images/two/none.jpg" in refused(open_yaml, file, "val")
    (tmp_path / "some.txt").write_text("\n")
    assert "the list is empty" in refused(open_yaml, file, "val")
    (tmp_path / "some.txt").write_text("images/two/b.jpg\nimages/two/b.jpg\n")
    assert "two images have the name" in refused(open_yaml, file, "val")
    file.write_text("train: [images/one, ./images/one/]\nnames: [a, b]\n")
    assert "twice" in refused(open_yaml, file, "train")


def test_what_does_not_pair_is_counted_and_named(tmp_path: Path) -> None:
    for number in range(5):
        pair(tmp_path, f"train/{number}")
    file = described(tmp_path)
    for number in range(4):
        (tmp_path / "masks" / "train" / f"{number}.png").unlink()
    assert "4 of 5 images have no mask (0, 1, 2 and 1 more)" in refused(open_yaml, file, "train")
    mask(tmp_path / "masks" / "train" / "0_mask.png")
    assert "and 1 of 2 masks have no image (0_mask)" in refused(open_yaml, file, "train")
    for number in range(4):
        mask(tmp_path / "masks" / "train" / f"{number}.png")
    assert re.search(r"\d: 1 of 6 masks have no image|^1 of 6 masks have no image", refused(open_yaml, file, "train"))
    (tmp_path / "masks" / "train" / "0_mask.png").unlink()
    make_image(tmp_path / "images" / "train" / "3.png")
    assert re.search(r"two images have the name '3': .*3\.jpg and .*3\.png", refused(open_yaml, file, "train"))
    (tmp_path / "images" / "train" / "3.png").unlink()
    mask(tmp_path / "masks" / "train" / "3.bmp")
    assert "two masks have the name '3'" in refused(open_yaml, file, "train")


def test_missing_and_empty_places(tmp_path: Path) -> None:
    file = described(tmp_path)
    assert "images/train: no such folder" in refused(open_yaml, file, "train")
    (tmp_path / "images" / "train").mkdir(parents=True)
    assert "holds no image" in refused(open_yaml, file, "train")
    make_image(tmp_path / "images" / "train" / "a.jpg")
    assert "masks/train: no such folder" in refused(open_yaml, file, "train")
    assert "no split 'test', expected one of train, val" in refused(open_yaml, file, "test")


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    make_image(tmp_path / "images" / "train" / "a.jpg")
    mask(tmp_path / "masks" / "train" / "a.png", size=(8, 6))
    dataset = open_yaml(described(tmp_path), "train")
    for read in (dataset.__getitem__, dataset.raw_label):
        assert "the mask is 8×6 (height × width) and its image a.jpg is 6×8" in refused(read, 0)


def test_instances_mirror_masks(tmp_path: Path) -> None:
    for key in ("train/a", "train/b"):
        pair(tmp_path, key, 1)
    mask(tmp_path / "instances" / "train" / "a.png", 7)
    dataset = open_yaml(described(tmp_path), "train")
    assert (dataset[0].instances == 7).all()  # type: ignore[union-attr]
    assert dataset[1].instances is None
    assert dataset.warnings == ("1 of 2 images have no instance mask (b)",)


def test_links_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    pair(tmp_path, "train/a")
    for part in ("images", "masks"):
        (tmp_path / part / "train" / "round").symlink_to(tmp_path / part / "train", target_is_directory=True)
        (tmp_path / "elsewhere" / part).mkdir(parents=True)
        (tmp_path / part / "train" / "linked").symlink_to(tmp_path / "elsewhere" / part, target_is_directory=True)
    make_image(tmp_path / "elsewhere" / "images" / "z.png")
    mask(tmp_path / "elsewhere" / "masks" / "z.png")
    assert open_yaml(described(tmp_path), "train").keys == ["a", "linked/z"]


def test_a_plain_folder_with_splits_and_names(tmp_path: Path) -> None:
    pair(tmp_path, "train/a", 1)
    pair(tmp_path, "val/b", 0)
    (tmp_path / "classes.txt").write_text("ground\nthing\n\n")
    (tmp_path / "images" / "train" / "notes.txt").touch()
    dataset = open_plain_folder(tmp_path, "train")
    assert plain_splits(tmp_path) == ("train", "val")
    assert (dataset.keys, dataset.labels.names) == (["a"], ("ground", "thing"))
    assert len(dataset.warnings) == 1
    assert "1 files in" in dataset.warnings[0]
    assert "notes.txt" in dataset.warnings[0]
    assert "no split 'test'" in refused(open_plain_folder, tmp_path, "test")


def test_a_plain_folder_whose_names_are_no_text_is_divided_too(tmp_path: Path) -> None:
    for number in range(10):
        pair(tmp_path, f"caf\udce9{number}", number % 3)
    train, val = (open_plain_folder(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 2)


def test_a_plain_folder_is_divided_for_good(tmp_path: Path) -> None:
    for number in range(10):
        pair(tmp_path, f"{number}", number % 3)
    train, val = (open_plain_folder(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train.keys + val.keys) == [str(number) for number in range(10)]
    assert train.labels.names == val.labels.names == ("class0", "class1", "class2")
    assert any("2 of 10 images, chosen by a hash of their names, are val" in warning for warning in train.warnings)
    assert any("class names are not given" in warning for warning in train.warnings)
    assert val.keys == ["2", "6"]  # pinned: a split that moved would leak val into train between versions


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    assert "at least 2" in refused(open_plain_folder, tmp_path, "val")


@pytest.mark.parametrize("values", [[0, 255], [0, 128, 200], [255, 255], [0, 40]])
def test_values_that_are_not_plainly_classes_are_not_guessed_at(tmp_path: Path, values: list[int]) -> None:
    for key in ("train/a", "val/b"):
        pair(tmp_path, key, np.resize(values, SIZE))
    message = refused(open_plain_folder, tmp_path, "train")
    assert "not plainly classes" in message
    assert ("check the masks" if values == [255, 255] else f"write the file {tmp_path}/dataset.yaml") in message
