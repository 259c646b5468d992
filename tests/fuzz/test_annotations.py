"""Annotation files, whatever is in them: a dataset whose masks can be drawn or not, or one line."""

from __future__ import annotations

import base64
import io
import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fuzz.examples import NUMBERS, WORDS, altered, each_of, encoded, fuzz, taken_or_refused
from parquet_bytes import png, write_parquet
from upscore.data.open_dataset import list_splits, open_dataset
from upscore.data.readers import (
    cityscapes,
    coco,
    coco_panoptic,
    cvat,
    geojson,
    hugging_face,
    label_studio,
    labelme,
    nnunet,
    supervisely,
    table,
    via,
    yolo,
)

RING = [[1, 2], [7.5, 2], [6, 5]]
FLAT = [number for point in RING for number in point]
IMAGES = [{"id": n, "file_name": f"{name}.png", "height": 6, "width": 8} for n, name in enumerate("ab")]
_BUFFER = io.BytesIO()
Image.new("L", (2, 3), 255).save(_BUFFER, "PNG")
PNG = base64.b64encode(_BUFFER.getvalue()).decode()
_BITS = f"{8 * 6 * 4:032b}{7:05b}{'1111' * 4}100{8 * 6 * 4 - 1:016b}{255:08b}"
BRUSH = list(int(_BITS, 2).to_bytes(len(_BITS) // 8, "big"))


def parquet_bytes() -> bytes:
    """Two rows of an image and a mask; nothing where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        return b""
    rows = [{"bytes": png(np.zeros(shape, np.uint8)), "path": "a.png"} for shape in ((6, 8, 3), (6, 8))]
    with TemporaryDirectory() as folder:
        return write_parquet(Path(folder, "a"), {"image": [rows[0]] * 2, "label": [rows[1]] * 2}, group=1).read_bytes()


def of_studio(kind: str, **value: object) -> dict:
    return {"type": kind, "original_width": 8, "original_height": 6, "value": {**value, kind: ["x"]}}


FORMATS = {
    "COCO": (coco.READER, "a.json", {
        "images": IMAGES, "categories": [{"id": 1, "name": "x", "supercategory": "y"}, {"id": 2, "name": "z"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "segmentation": [FLAT]},
            {"id": 2, "image_id": 0, "category_id": 2, "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": [3, 4, 41]}},
            {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [6, 8], "counts": "34Y1"}},
        ],
    }),
    "panoptic": (coco_panoptic.READER, "a.json", {
        "images": IMAGES, "categories": [{"id": 1, "name": "x", "color": [1, 2, 3]}],
        "annotations": [
            {"image_id": n, "file_name": f"{name}.png", "segments_info": [{"id": 5, "category_id": 1, "iscrowd": 0}]}
            for n, name in enumerate("ab")
        ],
    }),
    "labelme": (labelme.READER, "a.json", {
        "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8, "imageData": None,
        "shapes": [
            {"label": "x", "points": RING, "shape_type": "polygon"}, {"label": "x", "points": RING[:2], "shape_type": "circle"},
            {"label": "y", "points": RING[:2], "shape_type": "mask", "mask": PNG},
        ],
    }),
    "Label Studio": (label_studio.READER, "a.json", [
        {"data": {"image": f"/data/{name}.png"}, "annotations": [
            {"ground_truth": True, "completed_by": {"id": 2, "email": "b@c.d"}, "updated_at": "2026-01-02T03:04:05Z", "result": [
                of_studio("ellipselabels", x=1, y=2, radiusX=30, radiusY=4)]},
            {"was_cancelled": False, "completed_by": 1, "result": [
            of_studio("polygonlabels", points=RING), of_studio("brushlabels", format="rle", rle=BRUSH),
            of_studio("rectanglelabels", x=1, y=2, width=30, height=40, rotation=20),
            of_studio("ellipselabels", x=1, y=2, radiusX=30, radiusY=4),
        ]}]} for name in "ab"
    ]),
    "Label Studio min": (label_studio.READER, "a.json", [
        {"id": 1, "annotator": 2, "updated_at": "2026-01-02", "image": f"{name}.png",
         "label": [{"points": RING, "polygonlabels": ["x"], "original_width": 8, "original_height": 6}]}
        for name in "aab"
    ]),
    "VIA": (via.READER, "a.json", {"_via_img_metadata": {name: {"filename": f"{name}.png", "size": 5, "regions": [
        {"shape_attributes": {"name": "polygon", "all_points_x": [1, 5, 4], "all_points_y": [1, 2, 5]},
         "region_attributes": {"class": "x"}},
        {"shape_attributes": {"name": "ellipse", "cx": 1, "cy": 2, "rx": 3, "ry": 2}, "region_attributes": {"class": {"y": True}}},
    ]} for name in "ab"}}),
    "GeoJSON": (geojson.READER, "a.json", {"type": "FeatureCollection", "features": [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [RING]}, "properties": {"classification": {"name": "x"}}},
        {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[RING]]}, "properties": {"label": "y"}},
    ]}),
    "Cityscapes": (cityscapes.READER, "gtFine/train/a_gtFine_polygons.json", {
        "imgHeight": 6, "imgWidth": 8, "objects": [{"label": "road", "polygon": RING}, {"label": "cargroup", "polygon": RING}],
    }),
    "nnU-Net": (nnunet.READER, "dataset.json", {"labels": {"background": 0, "x": 1, "ignore": 2}, "file_ending": ".png"}),
    "Supervisely": (supervisely.READER, "train/ann/a.png.json", {"size": {"height": 6, "width": 8}, "objects": [
        {"classTitle": "x", "geometryType": "polygon", "points": {"exterior": RING, "interior": [RING]}},
        {"classTitle": "x", "geometryType": "bitmap", "bitmap": {"origin": [1, 1], "data": PNG}},
        {"classTitle": "x", "geometryType": "rectangle", "points": {"exterior": RING[:2], "interior": []}},
    ]}),
    "Supervisely classes": (supervisely.READER, "meta.json", {"classes": [{"title": "x", "shape": "polygon", "color": "#102030"}]}),
    "CVAT": (cvat.READER, "a.xml", (
        '<?xml version="1.0"?><annotations><meta><task><labels><label><name>x</name><color>#102030</color></label></labels></task></meta>'
        + "".join(
            f'<image id="0" name="{name}.png" width="8" height="6"><polygon label="x" points="1,2;7.5,2;6,5" z_order="1"/>'
            '<mask label="x" left="1" top="1" width="3" height="2" rle="1, 3, 2"/><box label="x" xtl="1" ytl="1" xbr="5" ybr="4"/>'
            '<ellipse label="x" cx="1" cy="2" rx="3" ry="1" rotation="5"/></image>' for name in "ab"
        ) + "</annotations>"
    )),
    "YOLO": (yolo.READER, "labels/a.txt", "0 0.1 0.2 0.9 0.2 0.5 0.9\n1 0.5 0.5 0.1 0.1\n"),
    "CSV": (table.READER, "a.csv", 'image,mask,split\na.png,m.png,train\n"b.png",m.png,val\n'),
    "Parquet": (hugging_face.READER, "data/train-0.parquet", parquet_bytes()),
}  # fmt: skip

OPTIONS = {
    "Label Studio": ({"annotation": "latest"}, {"annotation": "annotator:1"}),
    "Label Studio min": ({"annotation": "latest"}, {"annotation": "annotator:2"}),
    "YOLO": ({"drawing": "tool"},),
}
"""With which options files of a format are opened beside none."""

CHUNKS = encoded((
    *NUMBERS, *WORDS, "[" * 2000, '{"a":' * 2000, "[[[[", "{", "}", "[", "]", ":", ",", '"', "null", "true", "[]", "{}", "[null]", "[[]]",
    '""', "-1", "1e999", "1e308", "2147483648", "9" * 30, "0.5", '"\\ud800"', '"\\u0000"', "[1, 2, 3]", '[["1", 2]]',
    "[[1e300, 2], [3, 4], [5, 6]]",
    "<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]>', "&d;", "&amp;", "&#0;", "<a>" * 2000, "<a/>",
    "</image>", "<!--", "]]>",
    "0 0 0 1 0 1 1\n", "999999 0 0 1 1 0 1", "nan", "-0",
))  # fmt: skip


def prepare(root: Path, name: str) -> Path:
    """Write the images and the other files that a format needs; return the file that is altered."""
    _, file, _ = FORMATS[name]
    pixels = Image.new("RGB", (8, 6), (5, 0, 0))
    folders = {
        "Cityscapes": "leftImg8bit/train",
        "nnU-Net": "imagesTr",
        "Supervisely": "train/img",
        "Supervisely classes": "train/img",
        "YOLO": "images",
    }
    for stem in "ab":
        image = root / folders.get(name, "") / f"{stem}{'_leftImg8bit' if name == 'Cityscapes' else ''}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels.save(image)
    for other, text in {
        "nnU-Net": ("labelsTr/a.png", ""), "Supervisely": ("meta.json", FORMATS["Supervisely classes"][2]),
        "YOLO": ("classes.txt", "x\ny\n"), "CSV": ("classes.txt", "x\ny\n"), "Parquet": ("id2label.json", {"0": "x", "1": "y"}),
        "Supervisely classes": ("train/ann/a.png.json", FORMATS["Supervisely"][2]),
    }.items():  # fmt: skip
        if other == name:
            path = root / text[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text[1] if isinstance(text[1], str) else json.dumps(text[1]))
    if name == "Supervisely classes":
        (root / "train/ann/b.png.json").write_bytes((root / "train/ann/a.png.json").read_bytes())
    if name == "nnU-Net":
        for stem in "ab":
            Image.new("L", (8, 6)).save(root / "labelsTr" / f"{stem}.png")
    if name == "CSV":
        Image.new("L", (8, 6)).save(root / "m.png")
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    if name in ("labelme", "GeoJSON", "Supervisely", "YOLO", "Cityscapes"):  # a file for each image
        second = (root / file).with_name(Path(file).name.replace("a", "b", 1))
        second.write_bytes(content_of(name).replace(b"a.png", b"b.png"))
    return root / file


def content_of(name: str) -> bytes:
    value = FORMATS[name][2]
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def opened(name: str, file: Path, root: Path) -> int:
    """Open all splits with the format's own reader, and as a user does; draw every mask. Return how many were drawn."""
    reader, drawn = FORMATS[name][0], 0
    for path in (
        (str(root), str(file)) if name not in ("Cityscapes", "nnU-Net", "Supervisely", "Supervisely classes", "YOLO") else (str(root),)
    ):
        with taken_or_refused():
            reader.recognise(path)
        splits: tuple[str, ...] = ()
        with taken_or_refused():
            splits = reader.splits(path)
        for split in splits:
            for options in ({}, *OPTIONS.get(name, ())):
                with taken_or_refused():
                    dataset = reader.open(path, split, **options)
                    for index in range(len(dataset)):
                        with taken_or_refused():
                            drawn += dataset[index].label is not None
    with taken_or_refused():
        list_splits(root)
        open_dataset(root)
    return drawn


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_altered_can_be_read_before(tmp_path: Path, name: str) -> None:
    file = prepare(tmp_path, name)
    file.write_bytes(content_of(name))
    assert opened(name, file, tmp_path) >= 1


@pytest.mark.parametrize("name", FORMATS)
def test_any_annotation_file(tmp_path: Path, name: str) -> None:
    file = prepare(tmp_path, name)
    valid = content_of(name)

    @fuzz
    @each_of(CHUNKS[:: max(1, len(CHUNKS) // 20)])
    @given(content=st.one_of(altered(valid, CHUNKS), altered(valid, CHUNKS), st.lists(st.sampled_from(CHUNKS), max_size=6).map(b"".join)))
    def run(content: bytes) -> None:
        file.write_bytes(content)
        opened(name, file, tmp_path)

    run()


WRONG = (None, True, -1, 0, 7, 1e300, 2**70, "", "x", "\0", [], {}, [None], [[]], [[1, 2]], {"a": 1}, [1, "2", 3.5], ["x"] * 3, [[[1]]])


@pytest.mark.parametrize("name", [name for name in FORMATS if not isinstance(FORMATS[name][2], str | bytes)])
def test_every_value_replaced_by_every_kind(tmp_path: Path, name: str) -> None:
    """Well-formed JSON of the wrong types reaches what altered bytes rarely do."""
    file = prepare(tmp_path, name)
    reader = FORMATS[name][0]

    def paths(value: object, prefix: tuple = ()) -> list[tuple]:
        inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
        return [prefix, *(path for key, child in inner for path in paths(child, (*prefix, key)))]

    tried = 0
    for path in paths(FORMATS[name][2]):
        wrong = WRONG[tried % len(WRONG) :] + WRONG[: tried % len(WRONG)]
        for value in wrong[:4]:
            content = json.loads(content_of(name))
            if path:
                target = content
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = value
            else:
                content = value
            file.write_text(json.dumps(content))
            with taken_or_refused():
                dataset = reader.open(str(tmp_path if name not in ("COCO", "panoptic") else file), "train")
                for index in range(len(dataset)):
                    with taken_or_refused():
                        dataset[index]
            tried += 1
