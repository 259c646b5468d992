"""COCO's panoptic annotations: PNGs whose colours are numbers of segments, and a JSON file that gives each segment its category.

::

    data/
    ├── annotations/panoptic_val2017.json
    ├── annotations/panoptic_val2017/000000000139.png
    └── val2017/000000000139.jpg

The number of a segment is R + 256 G + 65536 B; 0 is ignored, and so are segments that are a crowd.

Kirillov et al., "Panoptic Segmentation", CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from upscore.data.annotations.annotated_files import FoundImages, files_by_split, open_one_file, read_json, splits_of
from upscore.data.annotations.classes import AnnotatedClasses, annotated_classes
from upscore.data.annotations.drawing import Drawing
from upscore.data.annotations.fields import items_of, name_of, size_of
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import decode, open_header
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.errors import DataError
from upscore.text import listed, literal
from upscore.types import IGNORE

__all__ = ["READER", "open_coco_panoptic"]


def open_coco_panoptic(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of COCO's panoptic annotations: a JSON file, or a folder with such.

    Raises
    ------
    DataError
        The file is no such JSON, a segment has no category, no image that it names is there; or, where a mask is read, its PNG is
        missing or shows a segment that the JSON lacks.
    """
    return open_one_file(root, split, _files(root), _read, "panoptic annotations", options.split_by)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "COCO panoptic")
    return files_by_split(root, files, by_name=True)


def _read(file: Path, root: Path, warnings: list[str]) -> tuple[list[Pair], AnnotatedClasses]:
    content = read_json(file, "COCO's panoptic annotations")
    number = 0
    what = "file"
    try:
        if not isinstance(content, dict):
            raise ValueError("found no object with images, annotations and categories")
        what = "category"
        ids: dict[Any, str] = {}
        stuff: set[int] = set()
        palette = []
        for number, category in enumerate(items_of(content.get("categories"), "categories"), 1):  # noqa: B007 - for the error
            if type(category.get("id")) is not int:
                raise ValueError(f"its id is {literal(category.get('id'), 40)}, expected a number")
            ids[category["id"]] = name_of(category.get("name"), "name")
            palette.append(category.get("color"))
            if category.get("isthing") == 0:
                stuff.add(category["id"])
        palette = [
            tuple(colour)
            for colour in palette
            if isinstance(colour, list) and len(colour) == 3 and all(type(part) is int for part in colour)
        ]
        source = f"the order of the categories in {file.name}, whose ids are {listed(list(ids), 8)}"
        classes = annotated_classes(
            file, list(ids.values()), source, palette=palette if len(palette) == len(ids) else (), rest_ignored=True
        )
        what, number = "image", 0
        images = {_known_id(image.get("id")): image for number, image in enumerate(items_of(content.get("images"), "images"), 1)}
        what, number = "annotation", 0
        found = FoundImages(root, _image_folders(file, root))
        pairs = []
        for number, annotation in enumerate(items_of(content.get("annotations"), "annotations"), 1):  # noqa: B007 - for the error
            image = images.get(_known_id(annotation.get("image_id")))
            if image is None:
                raise ValueError(f"its image_id is {literal(annotation.get('image_id'), 40)}, which no image has")
            labels, objects = dict[int, int](), set[int]()
            for segment in items_of(annotation.get("segments_info"), "segments_info"):
                category, segment_id = segment.get("category_id"), segment.get("id")
                if type(category) is not int or category not in ids or type(segment_id) is not int or not 0 < segment_id < 2**24:
                    raise ValueError(
                        f"a segment has the id {literal(segment_id, 40)} and the category {literal(category, 40)}, which is none"
                    )
                labels[segment_id] = IGNORE if segment.get("iscrowd") else classes.numbers[ids[category]]
                if not segment.get("iscrowd") and category not in stuff:
                    objects.add(segment_id)
            png = _png(file, name_of(annotation.get("file_name"), "file_name"))
            if (entry := found.add(file, image.get("file_name"))) is not None:
                pairs.append(Pair(*entry, png, drawing=_Segments(png, labels, objects, size_of(image.get("height"), image.get("width")))))
    except ValueError as error:
        raise DataError(f"{file}: {f'{what} {number}: ' if number else ''}{error}") from None
    found.check(file, warnings)
    return pairs, classes


def _known_id(value: Any) -> Any:
    if not isinstance(value, int | str):
        raise ValueError(f"its id is {literal(value, 40)}, expected a number or a text")
    return value


def _png(file: Path, name: str) -> Path:
    """Return where a PNG should be: in the folder of the JSON's name, or beside the JSON."""
    if "\0" in name or ".." in Path(name).parts or Path(name).is_absolute():
        raise ValueError(f"its file_name is {literal(name, 60)}, expected the name of a PNG")
    folders = [file.with_suffix(""), file.parent, file.parent.parent / file.stem, file.parent / "panoptic"]
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)


def _image_folders(file: Path, root: Path) -> list[Path]:
    """Return where images may lie."""
    folder = root if root.is_dir() else file.parent
    near = [folder / "images", file.parent, file.parent.parent, file.parent.parent / "images"]
    return near + [start / word for word in file.stem.split("_") for start in (folder, folder / "images", file.parent.parent)]


class _Segments:
    """The segments of one image, read from its PNG when they are drawn."""

    __slots__ = ("file", "labels", "objects", "size")

    def __init__(self, file: Path, labels: dict[int, int], objects: set[int], size: tuple[int, int] | None) -> None:
        self.file, self.labels, self.objects, self.size = file, labels, objects, size

    def __call__(self) -> Drawing:
        encoded = EncodedImage.read(self.file)
        header = open_header(encoded)
        if header.image.mode not in ("RGB", "RGBA") or header.image.format != "PNG":
            raise encoded.error(f"a {header.image.format} of {header.image.mode} where the colours of segments are expected, an RGB PNG")
        try:
            pixels = np.asarray(decode(header).convert("RGB"))
        except Exception as error:  # decoders raise nearly anything
            raise encoded.damaged_image_error(error) from error
        numbers = pixels[..., 0] | pixels[..., 1].astype(np.int32) << 8 | pixels[..., 2].astype(np.int32) << 16
        found, inverse = np.unique(numbers, return_inverse=True)
        if unknown := [int(number) for number in found if number and int(number) not in self.labels]:
            raise encoded.error(f"it shows the segments {listed(unknown)}, which the JSON does not list: use the PNGs that belong to it")
        labels = np.array([self.labels.get(int(number), IGNORE) for number in found], np.uint8)
        label_map = labels[inverse.reshape(numbers.shape)]
        if self.size not in (None, label_map.shape):
            raise encoded.error(
                f"the PNG is {label_map.shape}, and the JSON states {self.size} as height and width: use the PNGs that belong to it"
            )
        left_out = (
            {"pixels of no segment, or of a crowd, are ignored": count} if (count := int(np.count_nonzero(label_map == IGNORE))) else {}
        )
        objects = np.array([number if int(number) in self.objects else 0 for number in found], np.int32)
        instances = objects[inverse.reshape(numbers.shape)]
        return Drawing((), (label_map.shape[0], label_map.shape[1]), label_map=label_map, instances=instances, left_out=left_out)


READER = Reader(
    "COCO panoptic",
    "COCO panoptic (JSON with PNGs)",
    recognise=lambda path: is_of_format(path, "COCO panoptic", _files),
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_coco_panoptic(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
