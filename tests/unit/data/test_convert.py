"""Datasets of one layout become those of another, and what differs is counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import save_image
from upscore.data import convert as module
from upscore.data.convert import convert
from upscore.data.dataset import InFiles
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.write_dataset import WRITERS
from upscore.errors import DataError, OutputError

RNG = np.random.default_rng(0)


def make(root: Path, names: str = "[background, road, car]", values: tuple[int, ...] = (0, 1, 2, 255), orientation: int = 1) -> Path:
    """Write a folder with train and val of three images each, as JPEG and PNG."""
    for split in ("train", "val"):
        for number, suffix in enumerate((".jpg", ".JPG", ".png")):
            name = f"street/{split}{number}"
            image = root / "images" / split / f"{name}{suffix}"
            save_image(image, 9, 12, orientation if suffix == ".jpg" else 1)
            turned = orientation >= 5 and suffix == ".jpg"
            mask = root / "masks" / split / f"{name}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.choice(np.array(values, np.uint8), (12, 9) if turned else (9, 12))).save(mask)
    (root / "dataset.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "data")


def _images_below(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".png")]
    return [path for path in found if not {"masks", "instances", "SegmentationClass", "SegmentationObject"} & set(path.parts)]


def labels_of(root: Path) -> dict[str, np.ndarray]:
    found = {}
    for split in list_splits(root):
        dataset = open_dataset(root, split)
        assert isinstance(dataset, InFiles)
        for index, file in enumerate(dataset.image_files):
            found[file.stem.rpartition("_")[2]] = dataset[index].label
    return found


@pytest.mark.parametrize("to", [writer.name for writer in WRITERS])
def test_images_are_copied_and_label_maps_are_equal(to, data, tmp_path):
    calls = []
    converted = convert(data, tmp_path / "new", to=to, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 12) for number in range(1, 13)]
    assert (converted.images, converted.unread, converted.pixels) == ({"train": 3, "val": 3}, 0, 6 * 9 * 12)
    assert (converted.shapes == 0) == (to in ("folder", "voc"))
    copies = {path.stem.rpartition("_")[2]: path for path in _images_below(tmp_path / "new")}
    assert len(copies) == 6
    for path in _images_below(data):
        assert copies[path.stem].read_bytes() == path.read_bytes()
    ignored = sum(int((label == 255).sum()) for label in labels_of(data).values())
    assert converted.differing == (ignored if to == "yolo" else 0)
    if to == "yolo":
        assert f"{ignored} ignored pixels become background, as YOLO holds none" in converted.messages
    else:
        found, expected = labels_of(tmp_path / "new"), labels_of(data)
        assert found.keys() == expected.keys()
        for key, label in expected.items():
            np.testing.assert_array_equal(found[key], label)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("to", [writer.name for writer in WRITERS])
def test_any_format_becomes_a_folder_again(to, tmp_path):
    data = make(tmp_path / "data", values=(0, 1, 2))
    convert(data, tmp_path / "there", to=to)
    back = convert(tmp_path / "there", tmp_path / "back")
    assert (back.differing, back.unread, back.original.names) == (0, 0, ("background", "road", "car"))
    expected, found = labels_of(data), labels_of(tmp_path / "back")
    assert found.keys() == expected.keys()
    for key, label in expected.items():
        np.testing.assert_array_equal(found[key], label)


@pytest.mark.parametrize("to", [writer.name for writer in WRITERS])
def test_images_that_are_turned_by_exif_keep_their_labels(to, tmp_path):
    data = make(tmp_path / "data", orientation=6, values=(0, 1, 2))
    assert convert(data, tmp_path / "new", to=to).differing == 0


def test_pixels_that_differ_are_counted_when_polygons_are_simplified(data, tmp_path):
    converted = convert(data, tmp_path / "new", to="labelme", tolerance=2)
    found, expected = labels_of(tmp_path / "new"), labels_of(data)
    assert converted.differing == sum(int((found[key] != label).sum()) for key, label in expected.items()) > 0


def test_a_background_that_a_reader_adds_is_in_the_classes(tmp_path):
    data = make(tmp_path / "data", names="[sky, road, car]")
    converted = convert(data, tmp_path / "new", to="cvat")
    assert converted.labels.names == ("background", "sky", "road", "car")
    assert converted.differing == 0
    assert convert(data, tmp_path / "coco", to="coco").labels.names == ("sky", "road", "car")


def test_splits_are_chosen_and_renamed(data, tmp_path):
    converted = convert(data, tmp_path / "new", splits=["val=train", "train=test"])
    assert converted.images == {"train": 3, "test": 3}
    assert all("val" in key for key in open_dataset(tmp_path / "new", "train").keys)
    with pytest.raises(DataError, match="the splits train and val would both be written as train"):
        convert(data, tmp_path / "other", splits=["train", "val=train"])
    with pytest.raises(DataError, match="the split 'mine' cannot be written, expected one of train, val, test"):
        convert(data, tmp_path / "other", splits=["val=mine"])
    with pytest.raises(DataError, match="no split 'vla'"):
        convert(data, tmp_path / "other", splits=["vla=val"])
    assert not (tmp_path / "other").exists()


def test_lists_of_voc_that_are_no_split_are_left_out_and_named(data, tmp_path):
    convert(data, tmp_path / "voc", to="voc")
    lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    converted = convert(tmp_path / "voc", tmp_path / "new")
    assert converted.images == {"train": 3, "val": 3}
    assert any(message.startswith("the split trainval was left out") for message in converted.messages)


def test_generated_images_are_stored_without_loss(tmp_path):
    converted = convert("shapes:count=4", tmp_path / "new", to="labelme", splits=["val"])
    assert converted.differing == 0
    original = open_dataset("shapes:count=4", "val")
    (stored,) = [path for path in (tmp_path / "new").rglob("*.png") if path.stem == original.keys[0].rpartition("/")[2]]
    np.testing.assert_array_equal(np.asarray(Image.open(stored)), original[0].image)


def with_objects(root: Path, label: np.ndarray, instances: np.ndarray) -> Path:
    """Write a dataset with the same image in train and val."""
    for split in ("train", "val"):
        save_image(root / "images" / split / f"{split}.png", *label.shape)
        for folder, values in (("masks", label), ("instances", instances)):
            (root / folder / split).mkdir(parents=True)
            Image.fromarray(values).save(root / folder / split / f"{split}.png")
    (root / "dataset.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [background, road, car]\n")
    return root


def objects_of(root: Path) -> set[tuple[int, frozenset[int]]]:
    """Return the class and the pixels of each object of the image in train."""
    sample = open_dataset(root, "train")[0]
    assert sample.instances is not None
    assert sample.label is not None
    found = set()
    for number in set(sample.instances.ravel().tolist()) - {0}:
        pixels = np.flatnonzero(sample.instances == number)
        (label,) = set(sample.label.ravel()[pixels].tolist())
        found.add((label, frozenset(pixels.tolist())))
    return found


# Two cars touch, and one of them is hidden in part by a third thing, which leaves it two parts, one with a hole.
LABEL = np.array(
    [[2, 2, 2, 2, 2, 1, 2, 0], [2, 0, 2, 2, 2, 1, 2, 0], [2, 2, 2, 2, 2, 1, 2, 255], [0, 0, 0, 0, 0, 1, 0, 255]], np.uint8
)  # fmt: skip
INSTANCES = np.array(
    [[3, 3, 3, 300, 300, 7, 300, 0], [3, 0, 3, 300, 300, 7, 300, 0], [3, 3, 3, 300, 300, 7, 300, 0], [0, 0, 0, 0, 0, 7, 0, 0]], np.uint16
)  # fmt: skip
IN_PARTS = ("yolo", "label-studio")  # formats whose objects have one part


@pytest.mark.parametrize("to", [writer.name for writer in WRITERS])
def test_objects_stay_apart_and_their_parts_together(to, tmp_path):
    data = with_objects(tmp_path / "data", LABEL, INSTANCES)
    converted = convert(data, tmp_path / "new", to=to)
    expected = objects_of(data)
    assert (len(expected), converted.objects) == (3, 6)
    assert converted.regrouped == 2 * (to in IN_PARTS)
    found = objects_of(tmp_path / "new")
    if to not in IN_PARTS:
        assert found == expected
    else:
        joined = {pixels for _, pixels in found}
        assert len(found) == 4
        assert frozenset().union(*joined) == frozenset().union(*(pixels for _, pixels in expected))
    assert ("objects of several parts" in next(writer.lacks for writer in WRITERS if writer.name == to)) == (to in IN_PARTS)


@pytest.mark.parametrize("to", [writer.name for writer in WRITERS])
def test_objects_that_are_lost_are_counted(to, tmp_path, monkeypatch):
    data = with_objects(tmp_path / "data", np.where(LABEL == 255, 0, LABEL).astype(np.uint8), INSTANCES)
    write = module._write

    def without_objects(writer, datasets, progress):
        trace, add = writer.trace, writer.add
        monkeypatch.setattr(writer, "trace", lambda label, instances=None: trace(label, instances), raising=False)
        monkeypatch.setattr(writer, "add", lambda image, shapes: add(replace(image, instances=None)), raising=False)
        return write(writer, datasets, progress)

    monkeypatch.setattr(module, "_write", without_objects)
    converted = convert(data, tmp_path / "new", to=to)
    assert (converted.differing, converted.regrouped) == (0, 2)


def test_objects_within_a_tolerance_are_compared_by_their_number(tmp_path):
    shapes = "shapes:count=4,size=48x64"
    exact, simplified = (convert(shapes, tmp_path / str(by), to="coco", splits=["val"], tolerance=by) for by in (0, 1.5))
    assert exact.objects == simplified.objects > 4
    assert (exact.differing, exact.regrouped) == (0, 0)
    assert simplified.differing > 0
    assert simplified.regrouped == 0


def test_what_cannot_be_opened_again_is_named_by_its_own_folder(tmp_path):
    with pytest.raises(DataError, match=r"could not be opened again, and was removed: .*/new: found 1 image, expected at least 2"):
        convert("shapes:count=1", tmp_path / "new", to="labelme", splits=["val"])
    assert not list(tmp_path.iterdir())


def test_datasets_without_numbers_of_objects_get_none(data, tmp_path):
    converted = convert(data, tmp_path / "new")
    assert (converted.objects, converted.regrouped) == (0, 0)
    assert not (tmp_path / "new" / "instances").exists()
    convert(data, tmp_path / "voc", to="voc")
    assert not (tmp_path / "voc" / "SegmentationObject").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: next((data / "masks").rglob("*.png")).unlink(), "mask"),
        (lambda data: next((data / "images").rglob("*.png")).write_bytes(b"\x89PNG"), "damaged|truncated|no image|not an image"),
    ],
    ids=["a mask is missing", "an image is damaged"],
)
def test_bad_data_is_an_error_and_leaves_nothing(change, message, data, tmp_path):
    change(data)
    for to in ("folder", "coco", "label-studio", "cvat"):
        with pytest.raises(DataError, match=message):
            convert(data, tmp_path / "new", to=to)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_an_interrupt_leaves_nothing(data, tmp_path):
    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(data, tmp_path / "new", to="cvat", progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_folders_that_hold_something_are_refused(data, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something already, expected a new folder"):
        convert(data, tmp_path / "full")
    with pytest.raises(OutputError, match="holds something already"):
        convert(data, tmp_path / "full" / "a.txt")
    with pytest.raises(OutputError, match="lies in the dataset"):
        convert(data, data / "new")
    monkeypatch.chdir(data)
    with pytest.raises(OutputError, match="lies in the dataset"):
        convert("../data", "new")
    (tmp_path / "empty").mkdir()
    assert convert(data, tmp_path / "empty").differing == 0


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), 101.0])
def test_impossible_tolerances_are_refused(tolerance, data, tmp_path):
    with pytest.raises(DataError, match="expected 0 to 100 pixels"):
        convert(data, tmp_path / "new", to="coco", tolerance=tolerance)


def test_classes_that_differ_between_splits_are_an_error(data, tmp_path, monkeypatch):
    other = make(tmp_path / "other", names="[background, road, bus]")
    monkeypatch.setattr(module, "open_dataset", lambda path, split: open_dataset(data if split == "train" else other, split))
    with pytest.raises(DataError, match="the classes of train and val differ: class 2 is 'car' against 'bus'"):
        convert(data, tmp_path / "new")


def test_an_image_that_is_not_found_again_is_counted(data, tmp_path, monkeypatch):
    find = module.list_splits
    monkeypatch.setattr(module, "list_splits", lambda path: find(path) if Path(path) == data else ("val",))
    converted = convert(data, tmp_path / "new")
    assert converted.unread == 3


def test_label_studio_paths_begin_with_the_name_of_the_folder(data, tmp_path):
    convert(data, tmp_path / "new", to="label-studio")
    tasks = json.loads((tmp_path / "new" / "tasks-val.json").read_text())
    paths = {task["data"]["image"].partition("?d=")[2] for task in tasks}
    assert paths == {f"new/images/val/val{number}.{suffix}" for number, suffix in enumerate(("jpg", "jpg", "png"))}


def test_the_data_is_read_with_the_options_given(tmp_path):
    for k in range(6):
        (tmp_path / "flat" / f"site{k // 2}").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(6):
        path = tmp_path / "flat" / f"site{k // 2}" / f"{'abcdef'[k]}.png"
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)).save(path)
        Image.fromarray(np.eye(8, 9, dtype=np.uint8)).save(path.with_name(f"{path.stem}_mask.png"))
    reading = {"split_by": "folder"}
    convert(tmp_path / "flat", tmp_path / "new", reading=reading)
    for split in ("train", "val"):
        expected = open_dataset(tmp_path / "flat", split, **reading)
        assert [key.rpartition("/")[2] for key in open_dataset(tmp_path / "new", split).keys] == [
            k.rpartition("/")[2] for k in expected.keys
        ]
    with pytest.raises(DataError, match="divided already"):
        convert(tmp_path / "new", tmp_path / "again", reading=reading)
    assert not (tmp_path / "again").exists()
