"""What the tools themselves would decode: each form read by an independent decoding of what is published, or by the tool's own code."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from PIL import Image

from outlines_by_hand import inside
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage, WriterOptions
from upscore.types import LabelSpace

LABELS = LabelSpace(("background", "road", "car"), ((0, 0, 0), (10, 20, 30), (40, 50, 60)))
RNG = np.random.default_rng(3)
BLOCKS = cv2.resize(RNG.integers(0, 3, (6, 7)).astype(np.uint8), (35, 30), interpolation=cv2.INTER_NEAREST)
BLOCKS[6:12, 5:15] = 1
BLOCKS[8:10, 8:11] = 2  # a hole in a road
BLOCKS[20:26, 20:30] = 255
BLOCKS[22:23, 22:28] = 1
NOISE = RNG.choice(np.array([0, 1, 2, 255], np.uint8), (30, 35))


@pytest.fixture(params=["blocks", "noise"])
def label_map(request):
    return {"blocks": BLOCKS, "noise": NOISE}[request.param]


def write(folder: Path, to: str, image: AnnotatedImage, **options: object) -> Path:
    writer = find_writer(to).open(folder, LABELS, WriterOptions(**options))  # type: ignore[arg-type]
    written = writer.add(image)
    writer.close()
    return folder / written.annotation


def truth(label_map: np.ndarray, **more: object) -> AnnotatedImage:
    return AnnotatedImage("a b.png", truth=label_map, pixels=np.zeros((*label_map.shape, 3), np.uint8), **more)  # type: ignore[arg-type]


def paint(height: int, width: int, regions: list[tuple[np.ndarray, int]]) -> np.ndarray:
    drawn = np.zeros((height, width), np.uint8)
    for region, label in regions:
        drawn[region] = label
    return drawn


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own, with NumPy 2
def test_pycocotools_reads_the_same_pixels(tmp_path, label_map, capsys):
    coco_module = pytest.importorskip("pycocotools.coco")
    coco = coco_module.COCO(write(tmp_path, "coco", truth(label_map)))
    assert {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())} == {1: "road", 2: "car"}
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("a b.png", 30, 35)
    regions = []
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation["area"]
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
        assert annotation["bbox"] == box
        regions.append((mask, 255 if annotation["iscrowd"] else annotation["category_id"]))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)
    capsys.readouterr()


def test_labelme_shapes_are_polygons_and_bitmaps_of_inclusive_corners(tmp_path, label_map):
    content = json.loads(write(tmp_path, "labelme", truth(label_map)).read_text("utf-8"))
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"], content["imageData"]) == ("a b.png", 30, 35, None)
    regions = []
    for shape in content["shapes"]:
        if shape["shape_type"] == "polygon":
            region = inside([shape["points"]], 30, 35)
        else:
            (left, top), (right, bottom) = (map(int, point) for point in shape["points"])
            patch = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
            region = np.zeros((30, 35), bool)
            region[top : bottom + 1, left : right + 1] = patch
        regions.append((region, {"road": 1, "car": 2, "__ignore__": 255}[shape["label"]]))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)
    assert (tmp_path / "labels.txt").read_text("utf-8").splitlines() == ["__ignore__", "background", "road", "car"]


def unpack(data: list[int]) -> np.ndarray:
    """Decode Label Studio's run lengths bit by bit, as thi.ng's rle-pack stores them."""
    bits = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        return int(bits[position - count : position], 2)

    number, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < number:
        repeated, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    assert len(values) == number
    assert len(bits) - position < 8
    return np.array(values)


def test_label_studio_results_are_percentages_and_runs(tmp_path, label_map):
    (task,) = json.loads(write(tmp_path / "new", "label-studio", truth(label_map)).read_text("utf-8"))
    assert parse_qs(urlsplit(task["data"]["image"]).query)["d"] == ["new/images/a b.png"]
    assert (tmp_path / "new" / "images" / "a b.png").is_file()
    assert "predictions" not in task
    config = ET.parse(tmp_path / "new" / "labeling-config.xml").getroot()
    tags = {tag.get("name"): tag for tag in config}
    regions = []
    for result in task["annotations"][0]["result"]:
        assert (result["original_height"], result["original_width"], result["to_name"]) == (30, 35, "image")
        assert tags[result["from_name"]].tag.lower() == result["type"]
        (name,) = result["value"][result["type"]]
        assert name in [label.get("value") for label in tags[result["from_name"]]]
        if result["type"] == "polygonlabels":
            region = inside([[(x * 0.35, y * 0.3) for x, y in result["value"]["points"]]], 30, 35)
        else:
            values = unpack(result["value"]["rle"]).reshape(30, 35, 4)
            assert (values == values[..., :1]).all()
            region = values[..., 3] == 255
        regions.append((region, {"road": 1, "car": 2, "__ignore__": 255}[name]))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)
    assert len({result["id"] for result in task["annotations"][0]["result"]}) == len(regions)


def test_label_studio_tasks_hold_truth_and_prediction(tmp_path):
    image = AnnotatedImage("a.jpg", truth=BLOCKS, prediction=NOISE, score=0.75, file=tmp_path / "shots" / "a#1.jpg")
    (task,) = json.loads(write(tmp_path / "out", "label-studio", image, copy_images=False, root=tmp_path, model="fcn8s").read_text("utf-8"))
    assert parse_qs(urlsplit(task["data"]["image"]).query)["d"] == ["shots/a#1.jpg"]
    (prediction,) = task["predictions"]
    assert (prediction["score"], prediction["model_version"]) == (0.75, "fcn8s")
    assert len(prediction["result"]) > len(task["annotations"][0]["result"])
    assert not (tmp_path / "out" / "images").exists()


def test_labelme_files_hold_truth_and_prediction(tmp_path):
    image = AnnotatedImage("a.jpg", truth=BLOCKS, prediction=NOISE, file=tmp_path / "shots" / "a.jpg")
    file = write(tmp_path / "out", "labelme", image, copy_images=False)
    content = json.loads(file.read_text("utf-8"))
    assert content["imagePath"] == "../shots/a.jpg"
    assert {shape["label"] for shape in content["shapes"]} >= {"road", "car", "predicted: road", "predicted: car"}


def test_cvat_shapes_are_polygons_and_masks_row_by_row(tmp_path, label_map):
    root = ET.parse(write(tmp_path, "cvat", truth(label_map))).getroot()
    assert [label.findtext("name") for label in root.findall("meta/task/labels/label")] == ["road", "car", "__ignore__"]
    assert root.findtext("meta/task/labels/label/color") == "#0a141e"
    (image,) = root.findall("image")
    assert (image.get("name"), image.get("height"), image.get("width")) == ("a b.png", "30", "35")
    regions = []
    for order, shape in enumerate(sorted(image, key=lambda shape: int(shape.get("z_order")))):
        assert shape.get("z_order") == str(order)
        if shape.tag == "polygon":
            points = [tuple(map(float, pair.split(","))) for pair in shape.get("points").split(";")]
            region = inside([points], 30, 35)
        else:
            left, top, height, width = (int(shape.get(name)) for name in ("left", "top", "height", "width"))
            values: list[bool] = []
            for number, length in enumerate(shape.get("rle").split(",")):
                values += [bool(number % 2)] * int(length)
            region = np.zeros((30, 35), bool)
            region[top : top + height, left : left + width] = np.array(values).reshape(height, width)
        regions.append((region, {"road": 1, "car": 2, "__ignore__": 255}[shape.get("label")]))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)


def test_yolo_lines_are_fractions_of_a_polygon_whose_holes_are_joined(tmp_path, label_map):
    label_map = np.where(label_map == 255, 0, label_map).astype(np.uint8)
    file = write(tmp_path, "yolo", truth(label_map, split="train"))
    assert file == tmp_path / "labels" / "train" / "a b.txt"
    regions = []
    for line in file.read_text().splitlines():
        number, *fractions = line.split()
        points = np.array(fractions, float).reshape(-1, 2)
        assert points.min() >= 0
        assert points.max() <= 1
        regions.append((inside([(points * (35, 30)).tolist()], 30, 35), int(number) + 1))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)


def test_opencv_draws_joined_holes_too():
    """Ultralytics fills the ring with fillPoly, which draws its outline as well: the inside of a hole stays free, but for the bridge."""
    from upscore.objects.shapes import join_holes, trace_shapes

    label_map = np.zeros((40, 40), np.uint8)
    label_map[5:35, 5:35] = 1
    label_map[15:25, 15:25] = 0
    (shape,) = trace_shapes(label_map, [1])
    drawn = cv2.fillPoly(np.zeros((40, 40), np.uint8), [join_holes(shape.polygon).astype(np.int32)], 1)
    assert not drawn[16:24, 16:24].any()
    wrong = np.count_nonzero(drawn != label_map)
    only_outline = cv2.fillPoly(
        np.zeros((40, 40), np.uint8), [ring.astype(np.int32) for ring in (shape.polygon.outer, *shape.polygon.holes)], 1
    )
    assert wrong == np.count_nonzero(only_outline != label_map)


def test_geojson_rings_are_closed_and_classes_have_colours(tmp_path, label_map):
    content = json.loads(write(tmp_path, "geojson", truth(label_map)).read_text("utf-8"))
    regions = []
    for feature in content["features"]:
        rings = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] for ring in rings)
        found = feature["properties"]["classification"]
        label = {"road": 1, "car": 2, "__ignore__": 255}[found["name"]]
        assert label == 255 or found["color"] == list(LABELS.palette[label])
        regions.append((inside([ring[:-1] for ring in rings], 30, 35), label))
    np.testing.assert_array_equal(paint(30, 35, regions), label_map)


def test_voc_masks_have_the_colours_of_the_list(tmp_path, label_map):
    file = write(tmp_path, "voc", truth(label_map, split="val"))
    colours = {}
    for line in (tmp_path / "labelmap.txt").read_text().splitlines()[1:]:
        name, colour, *_ = line.split(":")
        colours[name] = tuple(map(int, colour.split(",")))
    shown = np.asarray(Image.open(file).convert("RGB"))
    for label, colour in enumerate([colours[name] for name in LABELS.names]):
        np.testing.assert_array_equal((shown == colour).all(axis=2), label_map == label)
    assert (tmp_path / "ImageSets" / "Segmentation" / "val.txt").read_text() == "a b\n"


def test_nothing_is_left_of_files_that_are_abandoned(tmp_path):
    for to in ("coco", "label-studio", "cvat"):
        writer = find_writer(to).open(tmp_path / to, LABELS, WriterOptions(copy_images=False))
        writer.add(AnnotatedImage("a.jpg", prediction=NOISE, file=tmp_path / "a.jpg"))
        writer.abandon()
        assert not [path for path in (tmp_path / to).rglob("*") if path.is_file()]


PARTS = np.zeros((12, 16), np.uint8)  # one object of two parts, the first with a hole, and an ignored pixel
PARTS[1:6, 1:6], PARTS[3, 3], PARTS[8:11, 9:14], PARTS[11, 15] = 2, 0, 2, 255


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own, with NumPy 2
def test_an_object_of_several_parts_is_one_annotation_of_coco(tmp_path):
    instances = np.where(PARTS == 2, 7, 0)
    (annotation,) = [
        each
        for each in json.loads(write(tmp_path, "coco", truth(PARTS, instances=instances)).read_text())["annotations"]
        if not each["iscrowd"]
    ]
    assert annotation["area"] == 24 + 15
    assert annotation["bbox"] == [1, 1, 13, 10]
    mask = pytest.importorskip("pycocotools.mask")
    np.testing.assert_array_equal(
        mask.decode({**annotation["segmentation"], "counts": annotation["segmentation"]["counts"].encode()}), PARTS == 2
    )
    hooked = np.zeros((12, 16), np.uint8)  # the box around the smaller part holds pixels of the larger one, which has a hole
    hooked[0:3, 2:5], hooked[1, 3], hooked[0:5, 0], hooked[4, 1:3] = 2, 0, 2, 2
    document = json.loads(write(tmp_path / "hooked", "coco", truth(hooked, instances=np.where(hooked == 2, 7, 0))).read_text())
    (segmentation,) = (each["segmentation"] for each in document["annotations"])
    np.testing.assert_array_equal(mask.decode({**segmentation, "counts": segmentation["counts"].encode()}), hooked == 2)


@pytest.mark.parametrize("number", [1, 254, 255, 256, 65535, 65536])
def test_numbers_of_objects_are_those_of_png_files(number, tmp_path):
    instances = np.where(PARTS == 2, number, 0)
    instances[11, 15] = 3  # of an ignored pixel
    instances[2, 2] = 300
    write(tmp_path, "folder", truth(PARTS, instances=instances, split="train"))
    stored = np.array(Image.open(tmp_path / "instances" / "train" / "a b.png"))
    np.testing.assert_array_equal(
        stored, instances if number < 65536 else np.select([instances == 3, instances == 300, instances == number], [1, 2, 3])
    )
    write(tmp_path / "voc", "voc", truth(PARTS, instances=instances, split="train"))
    stored = np.array(Image.open(tmp_path / "voc" / "SegmentationObject" / "a b.png"))
    assert stored[11, 15] == 255  # VOC's void
    assert len({int(stored[2, 2]), int(stored[1, 1]), 0, 255}) == 4
    np.testing.assert_array_equal(stored == stored[1, 1], instances == number)
