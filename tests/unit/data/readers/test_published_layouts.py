"""Cityscapes, ADE20K and nnU-Net as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import all_samples, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

TRAIN_IDS = {
    7: 0,
    8: 1,
    11: 2,
    12: 3,
    13: 4,
    17: 5,
    19: 6,
    20: 7,
    21: 8,
    22: 9,
    23: 10,
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}


def cityscapes(root: Path, kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = {}
    for split, town in (("train", "aachen"), ("val", "lindau"), ("test", "bonn")):
        for number in range(2):
            stem = f"{town}/{town}_00000{number}_000019"
            save_image(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", 12, 20)
            file = root / "gtFine" / split / f"{stem}_gtFine_{kind}"
            file.parent.mkdir(parents=True, exist_ok=True)
            ids = rng.integers(0, 34, (12, 20))
            mapped = np.vectorize(lambda value: TRAIN_IDS.get(value, 255))(ids)
            if kind == "labelIds.png":
                Image.fromarray(ids.astype(np.uint8)).save(file)
            elif kind == "labelTrainIds.png":
                Image.fromarray(mapped.astype(np.uint8)).save(file)
            else:
                rings = [rectangle(*np.sort(rng.uniform(-2, 20, (2, 2)), axis=0).ravel()) for _ in range(6)]
                names = ("road", "cargroup", "static", "license plate", "sky", "person")
                objects = [{"label": name, "polygon": ring} for name, ring in zip(names, rings, strict=True)]
                objects.insert(1, {"label": "bus", "polygon": rectangle(0, 0, 20, 12), "deleted": 1})
                file.write_text(json.dumps({"imgHeight": 12, "imgWidth": 20, "objects": objects}))
                painted = [
                    (inside([ring], 12, 20), label)
                    for ring, label in zip(rings, (0, 13, 255, None, 10, 11), strict=True)
                    if label is not None
                ]
                mapped = paint(painted, 12, 20, 255)
            if split != "test":
                expected[stem] = mapped
    return expected


@pytest.mark.parametrize("kind", ["labelIds.png", "labelTrainIds.png", "polygons.json"])
def test_cityscapes_19_classes(tmp_path: Path, kind: str) -> None:
    expected = cityscapes(tmp_path, kind)
    assert list_splits(tmp_path) == ("train", "val")
    found = {}
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        found |= {key: dataset[index].label for index, key in enumerate(dataset.keys)}
    assert found.keys() == expected.keys()
    for key, label in found.items():
        np.testing.assert_array_equal(label, expected[key])
    labels = open_dataset(tmp_path).labels
    assert (labels.names[0], labels.names[18], labels.palette[13], len(labels)) == ("road", "bicycle", (0, 0, 142), 19)
    said = warnings_of(tmp_path)
    assert f"gtFine's {kind}" in said
    assert "label_mapping does not name" not in said
    with pytest.raises(DataError, match="the published masks of test ignore every pixel"):
        open_dataset(tmp_path, "test")
    next((tmp_path / "gtFine" / "val" / "lindau").iterdir()).unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no gtFine_labelIds\.png"):
        open_dataset(tmp_path, "val")


def test_polygons_of_cityscapes_are_objects_but_for_groups(tmp_path: Path) -> None:
    cityscapes(tmp_path, "polygons.json")
    seen = set()
    for sample in open_dataset(tmp_path, "train"):  # type: ignore[attr-defined]
        assert sample.instances is not None
        assert not sample.instances[(sample.label == 13) | (sample.label == 255)].any()  # 'cargroup', and what is ignored
        for label in (0, 10, 11):
            assert len(set(sample.instances[sample.label == label].tolist())) <= 1
            assert (sample.instances[sample.label == label] > 0).all()
        seen |= set(sample.label.ravel().tolist())
    assert {0, 10, 11, 13} <= seen


def test_ade20k_begins_with_1(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t9\t1\twall\n2\t0.1\t9\t1\tbuilding, edifice\n3\t0.1\t9\t1\tsky\n"
    (tmp_path / "objectInfo150.txt").write_text(names)
    stored = {}
    for split, word in (("training", "train"), ("validation", "val")):
        for number in range(2):
            key = f"ADE_{word}_{number:08}"
            save_image(tmp_path / "images" / split / f"{key}.jpg", 8, 9)
            stored[key] = rng.integers(0, 4, (8, 9), dtype=np.uint8)
            (tmp_path / "annotations" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(stored[key]).save(tmp_path / "annotations" / split / f"{key}.png")
    assert list_splits(tmp_path) == ("train", "val")
    for split in ("train", "validation"):
        dataset = open_dataset(tmp_path, split)
        assert dataset.labels.names == ("wall", "building", "sky")
        for index, key in enumerate(dataset.keys):
            np.testing.assert_array_equal(dataset[index].label, stored[key] - 1)  # 0 becomes 255
    (tmp_path / "objectInfo150.txt").write_text(names.replace("2\t", "3\t", 1))
    with pytest.raises(DataError, match=r"line 3 is .*, expected 2, frequencies and names"):
        open_dataset(tmp_path)


def nnunet(root: Path, labels: dict, **more: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    stored = {}
    for number in range(10):
        save_image(root / "imagesTr" / f"case_{number:03}_0000.png", 8, 9)
        stored[f"case_{number:03}"] = rng.integers(0, 3, (8, 9), dtype=np.uint8)
        (root / "labelsTr").mkdir(exist_ok=True)
        Image.fromarray(stored[f"case_{number:03}"]).save(root / "labelsTr" / f"case_{number:03}.png")
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "R"}, "labels": labels, "numTraining": 10, "file_ending": ".png", **more})
    )
    return stored


def test_nnunet_its_labels_and_its_folds(tmp_path: Path) -> None:
    stored = nnunet(tmp_path, {"background": 0, "tumour": 1, "ignore": 2})
    for key, sample in all_samples(tmp_path).items():
        np.testing.assert_array_equal(sample.label, np.where(stored[key] == 2, 255, stored[key]))
    assert open_dataset(tmp_path).labels.names == ("background", "tumour")
    folds = [{"train": ["case_001", "case_007"], "val": ["case_003"]}, {"train": [], "val": []}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert [list(open_dataset(tmp_path, split).keys) for split in ("train", "val")] == [["case_001", "case_007"], ["case_003"]]
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["case_099"], "val": []}]))
    with pytest.raises(DataError, match=r"names 1 cases that are not in imagesTr \(case_099\)"):
        open_dataset(tmp_path)
    (tmp_path / "splits_final.json").write_text("[3]")
    with pytest.raises(DataError, match="its first fold is 3"):
        open_dataset(tmp_path)


def test_nnunet_what_is_not_read_is_one_line(tmp_path: Path) -> None:
    for labels, more, match in (
        ({"background": 0, "whole": [1, 2]}, {}, r"regions of several values \(whole\)"),
        ({"background": 0, "x": 0}, {}, "the label 'x' has the number 0"),
        ({}, {}, "its labels are {}"),
        ({"background": 0}, {"file_ending": ".nii.gz"}, "its files end in '.nii.gz', expected two-dimensional images"),
    ):
        nnunet(tmp_path, labels, **more)
        with pytest.raises(DataError, match=match):
            open_dataset(tmp_path)
    nnunet(tmp_path, {"background": 0, "x": 1})
    save_image(tmp_path / "imagesTr" / "case_000_0001.png", 8, 9)
    with pytest.raises(DataError, match="the cases have several files of channels"):
        open_dataset(tmp_path)
