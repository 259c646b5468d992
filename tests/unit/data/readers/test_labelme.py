"""labelme's JSON beside its images."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import all_samples, disc, inside, paint, rectangle, save_image, warnings_of
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.errors import DataError


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write(file: Path, image: str, height: int, width: int, shapes: list[dict[str, Any]], **more: Any) -> None:
    content = {"version": "5.5.0", "flags": {}, "imagePath": image, "imageData": "A" * 9000, "imageHeight": height, "imageWidth": width}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, "shapes": shapes, **more}), "utf-8")


def dataset(root: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = {}
    for number in range(5):
        name = f"Straße {number}.v2"
        save_image(root / f"{name}.jpg", 30, 40)
        polygon, mask = rng.uniform(-5, 45, (6, 2)), rng.random((6, 9)) < 0.7
        radius = math.hypot(5, 4)
        shapes = [
            {"label": "road", "points": polygon.tolist()},  # old files have no type
            {"label": "car", "points": [[30, 25], [12.5, 7]], "shape_type": "rectangle"},
            {"label": "sign", "points": [[20, 10], [25, 14]], "shape_type": "circle"},
            {"label": "car", "points": [[35, 3], [43, 8]], "shape_type": "mask", "mask": png(mask)},
            {"label": "road", "points": [[1, 1], [9, 9]], "shape_type": "line"},
            {"label": "__ignore__", "points": rectangle(0, 25, 4, 30), "shape_type": "polygon"},
        ]
        write(root / f"{name}.json", f"{name}.jpg" if number else f"..\\elsewhere\\{name}.jpg", 30, 40, shapes)
        patch = np.zeros((30, 40), np.bool_)
        patch[3:9, 35:40] = mask[:, :5]
        expected[name] = paint(
            [
                (inside([polygon.tolist()], 30, 40), 2), (inside([rectangle(12.5, 7, 30, 25)], 30, 40), 1), (disc(20, 10, radius, 30,
                40), 3), (patch, 1), (inside([rectangle(0, 25, 4, 30)], 30, 40), 255),
            ], 30, 40,
        )  # fmt: skip
    return expected


def test_every_shape_is_where_it_was_drawn(tmp_path: Path) -> None:
    expected = dataset(tmp_path)
    assert list_splits(tmp_path) == ("train", "val")
    samples = all_samples(tmp_path)
    assert samples.keys() == expected.keys()
    for key, sample in samples.items():
        np.testing.assert_array_equal(sample.label, expected[key])
    said = warnings_of(tmp_path)
    assert open_dataset(tmp_path).labels.names == ("background", "car", "road", "sign")
    for words in (
        "the shapes, sorted", "shapes of the type line, which have no area, were left out", "of shapes called '__ignore__' are ignored",
        "later one in the file is on top",
    ):  # fmt: skip
        assert words in said


def test_labels_txt_gives_the_order_and_the_background(tmp_path: Path) -> None:
    expected = dataset(tmp_path)
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nroad\nsign\ncar\n")
    assert open_dataset(tmp_path).labels.names == ("_background_", "road", "sign", "car")
    new = np.arange(256)
    new[[1, 2, 3]] = 3, 1, 2
    for key, sample in all_samples(tmp_path).items():
        np.testing.assert_array_equal(sample.label, new[expected[key]])
    (tmp_path / "labels.txt").write_text("road\nsign\n")
    with pytest.raises(DataError, match=r"the label 'car', which is not in labels\.txt"):
        open_dataset(tmp_path)


def test_folders_of_splits_and_of_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        dataset(tmp_path / split)
    assert [len(open_dataset(tmp_path, split)) for split in list_splits(tmp_path)] == [5, 5]
    apart = tmp_path / "apart"
    save_image(apart / "images" / "a.png", 10, 12)
    save_image(apart / "images" / "b.png", 10, 12)
    for name in "ab":
        write(
            apart / "annotations" / f"{name}.json", f"C:\\pictures\\{name}.png", 10, 12, [{"label": "x", "points": rectangle(1, 1, 4, 4)}]
        )
    assert sorted(all_samples(apart)) == ["images/a", "images/b"]


def test_a_picture_of_a_phone_is_annotated_upright_or_as_stored(tmp_path: Path) -> None:
    for name, size in (("a", (40, 30)), ("b", (30, 40)), ("c", (31, 40))):
        save_image(tmp_path / f"{name}.jpg", 30, 40, 6)
        write(tmp_path / f"{name}.json", f"{name}.jpg", *size, [{"label": "x", "points": rectangle(1, 2, 8, 20)}])
    labels = {}
    for split in ("train", "val"):
        opened = open_dataset(tmp_path, split)
        for index, key in enumerate(opened.keys):
            if key == "c":
                with pytest.raises(DataError, match=r"c\.json: states 31×40 .* which is 40×30 \(30×40 before it is turned upright\)"):
                    opened[index]
            else:
                labels[key] = opened[index].label
    np.testing.assert_array_equal(labels["a"], inside([rectangle(1, 2, 8, 20)], 40, 30))
    np.testing.assert_array_equal(labels["b"], np.rot90(inside([rectangle(1, 2, 8, 20)], 30, 40), -1))


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ({"label": "x", "points": [[1]]}, "shape 2: it has the points"),
        ({"label": "x", "points": None}, "shape 2: it has the points"),
        ({"label": 3, "points": []}, "its label is 3, expected a name"),
        ({"label": "x", "points": [], "shape_type": "spline"}, "its type is 'spline'"),
        ({"label": "x", "points": [[1, 2]], "shape_type": "circle"}, "a circle has 1 points, expected 2"),
        ("x", "list of shapes"),
    ],
)
def test_what_is_malformed_is_one_line(tmp_path: Path, shape: Any, match: str) -> None:
    save_image(tmp_path / "a.jpg", 10, 10)
    write(tmp_path / "a.json", "a.jpg", 10, 10, [{"label": "x", "points": rectangle(1, 1, 4, 4)}, shape])
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path)


@pytest.mark.parametrize("mask", ["x", None, base64.b64encode(b"\x89PNG").decode(), base64.b64encode(b"x").decode()])
def test_a_damaged_bitmap_is_one_line_when_it_is_drawn(tmp_path: Path, mask: Any) -> None:
    for name in "ab":
        save_image(tmp_path / f"{name}.jpg", 10, 10)
        shape = {"label": "x", "points": [[1, 1], [4, 4]], "shape_type": "mask", "mask": mask}
        write(tmp_path / f"{name}.json", f"{name}.jpg", 10, 10, [shape])
    with pytest.raises(DataError, match="cannot be drawn: the bitmap"):
        open_dataset(tmp_path)[0]


def test_images_without_json_and_json_without_image(tmp_path: Path) -> None:
    dataset(tmp_path)
    save_image(tmp_path / "new.jpg", 10, 10)
    (tmp_path / "Straße 3.v2.jpg").unlink()
    said = warnings_of(tmp_path)
    assert "1 of 5 images" in said
    assert "1 images have no JSON file of their own and were left out (new.jpg)" in said


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    groups = [5, None, 5, "left", "left", [5]]
    shapes = [
        {"label": "car", "points": rectangle(2 * i, 0, 2 * i + 1, 4), "shape_type": "polygon", "group_id": group}
        for i, group in enumerate(groups)
    ]
    for name in ("a", "b"):
        save_image(tmp_path / f"{name}.jpg", 4, 12)
        write(tmp_path / f"{name}.json", f"{name}.jpg", 4, 12, shapes)
    for sample in all_samples(tmp_path).values():
        assert sample.instances is not None
        assert sample.instances[0].tolist() == [1, 0, 2, 0, 1, 0, 3, 0, 3, 0, 4, 0]
