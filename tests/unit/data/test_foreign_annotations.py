"""Annotations of other kinds are named for what they are, and what is advised works."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import upscore.data.foreign_annotations
from upscore.data.foreign_annotations import name_annotations
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError

POLYGON = [[2, 1], [5, 1], [5, 4], [2, 4]]
LABELME = {"version": "5.5.0", "flags": {}, "shapes": [{"label": "box", "points": POLYGON, "shape_type": "polygon"}], "imagePath": "a.jpg"}
COCO = {
    "images": [{"id": 0, "file_name": "a.jpg", "height": 6, "width": 8}],
    "categories": [{"id": 1, "name": "box"}],
    "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[2, 1, 5, 1, 5, 4]]}],
}
STUDIO = [
    {
        "data": {"image": "a.jpg"},
        "annotations": [{"result": [{"type": "polygonlabels", "original_width": 8, "value": {"points": POLYGON}}]}],
    }
]
SUPERVISELY = {
    "size": {"height": 6, "width": 8},
    "objects": [{"classTitle": "box", "geometryType": "polygon", "points": {"exterior": POLYGON}}],
}
VIA = {"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "polygon"}, "region_attributes": {}}]}}
CITYSCAPES = {"imgHeight": 6, "imgWidth": 8, "objects": [{"label": "road", "polygon": POLYGON}]}
GEOJSON = {"type": "FeatureCollection", "features": []}
CVAT = '<?xml version="1.0"?>\n<annotations>\n <version>1.1</version>\n <image name="a.jpg"><polygon label="box"/></image></annotations>'
VOC = "<annotation><filename>a.jpg</filename><object><name>box</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"
TEXT = {
    "labels/a.txt": ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 .2 0 1 1.0 0 1 0 1\n", "YOLO polygon"),
    "labels/b.txt": ("0 " + "0.25 0.75 " * 4000, "YOLO polygon"),
    "labels/c.txt": ("0 0.1 0.1 0.5 0.1\n", "YOLO box"),
    "annotations/i.json": (json.dumps(COCO), "COCO"),
    "panoptic.json": (json.dumps({"annotations": [{"segments_info": []}]}), "COCO"),
    "large.json": (json.dumps({"info": "x" * 20_000, **COCO}), "COCO"),
    "a.json": (json.dumps(LABELME), "labelme"),
    "large/a.json": (json.dumps({**LABELME, "imageData": "A" * 50_000}), "labelme"),
    "export.json": (json.dumps(STUDIO), "Label Studio"),
    "ds/ann/a.jpg.json": (json.dumps(SUPERVISELY), "Supervisely"),
    "via.json": (json.dumps(VIA), "VGG Image Annotator"),
    "x.geojson": (json.dumps(GEOJSON), "GeoJSON"),
    "y.json": (json.dumps(GEOJSON), "GeoJSON"),
    "p.json": (json.dumps(CITYSCAPES), "Cityscapes"),
    "annotations.xml": (CVAT, "CVAT"),
    "Annotations/a.xml": (VOC, "PASCAL VOC's XML"),
    "masks/task-1-annotation-2-by-3-tag-car-0.png": ("", "Label Studio"),
    "d.json": (json.dumps({"channel_names": {"0": "R"}, "labels": {"background": 0}}), "nnU-Net"),
}


@pytest.mark.parametrize("place", TEXT)
def test_each_format_is_named_by_folder_and_by_file(tmp_path: Path, place: str) -> None:
    content, word = TEXT[place]
    file = tmp_path / "set" / place
    file.parent.mkdir(parents=True)
    file.write_text(content)
    found = name_annotations(tmp_path / "set")
    assert word in found
    if "open that file" in found:
        assert place in found
        with pytest.raises(DataError):  # there are no images
            open_dataset(tmp_path / "set")
        return
    with pytest.raises(DataError, match=word):
        open_dataset(tmp_path / "set")
    if file.suffix in (".json", ".xml"):
        with pytest.raises(DataError, match=word):
            open_dataset(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "road\ncar\n"),
        ("numbers.txt", "0 1 2 3 4 5\n"),
        ("words.txt", "0 0.1 0.2 0.3 0.4 x\n"),
        ("train.txt", "images/a.jpg\n"),
        ("settings.json", '{"epochs": 3}'),
        ("layout.xml", "<html/>"),
        ("empty.json", ""),
        (".hidden.json", json.dumps(COCO)),
    ],
)
def test_other_files_are_not(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert name_annotations(tmp_path) == ""


def with_images(root: Path, files: dict[str, str]) -> Path:
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(root / "images" / split / "a.jpg")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"labels/train/a.txt": TEXT["labels/c.txt"][0]}, "YOLO box"),
        ({"annotations/train.json": json.dumps(COCO)}, "COCO"),
        ({"images/train/a.json": json.dumps(LABELME)}, "labelme"),
        ({"masks/train/a.json": json.dumps(LABELME)}, "labelme"),
        ({"masks/train/task-0-annotation-0-by-1-tag-box-0.png": ""}, "Label Studio"),
    ],
)
def test_they_are_named_where_masks_are_missing(tmp_path: Path, files: dict[str, str], word: str) -> None:
    root = with_images(tmp_path / "set", files)
    (root / "dataset.yaml").write_text("train: images/train\nval: images/val\nnames: [ground, box]\n")
    with pytest.raises(DataError, match=word) as error:
        open_dataset(root)
    assert "\n" not in str(error.value)


def mask_of(value: int) -> Image.Image:
    values = np.zeros((6, 8), np.uint8)
    values[1:4, 2:5] = value
    return Image.fromarray(values)


def test_the_remedy_for_cityscapes_works(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for part, name, image in (("images", "leftImg8bit", Image.new("RGB", (8, 6))), ("masks", "gtFine_labelIds", mask_of(7))):
            for number in range(2):
                file = tmp_path / part / split / "bonn" / f"bonn_{number:06}_000019_{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                image.save(file)
    (tmp_path / "dataset.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames: {0: road, 1: sidewalk}\n"
        "label_mapping: {-1: ignore_label, 0: ignore_label, 7: 0, 8: 1}\ndownload: https://example.com/x.zip\n"
    )
    dataset = open_dataset(tmp_path)
    assert dataset.keys[0] == "bonn/bonn_000000_000019_leftImg8bit"
    assert np.bincount(dataset[0].label.ravel(), minlength=256)[[0, 255]].tolist() == [9, 39]  # type: ignore[union-attr]


def test_little_is_read_of_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(upscore.data.foreign_annotations, "annotation_format", lambda path: read.append(path) or "")
    monkeypatch.setattr(upscore.data.foreign_annotations, "_MAX_FILES_READ", 10)
    for folder in range(6):
        (tmp_path / str(folder)).mkdir()
        for number in range(8):
            (tmp_path / str(folder) / f"{number}.json").touch()
    assert name_annotations(tmp_path) == ""
    assert [path.parent.name for path in read] == ["0"] * 4 + ["1"] * 4 + ["2"] * 2
    monkeypatch.setattr(upscore.data.foreign_annotations, "_MAX_ENTRIES", 3)
    (tmp_path / "z.parquet").touch()
    assert name_annotations(tmp_path) == ""


def test_links_in_circles_and_pipes_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("a.json")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "b.json")
    assert name_annotations(tmp_path) == ""


@given(data=st.binary(max_size=200), suffix=st.sampled_from([".txt", ".json", ".xml", ".geojson"]))
def test_any_bytes_are_something_or_nothing(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    file.write_bytes(data)
    assert isinstance(name_annotations(file), str)
