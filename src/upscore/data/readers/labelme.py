"""labelme's and X-AnyLabeling's annotations: a JSON file beside each image.

::

    data/                        data/
    ├── a.jpg                    ├── train/a.jpg, train/a.json
    ├── a.json                   ├── val/b.jpg, val/b.json
    └── labels.txt               └── labels.txt

``labels.txt`` gives the order of the classes; its lines ``__ignore__`` and ``_background_`` are what is ignored, and the pixels without a
shape. Without it the names are sorted. Shapes are drawn in the order of the file, the later ones on top, as labelme does.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import FoundImages, Same, files_by_split, open_annotated, pairs_of_split, read_json, splits_of
from upscore.data.annotations.classes import listed_classes, shape_of
from upscore.data.annotations.drawing import Drawing
from upscore.data.annotations.fields import flat_points, items_of, name_of, number_of, size_of
from upscore.data.annotations.outlines import Bitmap, Outline, Polygons, box, circle
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.annotations.tool_outlines import PillowEllipse, PillowPolygon, PillowRectangle
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN_BY_TOOL, ReadingOptions, reading_options
from upscore.errors import DataError

__all__ = ["READER", "open_labelme"]

_WHAT = "labelme annotations"
_CLASS_FILES = ("labels.txt", "classes.txt", "class_names.txt")
_POLYGONS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")
_WITHOUT_AREA = ("line", "linestrip", "point", "points", "cuboid")

_Labelled = tuple[str, Outline, int | str | None]  # the label, the outline, and the group whose shapes are one object


def open_labelme(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a folder of labelme's files.

    Raises
    ------
    DataError
        A file is no such JSON, a shape in it is malformed or of an unknown type, or an image is missing.
    """
    by_split = _files(root)
    every = [file for files in by_split.values() for file in files]
    read = {file: _read(file, by_tool=options.by_tool) for file in every}
    names = sorted({name for _, _, shapes, _ in read.values() for name, _, _ in shapes})
    classes = listed_classes(root, names, "the shapes, sorted", _CLASS_FILES, rest_ignored=options.rest_ignored)
    warnings: list[str] = []

    def pair(files: Sequence[Path]) -> list[Pair]:
        found = FoundImages(root)
        pairs = []
        for file in files:
            path, size, shapes, left_out = read[file]
            if (image := _image(file, path, found)) is not None:
                drawn = [shape_of(name, outline, classes, group) for name, outline, group in shapes]
                drawing = Drawing(drawn, size, classes.background, left_out=left_out)
                pairs.append(Pair(found.add_path(file, image), image, file, drawing=Same(drawing)))
        found.check(files[0], warnings)
        found.warn_of_others(warnings, "have no JSON file of their own")
        return pairs

    split, pairs = pairs_of_split(root, split, by_split, pair, warnings, options.split_by)
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "labelme")
    return files_by_split(root, files, by_name=False)


def _read(file: Path, *, by_tool: bool) -> tuple[str, tuple[int, int] | None, list[_Labelled], Counter[str]]:
    """Return the image's path in a file, the size that it states, its shapes, and what was left out."""
    content = read_json(file, _WHAT)
    if not isinstance(content, dict):
        raise DataError(f"{file}: found no object, expected shapes and imagePath, as labelme writes them")
    number = -1
    shapes: list[_Labelled] = []
    left_out = Counter[str]()
    try:
        path = content.get("imagePath") or ""
        size = size_of(content.get("imageHeight"), content.get("imageWidth"))
        for number, shape in enumerate(items_of(content.get("shapes"), "list of shapes")):  # noqa: B007 - for the error
            name = name_of(shape.get("label"))
            if (outline := _outline(shape, by_tool=by_tool)) is not None:
                group = shape.get("group_id")
                shapes.append((name, outline, group if isinstance(group, int | str) else None))
            else:
                left_out[f"shapes of the type {shape.get('shape_type')}, which have no area, were left out"] += 1
    except ValueError as error:
        raise DataError(f"{file}: {f'shape {number + 1}: ' if number >= 0 else ''}{error}") from None
    return path if isinstance(path, str) else "", size, shapes, left_out


def _outline(shape: dict[str, Any], *, by_tool: bool) -> Outline | None:
    kind = shape.get("shape_type") or "polygon"
    if kind in _WITHOUT_AREA:
        return None
    points = flat_points(shape.get("points"))
    if kind in _POLYGONS or (kind == "rectangle" and len(points) == 8):
        return PillowPolygon(points) if by_tool else Polygons(((points,),))
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"its type is '{kind}', expected polygon, rectangle, circle or mask")
    if len(points) != 4:
        raise ValueError(f"a {kind} has {len(points) // 2} points, expected 2")
    left, top, right, bottom = points
    if kind == "circle":
        radius = math.hypot(right - left, bottom - top)
        return PillowEllipse(left - radius, top - radius, left + radius, top + radius) if by_tool else circle(left, top, radius)
    if kind == "rectangle":
        sides = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
        return PillowRectangle(*sides) if by_tool else box(*sides)
    return Bitmap(shape.get("mask"), round(number_of(top, "row")), round(number_of(left, "column")))


def _image(file: Path, name: str, found: FoundImages) -> Path | None:
    """Return the image that a file names, or that lies beside it under its name; None where there is none, which is counted."""
    path = file.parent / os.path.normpath(name.replace("\\", "/")) if name and "\0" not in name else file
    if path.name.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(path):
        return path
    beside = [file.with_name(file.stem + suffix) for suffix in IMAGE_SUFFIXES]
    return next((path for path in beside if os.path.isfile(path)), None) or found.find(name, file.stem)


READER = Reader(
    "labelme",
    "labelme (JSON)",
    recognise=lambda path: is_of_format(path, "labelme", _files),
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_labelme(Path(path), split, reading_options(**options)),
    options=DRAWN_BY_TOOL,
)
