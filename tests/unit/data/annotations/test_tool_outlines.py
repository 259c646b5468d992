"""Shapes as the labelling tools draw them, beside each tool's own calls of Pillow and OpenCV."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from outlines_by_hand import save_image
from upscore.data.annotations.drawing import FEWER_PIXELS_ON_TOP, Drawing, Shape, draw
from upscore.data.annotations.tool_outlines import OpenCVFractions, PillowEllipse, PillowPolygon
from upscore.data.open_dataset import open_dataset
from upscore.errors import DataError

HEIGHT, WIDTH = 37, 53
RNG = np.random.default_rng(5)
RINGS = [np.round(RNG.uniform(-6, 60, (int(count), 2)), 3).tolist() for count in RNG.integers(3, 9, 12)]


def in_splits(root: Path, **options: str) -> dict[str, np.ndarray]:
    found = {}
    for split in ("train", "val"):
        dataset = open_dataset(root, split, **options)
        found |= {key.rpartition("/")[2]: dataset[index].label for index, key in enumerate(dataset.keys)}
    return found


def test_labelme(tmp_path: Path) -> None:
    expected = {}
    for number, ring in enumerate(RINGS):
        save_image(tmp_path / f"a{number}.png", HEIGHT, WIDTH)
        canvas = Image.new("L", (WIDTH, HEIGHT))
        draw = ImageDraw.Draw(canvas)
        (x, y), (right, bottom) = (10.5, 12.25), (20.75, 19.5)
        draw.polygon([tuple(point) for point in ring], outline=1, fill=1)
        draw.rectangle([(x, y), (right, bottom)], outline=1, fill=1)
        radius = float(np.hypot(3, 4.5))
        draw.ellipse([30 - radius, 9 - radius, 30 + radius, 9 + radius], outline=1, fill=1)
        expected[f"a{number}"] = np.asarray(canvas)
        shapes = [
            {"label": "x", "points": ring, "shape_type": "polygon"},
            {"label": "x", "points": [[right, bottom], [x, y]], "shape_type": "rectangle"},
            {"label": "x", "points": [[30, 9], [33, 13.5]], "shape_type": "circle"},
        ]
        content = {"imagePath": f"a{number}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
        (tmp_path / f"a{number}.json").write_text(json.dumps(content))
    by_tool, by_centres = in_splits(tmp_path, drawing="tool"), in_splits(tmp_path)
    for name, mask in expected.items():
        np.testing.assert_array_equal(by_tool[name], mask)
    assert sum(int(mask.sum()) for mask in by_tool.values()) > 1.05 * sum(int(mask.sum()) for mask in by_centres.values())


def test_cityscapes(tmp_path: Path) -> None:
    expected = {}
    for split in ("train", "val"):
        stem = f"bonn_{split}"
        ring = [[int(x), int(y)] for x, y in RINGS[split == "val"]]
        save_image(tmp_path / "leftImg8bit" / split / "bonn" / f"{stem}_leftImg8bit.png", HEIGHT, WIDTH)
        canvas = Image.new("L", (WIDTH, HEIGHT), 255)
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in ring], fill=13)
        expected[stem] = np.asarray(canvas)
        file = tmp_path / "gtFine" / split / "bonn" / f"{stem}_gtFine_polygons.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": [{"label": "car", "polygon": ring}]}))
    by_tool = in_splits(tmp_path, drawing="tool")
    for name, mask in expected.items():
        np.testing.assert_array_equal(by_tool[name], mask)
    for file in tmp_path.rglob("*_polygons.json"):
        Image.new("L", (WIDTH, HEIGHT)).save(str(file).replace("polygons.json", "labelIds.png"))
    with pytest.raises(DataError, match="masks that are drawn already"):
        open_dataset(tmp_path, "train", drawing="tool")


def test_yolo(tmp_path: Path) -> None:
    expected = {}
    for number, ring in enumerate(RINGS):
        save_image(tmp_path / "images" / f"a{number}.png", HEIGHT, WIDTH)
        fractions = np.clip(np.array(ring) / (WIDTH, HEIGHT), 0, 1)
        text = " ".join(f"{value:.6f}" for value in fractions.ravel())
        file = tmp_path / "labels" / f"a{number}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"0 {text}\n")
        # As Ultralytics reads and fills them: 32-bit fractions, times width and height, without what is behind the point.
        points = np.array(text.split(), np.float32).reshape(-1, 2)
        points[..., 0] *= WIDTH
        points[..., 1] *= HEIGHT
        expected[f"a{number}"] = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), np.asarray([points], np.int32), color=1)
    (tmp_path / "classes.txt").write_text("x\n")
    by_tool = in_splits(tmp_path, drawing="tool")
    for name, mask in expected.items():
        np.testing.assert_array_equal(by_tool[name], mask)


def test_yolo_s_overlaps_are_ordered_by_the_pixels_drawn(tmp_path: Path) -> None:
    """The later shape is on top after sorting by the masks' sums, as Ultralytics numbers its objects; areas would order some otherwise."""
    rng = np.random.default_rng(2)
    expected, differing = {}, 0
    for number in range(12):
        save_image(tmp_path / "images" / f"a{number}.png", HEIGHT, WIDTH)
        rings = [rng.uniform(0, 1, (5, 2)).round(3).astype(np.float32) for _ in range(6)]  # most cross themselves
        rings.append(rings[0][::-1])  # of as many pixels
        labels = rng.integers(0, 5, len(rings)).tolist()
        file = tmp_path / "labels" / f"a{number}.txt"
        file.parent.mkdir(exist_ok=True)
        lines = [f"{label} {' '.join(f'{value:.3f}' for value in ring.ravel())}" for label, ring in zip(labels, rings, strict=True)]
        file.write_text("\n".join(lines))
        masks = []
        for ring in rings:
            points = (ring * np.array([WIDTH, HEIGHT], np.float32)).astype(np.int32)
            masks.append(cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), points[None], color=1))
        order = np.argsort([-int(mask.sum()) for mask in masks], kind="stable").tolist()
        objects = np.zeros((HEIGHT, WIDTH), np.int32)
        for position, index in enumerate(order, 1):
            objects = np.clip(objects + masks[index] * np.int32(position), 0, position)
        expected[f"a{number}"] = np.array([0, *(labels[index] + 1 for index in order)])[objects]
        areas = [abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))) for ring in rings]
        differing += order != sorted(range(len(rings)), key=lambda index: -areas[index])
    assert differing >= 6
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    for name, label in in_splits(tmp_path, drawing="tool").items():
        np.testing.assert_array_equal(label, expected[name])


def test_shapes_that_would_take_minutes_are_refused_while_they_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, fill = [], cv2.fillPoly
    monkeypatch.setattr("upscore.data.annotations.drawing._MAX_PIXELS", 9000)
    monkeypatch.setattr(cv2, "fillPoly", lambda *arguments: drawn.append(arguments) or fill(*arguments))
    shapes = [Shape(1, OpenCVFractions([0.1, 0.1, 0.9, 0.1, 0.5, 0.9]))] * 20
    assert draw(Drawing(shapes[:8], order=FEWER_PIXELS_ON_TOP), 4, 4).label.any()
    drawn.clear()
    with pytest.raises(ValueError, match="its 20 shapes cover 9,000 pixels"):
        draw(Drawing(shapes, order=FEWER_PIXELS_ON_TOP), 4, 4)
    assert len(drawn) == 9


def test_the_part_of_the_image_around_a_polygon_is_enough() -> None:
    rng = np.random.default_rng(3)
    for low, high in ((0, 1), (-0.3, 1.3), (0.2, 0.6)) * 20:
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        ring = rng.uniform(low, high, (5, 2)).astype(np.float32)
        top, left, mask, _ = OpenCVFractions(ring.ravel().tolist()).region(height, width)
        canvas = np.zeros((height, width), np.bool_)
        canvas[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        corners = (ring * np.array([width, height], np.float32)).astype(np.int32)
        np.testing.assert_array_equal(canvas, cv2.fillPoly(np.zeros((height, width), np.uint8), [corners], 1) != 0)


@pytest.mark.parametrize("number", [1e6, float("nan"), float("inf"), 1e30])
def test_numbers_that_the_tools_cannot_draw_are_refused(number: float) -> None:
    for outline in (PillowPolygon([0, 0, number, 0, 5, 5]), PillowEllipse(0, 0, number, 5), OpenCVFractions([0, 0, number, 0, 1, 1])):
        with pytest.raises(ValueError, match="a coordinate is not a number"):
            outline.region(10, 10)


def test_a_layout_without_the_choice_refuses_it(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.png", 4, 4)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="found the options drawing, expected split_by for this dataset"):
        open_dataset(tmp_path, "train", drawing="tool")
