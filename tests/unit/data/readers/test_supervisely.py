"""Supervisely's projects."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import all_samples, inside, paint, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

META = {"classes": [{"title": "car", "shape": "bitmap", "color": "#0000FF"}, {"title": "Hütte", "shape": "polygon", "color": "#00FF00"}]}


def bitmap(mask: np.ndarray, alpha: bool, packed: bool) -> str:
    pixels = np.dstack([mask * 0, mask * 0, mask * 0, mask * 255]).astype(np.uint8) if alpha else (mask * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    return base64.b64encode(zlib.compress(data) if packed else data).decode()


def dataset(root: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    (root / "ann").parent.mkdir(parents=True, exist_ok=True)
    (root / "meta.json").write_text(json.dumps(META))
    expected = {}
    for split in ("train", "val"):
        for number in range(3):
            save_image(root / split / "img" / f"{number}.png", 20, 30)
            outer, hole = rng.integers(-5, 35, (6, 2)), rng.integers(0, 25, (4, 2))
            mask = rng.random((7, 9)) < 0.5
            objects = [
                {"classTitle": "Hütte", "geometryType": "polygon", "points": {"exterior": outer.tolist(), "interior": [hole.tolist()]}},
                {
                    "classTitle": "car",
                    "geometryType": "bitmap",
                    "bitmap": {"origin": [25, 4], "data": bitmap(mask, number == 1, number != 2)},
                },
                {"classTitle": "car", "geometryType": "rectangle", "points": {"exterior": [[1, 2], [3, 5]], "interior": []}},
                {"classTitle": "car", "geometryType": "point", "points": {"exterior": [[1, 2]]}},
            ]
            (root / split / "ann").mkdir(exist_ok=True)
            content = {"size": {"height": 20, "width": 30}, "objects": objects}
            (root / split / "ann" / f"{number}.png.json").write_text(json.dumps(content))
            patch, box = np.zeros((20, 30), np.bool_), np.zeros((20, 30), np.bool_)
            patch[4:11, 25:30] = mask[:, :5]
            box[2:6, 1:4] = True
            # A corner is the centre of its pixel.
            polygon = inside([(outer + 0.5).tolist(), (hole + 0.5).tolist()], 20, 30)
            expected[f"{split}/img/{number}"] = paint([(polygon, 2), (patch, 1), (box, 1)], 20, 30)
    return expected


def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path) -> None:
    expected = dataset(tmp_path)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    labels = open_dataset(tmp_path).labels
    assert (labels.names, labels.palette[2]) == (("background", "car", "Hütte"), (0, 255, 0))
    assert "objects of the type point, which have no area, were left out" in warnings_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"objects": []}, "its size is None"),
        ({"size": {"height": 20, "width": 30}, "objects": [3]}, "its list of objects is"),
        (
            {"size": {"height": 20, "width": 30}, "objects": [{"classTitle": "bus", "geometryType": "polygon"}]},
            "object 1: its class is 'bus'",
        ),
        (
            {"size": {"height": 20, "width": 30}, "objects": [{"classTitle": "car", "geometryType": "bitmap"}]},
            "object 1: its bitmap is None",
        ),
        ({"size": {"height": 20, "width": 31}, "objects": []}, "states 20×31"),
    ],
)
def test_what_is_malformed_is_one_line_when_it_is_drawn(tmp_path: Path, content: dict, match: str) -> None:
    dataset(tmp_path)
    (tmp_path / "train" / "ann" / "0.png.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path)[0]
