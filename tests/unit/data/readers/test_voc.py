"""PASCAL VOC's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upscore.data.mask_check import check_dataset
from upscore.data.readers.voc import open_voc, voc_splits
from upscore.data.voc_names import VOC_NAMES
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
        ("unlabelled\n", "1 of 1 images have no mask"),
        ("a/../b\n", "without folder"),
        ("2007_1\n2007_1\n", "two images have the name"),
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


def own(root: Path, keys: dict[str, list[str]], suffix: str = ".jpg", colour: tuple[int, int, int] | None = None) -> Path:
    """A folder as annotation tools write it: a square of class 1 in each mask, in a colour or as the number."""
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for key in {key for names in keys.values() for key in names} or {f"p{number}" for number in range(5)}:
        square = np.zeros((4, 5), np.uint8)
        square[1:3, 1:3] = 1
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(root / "JPEGImages" / f"{key}{suffix}")
        mask = square if colour is None else np.multiply.outer(square, np.array(colour, np.uint8))
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{key}.png")
    for name, names in keys.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(names))
    return root


BOTH = {"train": ["a", "b"], "val": ["c"]}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("class_names.txt", "_background_\ncrack\n"),
        ("class_names.txt", "\ufeff__ignore__\r\n_background_\r\ncrack\r\n"),
        ("classes.txt", "_background_\ncrack\n"),
        ("labelmap.txt", "_background_\ncrack\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\n_background_:0,0,0::\ncrack:128,0,0::\n"),
    ],
)
def test_own_classes_are_read(tmp_path: Path, file: str, content: str) -> None:
    root = own(tmp_path / "cracks", BOTH)
    (root / file).write_text(content)
    dataset = open_voc(root, "train")
    assert dataset.labels.names == ("_background_", "crack")
    assert dataset.warnings == (f"the names of the 2 classes come from {file}",)
    assert np.unique(dataset[0].label).tolist() == [0, 1]  # type: ignore[arg-type]


def test_voc_s_classes_are_said_to_be_taken_and_the_remedy_works(tmp_path: Path) -> None:
    root = own(tmp_path / "cracks", BOTH)
    assert "the classes are taken for PASCAL VOC's 21 (background, aeroplane, bicycle, …)" in open_voc(root, "train").warnings[0]
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(np.full((4, 5), 30, np.uint8)).save(path)
    dataset = open_voc(root, "train")
    for check in (lambda: check_dataset(dataset), lambda: dataset[0]):
        with pytest.raises(
            DataError, match=r"30.*expected 0 to 20.*PASCAL VOC's 21; if they are others, write their names into class_names"
        ):
            check()
    (root / "class_names.txt").write_text("\n".join(f"c{number}" for number in range(31)))
    assert len(open_voc(root, "train")[0].label) == 4  # type: ignore[arg-type]


def test_voc_s_own_images_need_no_note(root: Path) -> None:
    for path in [*(root / "JPEGImages").iterdir(), *(root / "SegmentationClass").iterdir()]:
        path.rename(path.with_stem(path.stem.replace("2007_", "2007_00000")))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000001\n")
    assert open_voc(root, "val").warnings == ()


def test_colour_masks_are_read_with_the_label_map(tmp_path: Path) -> None:
    root = own(tmp_path / "task", {"default": ["a", "b", "c", "d", "e", "f"]}, colour=(250, 50, 83))
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncrack:250,50,83::\nbackground:0,0,0::\n")
    assert voc_splits(root) == ("default", "train", "val")
    train, val, every = (open_voc(root, split) for split in ("train", "val", "default"))
    assert (len(train), len(val), len(every)) == (5, 1, 6)
    assert sorted(train.keys + val.keys) == every.keys
    assert (train.split, val.split) == ("train", "val")
    assert train.labels.names == ("crack", "background")
    assert train.labels.palette == ((250, 50, 83), (0, 0, 0))
    assert train[0].label.tolist() == [[1] * 5, [1, 0, 0, 1, 1], [1, 0, 0, 1, 1], [1] * 5]  # type: ignore[union-attr]
    assert "has one list, default.txt, so 1 of 6 images" in train.warnings[0]
    assert check_dataset(train).class_pixels.tolist() == [20, 80]


def test_voc_s_own_colour_of_void_is_ignored(tmp_path: Path) -> None:
    root = own(tmp_path / "task", BOTH, colour=(224, 224, 192))
    (root / "labelmap.txt").write_text("background:0,0,0::\ncrack:250,50,83::\n")
    assert np.unique(open_voc(root, "train")[0].label).tolist() == [0, 255]  # type: ignore[arg-type]


def test_without_lists_every_image_with_a_mask_is_taken(tmp_path: Path) -> None:
    root = own(tmp_path / "cracks", {}, suffix=".png")
    (root / "JPEGImages" / "p0.png").rename(root / "JPEGImages" / "p0.JPG")
    (root / "class_names.txt").write_text("_background_\ncrack\n")
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(root / "JPEGImages" / "unlabelled.jpg")
    assert voc_splits(root) == ("train", "val")
    train, val = open_voc(root, "train"), open_voc(root, "validation")
    assert (len(train), len(val), val.split) == (4, 1, "val")
    assert "1 images in JPEGImages have no mask" in train.warnings[0]
    for path in (root / "SegmentationClass").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="the folder holds no mask"):
        open_voc(root, "train")


@pytest.mark.parametrize(
    "content",
    [
        "a\nb\n",
        "\ufeffa\r\nb\r\n",
        "a.png\nb.PNG\n",
        "a 1\nb -1\n",
        "/JPEGImages/a.png /SegmentationClass/a.png\n/JPEGImages/b.png /SegmentationClass/b.png\n",
        "JPEGImages\\a.png SegmentationClass\\a.png\nJPEGImages\\b.png SegmentationClass\\b.png\n",
    ],
)
def test_lists_of_other_tools(tmp_path: Path, content: str) -> None:
    root = own(tmp_path / "cracks", BOTH, suffix=".png")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(content)
    assert open_voc(root, "train").keys == ["a", "b"]


def test_names_with_blanks_and_lists_by_other_names(tmp_path: Path) -> None:
    root = own(tmp_path / "cracks", {"training": ["my photo", "b"], "valid": ["c"]})
    assert voc_splits(root) == ("training", "valid")
    assert open_voc(root, "train").keys == ["my photo", "b"]
    assert (open_voc(root, "val").keys, open_voc(root, "val").split) == (["c"], "valid")
    (root / "ImageSets" / "Segmentation" / "training.txt").write_text("JPEGImages/b.jpg SegmentationClass/none.png\n")
    with pytest.raises(DataError, match=r"names SegmentationClass/none\.png, which is not below"):
        open_voc(root, "train")


def test_masks_saved_again_in_voc_s_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = np.array([*voc_palette(21), (224, 224, 192)], np.uint8)
    stored = {}
    for number in range(5):
        stored[str(number)] = rng.integers(0, 22, (6, 8))
        for folder, pixels in (("JPEGImages", np.zeros((6, 8, 3), np.uint8)), ("SegmentationClass", colours[stored[str(number)]])):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    dataset = open_voc(tmp_path, "train")
    for index, key in enumerate(dataset.keys):
        np.testing.assert_array_equal(dataset[index].label, np.where(stored[key] == 21, 255, stored[key]))
