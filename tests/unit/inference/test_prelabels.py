"""Predictions as an annotation tool's own shapes, also of work that was broken off."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outlines_by_hand import inside
from upscore.data.mask_files import read_label
from upscore.data.png_files import write_image
from upscore.errors import DataError
from upscore.inference.file_discovery import discover_images
from upscore.inference.predict_files import predict_files
from upscore.inference.prediction_account import LabelledImage
from upscore.inference.predictor import Predictor
from upscore.inference.prelabels import PreLabelFiles, PreLabelSettings, image_root
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

LABELS = LabelSpace(("dark", "red", "blue"), ((20, 20, 20), (120, 60, 60), (60, 60, 120)))
EXACT = PreLabelSettings("labelme", 0.0)


class Brightest(nn.Module):
    """Labels each pixel by itself: red, blue, or dark where neither passes a half."""

    geometry = Geometry()
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return 5 * torch.cat([torch.full_like(images[:, :1], 0.5), images[:, :1], images[:, 2:]], 1)


def make_image() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 10, axis=0), 10, axis=1)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for name in ("a.png", "b/a.png", "b/c.png"):
        write_image(tmp_path / "shots" / name, make_image())
    return tmp_path / "shots"


def predictor() -> Predictor:
    return Predictor(Brightest(), labels=LABELS)


def drawn(file: Path) -> np.ndarray:
    """Return the label map of a labelme file, each class drawn where its shapes are."""
    content = json.loads(file.read_text())
    label_map = np.full((content["imageHeight"], content["imageWidth"]), 99, np.uint8)
    for shape in content["shapes"]:
        if shape["shape_type"] == "polygon":
            label_map[inside([shape["points"]], *label_map.shape)] = LABELS.names.index(shape["label"])
    return label_map


def test_labelme_files_refer_to_the_images_and_hold_their_label_maps(shots, tmp_path):
    out = tmp_path / "out"
    rows = list(predict_files(predictor(), shots, out, prelabels=EXACT))
    assert [row.outputs["prelabels"] for row in rows] == ["labelme/a.json", "labelme/b/a.json", "labelme/b/c.json"]
    for row in rows:
        file = out / row.outputs["prelabels"]
        content = json.loads(file.read_text())
        assert os.path.samefile(file.parent / content["imagePath"], row.file)
        np.testing.assert_array_equal(drawn(file), read_label(out / row.outputs["labels"]))
    account = json.loads((out / "predictions.json").read_text())
    assert [row["outputs"]["prelabels"] for row in account["predictions"]] == [row.outputs["prelabels"] for row in rows]


def contents(out: Path) -> dict[str, object]:
    """Return what the files of all images name."""
    found: dict[str, object] = {}
    for task in json.loads((out / "label-studio" / "label-studio.json").read_text()) if (out / "label-studio").exists() else ():
        found[task["data"]["image"]] = task["predictions"][0]
    if (out / "coco").exists():
        coco = json.loads((out / "coco" / "coco.json").read_text())
        for image in coco["images"]:
            of_image = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
            found[image["file_name"]] = [(each["category_id"], each["segmentation"]) for each in of_image]
    if (out / "cvat").exists():
        for image in ET.parse(out / "cvat" / "annotations.xml").getroot().findall("image"):
            found[image.get("name")] = [shape.attrib for shape in image]
    return found


@pytest.mark.parametrize("to", ["label-studio", "coco", "cvat"])
def test_one_file_for_all_images_is_the_same_after_an_interruption(to, shots, tmp_path):
    settings = PreLabelSettings(to)
    rows = list(predict_files(predictor(), shots, tmp_path / "whole", prelabels=settings))
    broken = predict_files(predictor(), shots, tmp_path / "broken", prelabels=settings)
    next(broken)
    broken.close()
    assert 1 <= len(contents(tmp_path / "broken")) <= 3
    list(predict_files(predictor(), shots, tmp_path / "broken", prelabels=settings, resume=True))
    expected = contents(tmp_path / "whole")
    assert contents(tmp_path / "broken") == expected
    assert len(expected) == 3
    if to == "label-studio":
        assert "/data/local-files/?d=shots/b/a.png" in expected
        assert [each["score"] for each in expected.values()] == [row.confidence for row in rows]
        assert all("score" in each and each["model_version"] for each in expected.values())
    else:
        assert set(expected) == {"a.png", "b/a.png", "b/c.png"}


def test_prelabels_are_made_from_label_maps_without_the_network(shots, tmp_path):
    out = tmp_path / "out"
    list(predict_files(predictor(), shots, out))
    again = Predictor(network := Brightest(), labels=LABELS)
    (out / "b" / "c.png").write_bytes(b"damaged")
    account = json.loads((out / "predictions.json").read_text())
    account["model"] = again.source
    (out / "predictions.json").write_text(json.dumps(account))
    network.calls = 0
    assert [Path(row.file).name for row in predict_files(again, shots, out, prelabels=EXACT, resume=True)] == ["c.png"]
    assert network.calls == 1
    for name in ("a", "b/a", "b/c"):
        np.testing.assert_array_equal(drawn(out / "labelme" / f"{name}.json"), read_label(out / f"{name}.png"))
    list(predict_files(again, shots, out, resume=True))
    assert all("prelabels" not in row["outputs"] for row in json.loads((out / "predictions.json").read_text())["predictions"])


def test_an_image_that_fails_has_no_prelabels(shots, tmp_path):
    (shots / "b" / "c.png").write_bytes(b"damaged")
    rows = list(predict_files(predictor(), shots, tmp_path / "out", prelabels=PreLabelSettings("coco")))
    assert [bool(row.error) for row in rows] == [False, False, True]
    assert set(contents(tmp_path / "out")) == {"a.png", "b/a.png"}


def test_label_studio_serves_the_folder_above_the_images(shots, tmp_path):
    assert image_root(discover_images(shots).images) == tmp_path
    assert image_root(discover_images(shots / "b").images) == shots
    assert image_root([]) == Path.cwd()


@pytest.mark.parametrize(("name", "tolerance"), [("voc", 1.0), ("folder", 1.0), ("labelmee", 1.0), ("coco", -1.0), ("coco", float("nan"))])
def test_settings_that_cannot_be_are_refused(name, tolerance):
    with pytest.raises(DataError, match="expected"):
        PreLabelSettings(name, tolerance)


def test_what_is_held_when_the_files_are_closed_is_written(shots, tmp_path):
    images = discover_images(shots).images
    files = PreLabelFiles(tmp_path / "out", LABELS, PreLabelSettings("coco"), images, "network")
    files.hold(LabelledImage(str(images[0].path), (2, 2)), np.array([[1, 0], [2, 2]], np.uint8))
    files.close()
    assert set(contents(tmp_path / "out")) == {"a.png"}
