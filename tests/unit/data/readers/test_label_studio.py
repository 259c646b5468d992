"""Label Studio's exports, JSON and JSON-MIN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outlines_by_hand import all_samples, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError

HEIGHT, WIDTH = 30, 50


def brush(mask: np.ndarray) -> list[int]:
    """Pack a mask as four channels, all bytes by themselves."""
    values = np.zeros((*mask.shape, 4), np.uint8)
    values[..., 3] = 255 * mask
    flat = values.ravel()
    bits = f"{len(flat):032b}{7:05b}" + "1111" * 4
    for start in range(0, len(flat), 2**16):
        part = flat[start : start + 2**16]
        bits += f"000{len(part) - 1:016b}" + "".join(f"{value:08b}" for value in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def of(value: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"type": kind, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "value": value}


def dataset(root: Path, form: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tasks, expected = [], {}
    for number in range(6):
        save_image(root / "images" / f"b ü{number}.jpg", HEIGHT, WIDTH)
        points, mask = rng.uniform(-5, 105, (5, 2)), rng.random((HEIGHT, WIDTH)) < 0.2
        results = [
            of({"points": points.tolist(), "closed": True, "polygonlabels": ["road"]}, "polygonlabels"),
            of({"x": 20, "y": 10, "width": 20, "height": 40, "rotation": 90, "rectanglelabels": ["sign"]}, "rectanglelabels"),
            of({"format": "rle", "rle": brush(mask), "brushlabels": ["car"]}, "brushlabels"),
            of({"x": 1, "y": 1, "width": 2, "keypointlabels": ["nose"]}, "keypointlabels"),
        ]
        expected[f"images/b ü{number}"] = paint(
            [
                (inside([(points * (WIDTH, HEIGHT) / 100).tolist()], HEIGHT, WIDTH), 2),
                (inside([rectangle(10 - 12, 3, 10, 3 + 10)], HEIGHT, WIDTH), 3),
                (mask, 1),
            ], HEIGHT, WIDTH,
        )  # fmt: skip
        image = f"/data/upload/3/0f1e2d3c-b%20%C3%BC{number}.jpg" if number % 2 else f"/data/local-files/?d=images/b%20ü{number}.jpg"
        if form == "JSON":
            cancelled = {"was_cancelled": True, "result": results[:1]}
            given = [cancelled, {"was_cancelled": False, "result": results}, {"result": []}]
            tasks.append({"id": number, "data": {"image": image}, "annotations": given, "predictions": [{"result": results[:1]}]})
        else:
            flat = [{**result["value"], "original_width": WIDTH, "original_height": HEIGHT} for result in results]
            tasks.append({"id": number, "image": image, "label": flat, "annotator": 1, "updated_at": "2026-01-01T00:00:00.000Z"})
    if form == "JSON":
        tasks.append({"id": 9, "data": {"image": "/data/upload/3/c.jpg"}, "annotations": []})
    (root / "project-1.json").write_text(json.dumps(tasks))
    return expected


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_every_pixel_is_that_of_a_plain_decoding(tmp_path: Path, form: str) -> None:
    expected = dataset(tmp_path, form)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    said = warnings_of(tmp_path)
    assert open_dataset(tmp_path).labels.names == ("background", "car", "road", "sign")
    assert "which are no labelled areas, were left out" in said
    assert ("1 tasks in project-1.json have no annotation" in said) == (form == "JSON")
    assert ("6 tasks in project-1.json have several annotations" in said) == (form == "JSON")


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (of({"points": [1], "polygonlabels": ["x"]}, "polygonlabels"), "task 1: it has the points"),
        (of({"format": "rle", "rle": "abc", "brushlabels": ["x"]}, "brushlabels"), "a brush has the rle 'abc'"),
        (of({"format": "rle", "rle": [300], "brushlabels": ["x"]}, "brushlabels"), r"a brush has the rle \[300\]"),
        (of({"format": "png", "brushlabels": ["x"]}, "brushlabels"), "the format 'png', expected rle"),
        (of({"x": "?", "y": 1, "rectanglelabels": ["x"]}, "rectanglelabels"), "its x is '\\?', expected a number"),
        ({"value": {"points": [[1, 2]], "polygonlabels": ["x"]}}, "original size None"),
        (of({"points": [[1, 2]], "polygonlabels": [3]}, "polygonlabels"), "its label is 3"),
        ({"value": 3}, "a region has the value 3"),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, result: dict[str, Any], match: str) -> None:
    save_image(tmp_path / "a.jpg", HEIGHT, WIDTH)
    (tmp_path / "a.json").write_text(json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": [result], "original_width": 3}]}]))
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path / "a.json")
