"""Supervisely's projects: classes in ``meta.json``, and a JSON file for each image in the ``ann`` folder of each dataset.

::

    project/
    ├── meta.json
    ├── train/img/a.jpg
    └── train/ann/a.jpg.json

Datasets called train and val are the splits. The corners of Supervisely's polygons are pixels, not points between them: a corner is the
centre of its pixel. Objects are drawn in the order of the file, the later ones on top.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import FoundImages, files_by_split, open_annotated, pairs_of_split, read_json, splits_of
from upscore.data.annotations.classes import AnnotatedClasses, annotated_classes
from upscore.data.annotations.drawing import Drawing, Shape
from upscore.data.annotations.fields import flat_points, items_of, name_of, number_of, size_of
from upscore.data.annotations.outlines import Bitmap, Outline, Polygons, box
from upscore.data.annotations.recognition import files_with_suffix
from upscore.data.folder_roles import subfolders
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN, ReadingOptions, reading_options
from upscore.errors import DataError
from upscore.text import literal

__all__ = ["READER", "open_supervisely"]

_WITHOUT_AREA = ("point", "line", "graph", "cuboid")


def open_supervisely(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a Supervisely project.

    Raises
    ------
    DataError
        ``meta.json`` or, where a mask is drawn, a file of ``ann`` is malformed, or an image is missing.
    """
    classes = _classes(root / "meta.json", options)
    warnings: list[str] = []

    def read(files: Sequence[Path]) -> list[Pair]:
        found = FoundImages(root)
        pairs = []
        for file in files:
            image = file.parent.parent / "img" / file.stem
            if os.path.isfile(image) or (image := found.find(file.stem, Path(file.stem).stem)) is not None:  # type: ignore[assignment]
                pairs.append(Pair(found.add_path(file, image), image, file, drawing=_Objects(file, classes)))
        found.check(root, warnings)
        found.warn_of_others(warnings, "have no file in ann/")
        return pairs

    split, pairs = pairs_of_split(root, split, _files(root), read, warnings, options.split_by)
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    datasets = [
        root,
        *(root / name for name in subfolders(root)),
        *(root / name / inner for name in subfolders(root) for inner in subfolders(root / name)),
    ]
    files = [file for dataset in datasets if (dataset / "img").is_dir() for file in files_with_suffix(dataset / "ann", (".json",))]
    return files_by_split(root, files, by_name=False)


def _classes(file: Path, options: ReadingOptions) -> AnnotatedClasses:
    content = read_json(file, "Supervisely's classes")
    names, palette = [], []
    try:
        for item in items_of(content.get("classes") if isinstance(content, dict) else None, "list of classes"):
            if item.get("shape") not in _WITHOUT_AREA:
                names.append(name_of(item.get("title"), "title"))
                palette.append(_colour(item.get("color")))
    except ValueError as error:
        raise DataError(f"{file}: {error}") from None
    colours = [colour for colour in palette if colour is not None]
    colours = colours if len(colours) == len(names) else []
    return annotated_classes(file, names, file.name, palette=colours, rest_ignored=options.rest_ignored)


def _colour(text: Any) -> tuple[int, int, int] | None:
    try:
        return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))
    except (TypeError, ValueError):
        return None


class _Objects:
    """The objects of one image, read from its file when they are drawn."""

    __slots__ = ("classes", "file")

    def __init__(self, file: Path, classes: AnnotatedClasses) -> None:
        self.file, self.classes = file, classes

    def __call__(self) -> Drawing:
        content = read_json(self.file, "Supervisely's annotations")
        shapes: list[Shape] = []
        left_out = Counter[str]()
        number = 0
        try:
            stated = content.get("size") if isinstance(content, dict) else None
            if not isinstance(stated, dict):
                raise ValueError(f"its size is {literal(stated, 40)}, expected height and width")
            for number, item in enumerate(items_of(content.get("objects"), "list of objects"), 1):  # noqa: B007 - for the error
                kind = item.get("geometryType") or item.get("geometry_type") or ("bitmap" if item.get("bitmap") else "polygon")
                if kind in _WITHOUT_AREA:
                    left_out[f"objects of the type {kind}, which have no area, were left out"] += 1
                    continue
                name = name_of(item.get("classTitle"), "classTitle")
                if name not in self.classes.numbers:
                    raise ValueError(f"its class is '{name}', which meta.json does not name")
                shapes.append(Shape(self.classes.numbers[name], _outline(kind, item)))
            size = size_of(stated.get("height"), stated.get("width"))
        except ValueError as error:
            raise DataError(f"{self.file}: {f'object {number}: ' if number else ''}{error}") from None
        return Drawing(shapes, size, self.classes.background, left_out=left_out)


def _outline(kind: str, item: dict[str, Any]) -> Outline:
    if kind == "bitmap":
        bitmap = item.get("bitmap")
        if not isinstance(bitmap, dict):
            raise ValueError(f"its bitmap is {literal(bitmap, 40)}, expected origin and data")
        column, row = flat_points([bitmap.get("origin")])
        return Bitmap(bitmap.get("data"), round(number_of(row, "row")), round(number_of(column, "column")))
    points = item.get("points")
    if not isinstance(points, dict):
        raise ValueError(f"its points are {literal(points, 40)}, expected exterior and interior")
    exterior = flat_points(points.get("exterior"))
    if kind == "rectangle":
        if len(exterior) != 4:
            raise ValueError(f"a rectangle has {len(exterior) // 2} points, expected 2")
        left, top, right, bottom = exterior
        return box(min(left, right), min(top, bottom), max(left, right) + 1, max(top, bottom) + 1)
    if kind != "polygon":
        raise ValueError(f"its type is {literal(kind, 40)}, expected polygon, bitmap or rectangle")
    holes = points.get("interior") or []
    if not isinstance(holes, list):
        raise ValueError(f"its interior is {literal(holes, 40)}, expected lists of points")
    return Polygons(([_centred(ring) for ring in (exterior, *map(flat_points, holes))],))


def _centred(ring: array[float]) -> array[float]:
    return array("d", [number + 0.5 for number in ring])


def _recognise(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "meta.json")) and bool(_files(Path(path)))


READER = Reader(
    "Supervisely",
    "Supervisely (meta.json, ann/)",
    recognise=_recognise,
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_supervisely(Path(path), split, reading_options(**options)),
    options=DRAWN,
)
