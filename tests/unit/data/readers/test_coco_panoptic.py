"""COCO's panoptic PNGs: the colours of segments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import all_samples, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


def write(root: Path, splits: tuple[str, ...] = ("train2017", "val2017")) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = {}
    for split in splits:
        content: dict = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 9, "name": "sky"}, {"id": 200, "name": "cat", "color": [1, 2, 3]}],
        }
        for number in range(3):
            ids = {0: 255, 7: 0, 256 * 5: 1, 65536 * 3 + 256 + 2: 1, 9: 255}  # 9 is a crowd
            segments = rng.choice(list(ids), (12, 16))
            segments[0, 0] = 9
            save_image(root / split / f"{number}.jpg", 12, 16)
            file = root / "annotations" / f"panoptic_{split}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.stack([segments % 256, segments // 256 % 256, segments // 65536], -1).astype(np.uint8)).save(file)
            info = [{"id": key, "category_id": 9 if label == 0 else 200, "iscrowd": int(key == 9)} for key, label in ids.items() if key]
            content["images"].append({"id": number, "file_name": f"{number}.jpg", "height": 12, "width": 16})
            content["annotations"].append({"image_id": number, "file_name": f"{number}.png", "segments_info": info})
            expected[f"{split}/{number}"] = np.vectorize(ids.get)(segments)
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
    return expected


def test_every_pixel_is_its_segment_s_category(tmp_path: Path) -> None:
    expected = write(tmp_path)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    assert open_dataset(tmp_path).labels.names == ("sky", "cat")
    assert "pixels of no segment, or of a crowd, are ignored" in warnings_of(tmp_path)
    assert len(open_dataset(tmp_path / "annotations" / "panoptic_val2017.json")) == 2


def test_pngs_of_another_file_are_one_line(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "annotations" / "panoptic_train2017" / "0.png"
    for image, match in (
        (Image.new("RGB", (16, 12), (8, 0, 0)), "shows the segments 8, which the JSON does not list"),
        (Image.new("L", (16, 12)), "expected, an RGB PNG"),
        (Image.new("RGB", (16, 13)), "use the PNGs that belong to it"),
    ):
        image.save(file)
        with pytest.raises(DataError, match=match):
            open_dataset(tmp_path)[0]
    file.unlink()
    with pytest.raises(DataError, match="no such file"):
        open_dataset(tmp_path)[0]
    json_file = tmp_path / "annotations" / "panoptic_train2017.json"
    content = json.loads(json_file.read_text())
    content["annotations"][1]["segments_info"][0]["category_id"] = 1
    json_file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 2: a segment has the id 7 and the category 1, which is none"):
        open_dataset(tmp_path)


def test_segments_of_things_are_objects(tmp_path: Path) -> None:
    write(tmp_path, ("train2017",))
    file = tmp_path / "annotations" / "panoptic_train2017.json"
    content = json.loads(file.read_text())
    for isthing, expected in ((None, {7, 1280, 196866}), (0, {1280, 196866})):
        content["categories"][0] |= {} if isthing is None else {"isthing": isthing}
        content["categories"][1]["isthing"] = 1
        file.write_text(json.dumps(content))
        sample = open_dataset(tmp_path)[0]
        assert sample.instances is not None
        assert set(sample.instances.ravel().tolist()) == {0, *expected}
        assert set(sample.label[sample.instances == 1280].tolist()) == {1}
