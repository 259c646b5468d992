"""VGG Image Annotator's JSON, of versions 1 and 2: a saved project, or exported annotations.

::

    data/
    ├── via_project.json          or train/via_region_data.json, val/via_region_data.json
    └── a.jpg

The class of a region is one of its attributes: the only one, or the first of class, label, type, name and category. Regions are drawn in
the order of the file, the later ones on top. The size that VIA stores is that of the file in bytes.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import FoundImages, Same, files_by_split, open_annotated, pairs_of_split, read_json, splits_of
from upscore.data.annotations.classes import annotated_classes
from upscore.data.annotations.drawing import Drawing, Shape
from upscore.data.annotations.fields import flat_points, items_of, name_of, number_of
from upscore.data.annotations.outlines import Ellipse, Outline, Polygons, box, circle
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN, ReadingOptions, reading_options
from upscore.errors import DataError
from upscore.text import listed, literal

__all__ = ["READER", "open_via"]

_WITHOUT_AREA = ("point", "polyline", "line")
_CLASS_KEYS = ("class", "label", "type", "name", "category")
_DEFAULT = "object"  # the class where no region has an attribute

Image = tuple[str, list[tuple[dict[str, Any], Outline]], Counter[str]]


def open_via(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of VIA's JSON: a file, or a folder with such.

    Raises
    ------
    DataError
        The file is no such JSON, a region in it is malformed, regions have several attributes none of which is plainly the class, or no
        image that it names is there.
    """
    by_split = _files(root)
    read = {file: _read(file) for files in by_split.values() for file in files}
    regions = [attributes for images in read.values() for _, shapes, _ in images for attributes, _ in shapes]
    key = _class_key(root, regions)
    names = sorted({name for attributes in regions if (name := _class_of(attributes, key))})
    classes = annotated_classes(
        root,
        names,
        f"the attribute '{key}' of the regions, sorted" if key else "the regions, which have no attributes",
        rest_ignored=options.rest_ignored,
    )
    warnings: list[str] = []

    def pair(files: Sequence[Path]) -> list[Pair]:
        found = FoundImages(root, [folder for file in files for folder in (file.parent, file.parent / "images")])
        pairs = []
        for file in files:
            for name, shapes, left_out in read[file]:
                if (entry := found.add(file, name)) is None:
                    continue
                drawn = [Shape(classes.numbers[label], outline) for given, outline in shapes if (label := _class_of(given, key))]
                notes = Counter(left_out)
                notes["regions without a class were left out"] += len(shapes) - len(drawn)
                pairs.append(Pair(*entry, file, drawing=Same(Drawing(drawn, None, classes.background, left_out=+notes))))
            found.check(file, warnings)
        return pairs

    split, pairs = pairs_of_split(root, split, by_split, pair, warnings, options.split_by)
    if empty := sum(not pair.drawing().shapes for pair in pairs if pair.drawing):
        warnings.append(f"{empty} of {len(pairs)} images have no region")
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "VGG Image Annotator")
    return files_by_split(root, files, by_name=True)


def _read(file: Path) -> list[Image]:
    content = read_json(file, "VGG Image Annotator's annotations")
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = content["_via_img_metadata"]
    images: list[Image] = []
    name: Any = ""
    number = 0
    try:
        if not isinstance(content, dict):
            raise ValueError("found no object of images, as VGG Image Annotator writes it")
        for entry in items_of(list(content.values()), "images"):
            name = name_of(entry.get("filename"), "filename")
            given = entry.get("regions", [])
            shapes: list[tuple[dict[str, Any], Outline]] = []
            left_out = Counter[str]()
            for number, region in enumerate(items_of(list(given.values()) if isinstance(given, dict) else given, "regions"), 1):  # noqa: B007 - for the error
                shape, attributes = region.get("shape_attributes"), region.get("region_attributes", {})
                if not isinstance(shape, dict) or not isinstance(attributes, dict):
                    raise ValueError("it has no shape_attributes and region_attributes")
                if (outline := _outline(shape)) is None:
                    left_out[f"regions of the type {shape['name']}, which have no area, were left out"] += 1
                else:
                    shapes.append((attributes, outline))
            images.append((name, shapes, left_out))
            number = 0
    except ValueError as error:
        raise DataError(f"{file}: {f'image {literal(name, 60)}, region {number}: ' if number else ''}{error}") from None
    return images


def _outline(shape: dict[str, Any]) -> Outline | None:
    kind = shape.get("name")
    if kind in _WITHOUT_AREA:
        return None

    def number(name: str) -> float:
        return number_of(shape.get(name), name)

    if kind == "polygon":
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise ValueError("a polygon has no all_points_x and all_points_y of one length")
        points: array[float] = flat_points(list(zip(x, y, strict=True)))
        return Polygons(((points,),))
    if kind == "rect":
        return box(number("x"), number("y"), number("x") + number("width"), number("y") + number("height"))
    if kind == "circle":
        return circle(number("cx"), number("cy"), number("r"))
    if kind == "ellipse":
        return Ellipse(number("cx"), number("cy"), number("rx"), number("ry"), math.degrees(number_of(shape.get("theta", 0), "theta")))
    raise ValueError(f"its type is {literal(kind, 40)}, expected polygon, rect, circle or ellipse")


def _class_key(root: Path, regions: Sequence[dict[str, Any]]) -> str:
    """Return the attribute that is the class; empty where no region has one."""
    keys = sorted({key for attributes in regions for key in attributes})
    if len(keys) < 2:
        return keys[0] if keys else ""
    lower = {key.lower(): key for key in reversed(keys)}
    for word in _CLASS_KEYS:
        if word in lower:
            return lower[word]
    raise DataError(
        f"{root}: regions have the attributes {listed(keys, 8)}, none of which is called {', '.join(_CLASS_KEYS)}: rename that of the class"
    )


def _class_of(attributes: dict[str, Any], key: str) -> str:
    """Return the class of a region: a text, a number, or the first of a checkbox's that is true; empty where it has none."""
    if not key:
        return _DEFAULT
    value = attributes.get(key)
    if isinstance(value, dict):
        value = next((name for name, chosen in value.items() if chosen), "")
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


READER = Reader(
    "VGG Image Annotator",
    "VGG Image Annotator (JSON)",
    recognise=lambda path: is_of_format(path, "VGG Image Annotator", _files),
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_via(Path(path), split, reading_options(**options)),
    options=DRAWN,
)
