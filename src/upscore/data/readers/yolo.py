"""YOLO's polygons: a text file for each image, in ``labels`` where the image is in ``images``, and the names in ``data.yaml``.

::

    data/
    ├── data.yaml                  train: images/train, val: images/val, names: {0: car}; or classes.txt, one name a line
    ├── images/train/a.jpg
    └── labels/train/a.txt         0 0.2 0.2 0.6 0.2 0.6 0.6: class, and x and y of each point as fractions of the upright image

A line of five numbers is a box, which does not give the pixels of its object, and is left out. As Ultralytics does it, smaller objects
are drawn over larger ones: by their area, or, where they are drawn as by the tool, by the pixels drawn. Polygons have no holes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from upscore.data.annotations.annotated_files import FoundImages, files_by_split, open_annotated, pairs_of_split, splits_of
from upscore.data.annotations.classes import AnnotatedClasses, annotated_classes
from upscore.data.annotations.drawing import FEWER_PIXELS_ON_TOP, SMALL_ON_TOP, Drawing, Shape
from upscore.data.annotations.outlines import Fractions
from upscore.data.annotations.recognition import annotation_format, files_with_suffix
from upscore.data.annotations.tool_outlines import OpenCVFractions
from upscore.data.class_names import find_class_names
from upscore.data.description_files import YAML_SUFFIXES, describing_files, find_description
from upscore.data.folder_roles import subfolders
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.image_lists import read_list
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN_BY_TOOL, ReadingOptions, reading_options
from upscore.data.schema import Schema, read_schema
from upscore.data.splits import choose_split
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import literal

__all__ = ["READER", "open_yolo"]

_MAX_BYTES = 2**27
_FILES_READ = 16
_CLASS_FILES = ("classes.txt", "obj.names", "names.txt")


def open_yolo(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of YOLO's polygons: a ``data.yaml``, or a folder with one or with ``classes.txt``.

    Raises
    ------
    DataError
        The description is wrong, a split is missing or empty; or, where a mask is drawn, a line is malformed.
    """
    warnings = ["the masks are drawn from YOLO's polygons in labels/"]
    schema = _schema(root)
    if schema is not None:
        warnings += schema.warnings
        classes = annotated_classes(schema.file, schema.labels.names, schema.file.name, rest_ignored=options.rest_ignored)
        split = choose_split(schema.file, split, schema.splits)
        images = _images(schema, split, warnings)
        pairs = _pairs(root, images, classes, warnings, by_tool=options.by_tool)
    else:
        named = find_class_names(root, _CLASS_FILES)
        if named is None:
            raise DataError(
                f"{root}: YOLO's polygons without names: write the names of the classes 0, 1, 2, … into {root / 'classes.txt'}, one a line"
            )
        classes = annotated_classes(root, named.labels.names, named.file.name, rest_ignored=options.rest_ignored)

        def pair(chosen: Sequence[Path]) -> list[Pair]:
            return _pairs(root, chosen, classes, warnings, by_tool=options.by_tool)

        split, pairs = pairs_of_split(root, split, _image_files(root), pair, warnings, options.split_by)
    return open_annotated(root, split, pairs, classes, warnings)


def _splits(root: Path) -> tuple[str, ...]:
    schema = _schema(root)
    return tuple(schema.splits) if schema is not None else splits_of(_image_files(root))


def _schema(root: Path) -> Schema | None:
    return read_schema(find_description(str(root))[0]) if not root.is_dir() or describing_files(root) else None


def _images(schema: Schema, split: str, warnings: list[str]) -> list[Path]:
    images: list[Path] = []
    for source in schema.splits[split]:
        path = schema.root / source
        images += (
            [line.image for line in read_list(path, schema.root, warnings)] if source.lower().endswith(".txt") else list_images(path)[0]
        )
    if not images:
        raise DataError(f"{schema.file}: {split} holds no image, expected at least one")
    return images


def _image_files(root: Path) -> dict[str, list[Path]]:
    return files_by_split(root, list_images(root)[0], by_name=False)


def _label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder called images becomes labels, or the file beside the image."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{image.stem}.txt")


def _pairs(root: Path, images: Sequence[Path], classes: AnnotatedClasses, warnings: list[str], *, by_tool: bool) -> list[Pair]:
    found = FoundImages(root)
    pairs, without = [], 0
    for image in images:
        file = _label_file(image)
        exists = os.path.isfile(file)
        without += not exists
        pairs.append(Pair(found.add_path(file, image), image, file, drawing=_Lines(file if exists else None, classes, by_tool=by_tool)))
    if without:
        warnings.append(f"{without} of {len(pairs)} images have no label file, and are background as YOLO takes them")
    return pairs


class _Lines:
    """The polygons of one image, read from its label file when they are drawn."""

    __slots__ = ("by_tool", "classes", "file")

    def __init__(self, file: Path | None, classes: AnnotatedClasses, *, by_tool: bool) -> None:
        self.file, self.classes, self.by_tool = file, classes, by_tool

    def __call__(self) -> Drawing:
        shapes: list[Shape] = []
        left_out = Counter[str]()
        text = "" if self.file is None else read_text(self.file, max_bytes=_MAX_BYTES, what="YOLO's polygons")
        count = len(self.classes.labels) - self.classes.added
        for position, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words:
                continue
            try:
                if not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 6):
                    raise ValueError
                label, points = int(words[0]), [float(word) for word in words[1:]]
            except ValueError:
                raise DataError(
                    f"{self.file}: line {position} is {literal(line, 60)}, expected a class and the fractions of points"
                ) from None
            if label >= count:
                raise DataError(f"{self.file}: line {position} has the class {label}, expected 0 to {count - 1} for the {count} names")
            if len(points) < 6:
                left_out["boxes, which do not give the pixels of their objects, were left out"] += 1
            else:
                outline = OpenCVFractions(points) if self.by_tool else Fractions(points)
                shapes.append(Shape(label + self.classes.added, outline))
        order = FEWER_PIXELS_ON_TOP if self.by_tool else SMALL_ON_TOP
        return Drawing(shapes, None, self.classes.background, order, left_out=left_out)


def _recognise(path: str) -> bool:
    """Whether the label files of the first images hold polygons, and there are no masks."""
    root = Path(path)
    if not os.path.isdir(path) and not (path.lower().endswith(YAML_SUFFIXES) and os.path.isfile(path)):
        return False
    try:
        schema = _schema(root)
        if schema is not None and (schema.masks_dir_given or (schema.root / schema.masks_dir).is_dir()):
            return False
        files = _some_label_files(root, schema)
    except DataError:  # the reader of dataset.yaml says what is wrong with it
        return False
    return any(annotation_format(file) == "YOLO polygons" for file in files)


def _some_label_files(root: Path, schema: Schema | None) -> list[Path]:
    if schema is None:
        folder = root / "labels"
        folders = [folder, *(folder / name for name in subfolders(folder))] if not (root / "masks").is_dir() else []
        return [file for each in folders for file in files_with_suffix(each, (".txt",))[:_FILES_READ]]
    files = []
    for split in schema.splits:
        source = schema.root / schema.splits[split][0]
        images = (
            [line.image for line in read_list(source, schema.root, [])]
            if source.suffix.lower() == ".txt"
            else files_with_suffix(source, IMAGE_SUFFIXES)
        )
        labelled = [file for image in images if os.path.isfile(file := _label_file(image)) and os.path.getsize(file)]
        files += labelled[:_FILES_READ]
    return files


READER = Reader(
    "YOLO polygons",
    "YOLO polygons (images/, labels/)",
    recognise=_recognise,
    splits=lambda path: _splits(Path(path)),
    open=lambda path, split, **options: open_yolo(Path(path), split, reading_options(**options)),
    options=DRAWN_BY_TOOL,
)
