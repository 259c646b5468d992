"""COCO's annotations: instances and stuff, as polygons and run lengths in one JSON file for each split.

::

    data/
    ├── annotations/instances_train2017.json     or train.json, train/_annotations.coco.json (Roboflow), or one file alone
    └── train2017/000000000009.jpg               or images/, images/train2017/, or beside the JSON

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. The parts of an object are united: COCO's polygons have no holes.
Which of two objects is on top is not defined; here it is the smaller one. Pixels of a crowd (``iscrowd``) are ignored.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

from upscore.data.annotations.annotated_files import FoundImages, files_by_split, open_one_file, read_json, splits_of
from upscore.data.annotations.classes import AnnotatedClasses, annotated_classes
from upscore.data.annotations.drawing import SMALL_ON_TOP, Drawing, Shape
from upscore.data.annotations.outlines import CocoRuns, Outline, Polygons
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN, ReadingOptions, reading_options
from upscore.documents import collector_paused
from upscore.errors import DataError
from upscore.text import listed, literal, visible
from upscore.types import IGNORE

__all__ = ["READER", "coco_splits", "open_coco"]

_WHAT = "COCO annotations"
_OTHERS = ("captions", "keypoints")  # files of COCO that hold no segmentation


def coco_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that have a file, or train and val where the images are divided."""
    return splits_of(_files(root))


def open_coco(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of COCO annotations: a JSON file, or a folder with such.

    Raises
    ------
    DataError
        The file is no such JSON, an annotation in it is malformed, it holds boxes alone, or no image that it names is there.
    """
    return open_one_file(
        root, split, _files(root), lambda file, root, warnings: _read(file, root, warnings, options), _WHAT, options.split_by
    )


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = [file for file in files_of_format(root, "COCO") if not any(word in file.name for word in _OTHERS)]
    by_split = files_by_split(root, files, by_name=True)
    for split, several in by_split.items():
        if instances := [file for file in several if "instances" in file.name.lower()]:
            by_split[split] = instances
    return by_split


@collector_paused()
def _read(file: Path, root: Path, warnings: list[str], options: ReadingOptions) -> tuple[list[Pair], AnnotatedClasses]:
    content = read_json(file, _WHAT)
    images, categories, annotations = (_objects(file, content, key) for key in ("images", "categories", "annotations"))
    rest_ignored = "stuff" in file.name.lower() if options.rest_ignored is None else options.rest_ignored
    if categories and all(_get(annotation, "category_id") != _get(categories[0], "id") for annotation in annotations):
        categories = _without_parent(categories, warnings)
    classes, class_of = _classes(file, categories, rest_ignored)
    shapes_of: dict[Any, list[tuple[int, bool, Any]]] = {}
    try:
        for image in images:
            shapes_of[image["id"]] = []
    except (KeyError, TypeError):
        raise DataError(f"{file}: an image has the id {literal(_get(image, 'id'), 40)}, expected a number or a text, each once") from None
    boxes = _collect(file, annotations, class_of, shapes_of)
    if boxes == len(annotations) > 0:
        raise DataError(f"{file}: its {boxes} annotations hold boxes and no segmentation: a box does not give the pixels of its object")
    if boxes:
        warnings.append(f"{boxes} of {len(annotations)} annotations in {file.name} have no segmentation and were left out")
    found = FoundImages(root, _image_folders(file, root))
    pairs, empty = [], 0
    for image in images:
        entry = found.add(file, _get(image, "file_name"))
        if entry is None:
            continue
        entries = shapes_of[image["id"]]
        empty += not entries
        pairs.append(Pair(*entry, file, drawing=_Shapes(entries, _size(file, image), classes.background, options.crowd == "ignore")))
    found.check(file, warnings)
    if empty:
        warnings.append(f"{empty} of {len(pairs)} images in {file.name} have no annotation")
    return pairs, classes


def _image_folders(file: Path, root: Path) -> list[Path]:
    """Return where images may lie: beside the file, in images/, and in the folders of those that bear the split's name."""
    folder = root if root.is_dir() else file.parent
    words = [word for word in file.stem.split("_") if word]
    near = [file.parent, folder / "images", file.parent / "images", file.parent.parent, file.parent.parent / "images"]
    return near + [start / word for word in words for start in (folder, folder / "images", file.parent.parent)]


def _objects(file: Path, content: Any, key: str) -> list[Any]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{file}: has no list '{key}', expected images, categories and annotations, as COCO writes them")
    return found


def _without_parent(categories: list[Any], warnings: list[str]) -> list[Any]:
    """Leave out the category that Roboflow writes above the others, which no annotation has."""
    name = _get(categories[0], "name")
    if _get(categories[0], "id") != 0 or all(_get(category, "supercategory") != name for category in categories[1:]):
        return categories
    warnings.append(f"the category '{name}' (id 0), which stands above the others and which no annotation has, is no class")
    return categories[1:]


def _classes(file: Path, categories: list[Any], rest_ignored: bool) -> tuple[AnnotatedClasses, dict[Any, int]]:
    ids, names, palette = [], [], []
    for category in categories:
        number, name = _get(category, "id"), _get(category, "name")
        if not isinstance(number, int | str) or not isinstance(name, str) or number in ids:
            raise DataError(f"{file}: the category {literal(category, 60)} has no id of its own and name")
        ids.append(number)
        names.append(name)
        palette.append(_get(category, "color"))
    if not all(_is_colour(colour) for colour in palette):
        palette = []
    source = f"the order of the categories in {file.name}, whose ids are {listed(ids, 8)}"
    classes = annotated_classes(file, names, source, palette=[tuple(colour) for colour in palette], rest_ignored=rest_ignored)
    return classes, {number: classes.numbers[name] for number, name in zip(ids, names, strict=True)}


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


def _collect(file: Path, annotations: list[Any], class_of: dict[Any, int], shapes_of: dict[Any, list[tuple[int, bool, Any]]]) -> int:
    """Add each annotation to those of its image, its numbers packed; return how many have no segmentation."""
    boxes = 0
    for annotation in annotations:
        try:
            entries = shapes_of[annotation["image_id"]]
            label = class_of[annotation["category_id"]]
            segmentation = annotation.get("segmentation")
            if not segmentation:
                boxes += 1
                continue
            if type(segmentation) is list:
                packed: Any = [array("d", ring) for ring in segmentation]
            else:
                height, width = segmentation["size"]
                packed = (segmentation["counts"], height, width)
            entries.append((label, bool(annotation.get("iscrowd")), packed))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            raise DataError(f"{file}: {_why_malformed(annotation, class_of, shapes_of)}") from None
    return boxes


def _why_malformed(annotation: Any, class_of: dict[Any, int], shapes_of: dict[Any, Any]) -> str:
    if not isinstance(annotation, dict):
        return f"found {literal(annotation, 40)} among the annotations, expected objects"
    name = f"annotation {literal(annotation.get('id'), 40)}"
    for key, known, what in (("image_id", shapes_of, "images"), ("category_id", class_of, "categories")):
        value = annotation.get(key)
        if isinstance(value, list | dict) or value not in known:
            return f"{name} has the {key} {literal(value, 40)}, which is none of the {len(known)} {what}"
    return f"{name} has the segmentation {literal(annotation.get('segmentation'), 60)}, expected lists of numbers, or counts and size"


def _size(file: Path, image: Any) -> tuple[int, int] | None:
    height, width = _get(image, "height"), _get(image, "width")
    if height is None and width is None:
        return None
    if type(height) is not int or type(width) is not int:
        name = visible(str(_get(image, "file_name")))
        raise DataError(f"{file}: {name} has the height {literal(height, 40)} and the width {literal(width, 40)}, expected pixels")
    return height, width


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


class _Shapes:
    """The annotations of one image: (class, whether it is a crowd, packed segmentation) of each."""

    __slots__ = ("background", "crowd_ignored", "entries", "size")

    def __init__(self, entries: list[tuple[int, bool, Any]], size: tuple[int, int] | None, background: int, crowd_ignored: bool) -> None:
        self.entries, self.size, self.background, self.crowd_ignored = entries, size, background, crowd_ignored

    def __call__(self) -> Drawing:
        shapes = []
        for label, crowd, packed in self.entries:
            outline: Outline = Polygons([(ring,) for ring in packed]) if isinstance(packed, list) else CocoRuns(*packed)
            what = "of crowd regions" if crowd else ""
            shapes.append(Shape(IGNORE if crowd and self.crowd_ignored else label, outline, what, is_object=not crowd))
        return Drawing(shapes, self.size, self.background, SMALL_ON_TOP)


READER = Reader(
    "COCO",
    "COCO (JSON)",
    recognise=lambda path: is_of_format(path, "COCO", _files),
    splits=lambda path: coco_splits(Path(path)),
    open=lambda path, split, **options: open_coco(Path(path), split, reading_options(**options)),
    options=(*DRAWN, "crowd"),
)
