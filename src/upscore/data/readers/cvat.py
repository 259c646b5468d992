"""CVAT's export "CVAT for images 1.1": an XML file with polygons, masks, boxes and ellipses.

::

    data/
    ├── annotations.xml
    └── images/a.jpg              or images/Train/a.jpg, in projects with subsets

The classes are those of the file's own list of labels, in its order. Shapes are drawn by ``z_order``, and those of one in the order of
the file, the later ones on top. Shapes called ``__ignore__`` are ignored.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import (
    FoundImages,
    Same,
    files_by_split,
    known_splits,
    open_annotated,
    pairs_of_split,
    read_xml,
    splits_of,
)
from upscore.data.annotations.classes import IGNORED_NAME, AnnotatedClasses, annotated_classes, shape_of
from upscore.data.annotations.drawing import Drawing, Shape
from upscore.data.annotations.fields import name_of, number_of, size_of
from upscore.data.annotations.outlines import CvatRuns, Ellipse, Outline, Polygons, box
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN, ReadingOptions, reading_options
from upscore.data.splits import canonical_split
from upscore.errors import DataError
from upscore.text import literal

__all__ = ["READER", "open_cvat"]

_ORDER = "where shapes of different classes overlap, the one of the higher z_order is on top, and of equal ones the later in the file"
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")


def open_cvat(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of CVAT's XML: a file, or a folder with such.

    Raises
    ------
    DataError
        The file is no such XML, describes a video, a shape in it is malformed, or no image that it names is there.
    """
    documents = _documents(root)
    warnings: list[str] = []
    classes = _classes(root, documents, options)
    found = FoundImages(root, [file.parent / "images" for file in documents])

    def read(images: Sequence[tuple[Path, Any]]) -> list[Pair]:
        pairs = []
        for file, image in images:
            if (entry := found.add(file, image.get("name"))) is not None:
                pairs.append(Pair(*entry, file, drawing=Same(_drawing(file, image, classes))))
        found.check(images[0][0] if images else root, warnings)
        return pairs

    split, pairs = pairs_of_split(root, split, _images_by_split(root, documents), read, warnings, options.split_by)
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "CVAT", (".xml",))
    return files_by_split(root, files, by_name=True)


def _documents(root: Path) -> dict[Path, Any]:
    documents = {file: read_xml(file, "CVAT's annotations") for files in _files(root).values() for file in files}
    for file, document in documents.items():
        if document.tag != "annotations":
            raise DataError(f"{file}: its root is <{document.tag}>, expected <annotations>, as CVAT writes it")
        if document.find("track") is not None:
            raise DataError(f"{file}: holds the tracks of a video: export the task anew as 'CVAT for images 1.1', with its images")
    return documents


def _images_by_split(root: Path, documents: dict[Path, Any]) -> dict[str, list[tuple[Path, Any]]]:
    """Return the images of each split: by the files, or by the subsets of a project."""
    by_split = {
        split: [(file, image) for file in files for image in documents[file].iter("image")] for split, files in _files(root).items()
    }
    if "" not in by_split:
        return by_split
    of_subsets: dict[str, list[tuple[Path, Any]]] = {}
    for file, image in by_split.pop(""):
        of_subsets.setdefault(canonical_split(image.get("subset", "")) or "", []).append((file, image))
    return by_split | known_splits(of_subsets)


def _classes(root: Path, documents: dict[Path, Any], options: ReadingOptions) -> AnnotatedClasses:
    """Return the classes of the files' lists of labels, or without such the labels of the shapes, sorted."""
    colours: dict[str, tuple[int, int, int] | None] = {}
    for document in documents.values():
        for label in document.findall("./meta/*/labels/label"):
            if (name := (label.findtext("name") or "").strip()) and label.findtext("type") not in _WITHOUT_AREA:
                colours.setdefault(name, _colour(label.findtext("color") or ""))
    if colours:
        palette = [colour for colour in colours.values() if colour is not None]
        palette = palette if len(palette) == len(colours) else []
        return annotated_classes(
            root, list(colours), "the labels of the task", palette=palette, ignored=(IGNORED_NAME,), rest_ignored=options.rest_ignored
        )
    names = {shape.get("label") for document in documents.values() for image in document.iter("image") for shape in image}
    return annotated_classes(
        root, sorted(name for name in names if name), "the shapes, sorted", ignored=(IGNORED_NAME,), rest_ignored=options.rest_ignored
    )


def _colour(text: str) -> tuple[int, int, int] | None:
    try:
        return (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)) if text.startswith("#") and len(text) == 7 else None
    except ValueError:
        return None


def _drawing(file: Path, image: Any, classes: AnnotatedClasses) -> Drawing:
    number = 0
    left_out = Counter[str]()
    shapes: list[tuple[float, Shape]] = []
    try:
        size = size_of(image.get("height"), image.get("width"))
        for number, shape in enumerate(image, 1):  # noqa: B007 - for the error
            if shape.tag in _WITHOUT_AREA:
                left_out[f"shapes of the type {shape.tag}, which have no area, were left out"] += 1
                continue
            name = name_of(shape.get("label")).strip()
            if name not in classes.numbers and name != IGNORED_NAME:
                raise ValueError(f"its label is '{name}', which is not among the labels of the task")
            shapes.append(
                (number_of(shape.get("z_order", "0"), "z_order"), shape_of(name, _outline(shape), classes, shape.get("group_id")))
            )
    except ValueError as error:
        raise DataError(f"{file}: image {literal(image.get('name'), 60)}, shape {number}: {error}") from None
    shapes.sort(key=lambda shape: shape[0])
    return Drawing([shape for _, shape in shapes], size, classes.background, _ORDER, left_out=left_out)


def _outline(shape: Any) -> Outline:
    def number(name: str) -> float:
        return number_of(shape.get(name), name)

    if shape.tag == "polygon":
        text = shape.get("points", "")
        try:
            points = [float(part) for pair in text.split(";") for part in pair.split(",", 1)]
        except ValueError:
            raise ValueError(f"a polygon has the points {literal(text, 60)}, expected x,y;x,y;…") from None
        return Polygons(((array("d", points),),))
    if shape.tag == "box":
        return box(number("xtl"), number("ytl"), number("xbr"), number("ybr"), angle=number_of(shape.get("rotation", "0"), "rotation"))
    if shape.tag == "ellipse":
        return Ellipse(number("cx"), number("cy"), number("rx"), number("ry"), number_of(shape.get("rotation", "0"), "rotation"))
    if shape.tag == "mask":
        top, left, height, width = (round(number(name)) for name in ("top", "left", "height", "width"))
        return CvatRuns(shape.get("rle", ""), top, left, height, width)
    raise ValueError(f"found <{shape.tag[:40]}>, expected polygon, mask, box or ellipse")


READER = Reader(
    "CVAT",
    "CVAT for images (XML)",
    recognise=lambda path: is_of_format(path, "CVAT", _files),
    splits=lambda path: splits_of(_images_by_split(Path(path), _documents(Path(path)))),
    open=lambda path, split, **options: open_cvat(Path(path), split, reading_options(**options)),
    options=DRAWN,
)
