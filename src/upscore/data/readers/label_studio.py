"""Label Studio's export, JSON or JSON-MIN: polygons, brushes, rectangles and ellipses of each task.

::

    data/
    ├── project-3-at-2026-01-01.json
    ├── images/0f1e2d3c-a.jpg          or without what Label Studio puts before an uploaded file's name
    └── classes.txt                    optional: the order of the classes, one name a line

Coordinates are percentages of the image's size. Shapes are drawn in the order of the file, the later ones on top. Of several annotations
of a task, by different people, the first that was not cancelled counts, or the one that is asked for; predictions are no annotations.
JSON-MIN has an entry for each annotation, and those of one task have its id. Shapes called ``__ignore__`` are ignored.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from upscore.data.annotations.annotated_files import FoundImages, Same, files_by_split, open_annotated, pairs_of_split, read_json, splits_of
from upscore.data.annotations.classes import listed_classes, shape_of
from upscore.data.annotations.drawing import Drawing
from upscore.data.annotations.fields import flat_points, items_of, name_of, number_of, size_of
from upscore.data.annotations.outlines import Ellipse, LabelStudioRuns, Outline, Polygons, box
from upscore.data.annotations.recognition import files_of_format, is_of_format
from upscore.data.annotations.several_annotations import AnnotationChoice
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DRAWN, ReadingOptions, reading_options
from upscore.errors import DataError
from upscore.text import literal

__all__ = ["READER", "open_label_studio"]

_WHAT = "Label Studio's annotations"
_KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
_WITHOUT_AREA = ("keypointlabels", "vectorlabels")
_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file

_ABOUT_MIN = ("annotator", "annotation_id", "created_at", "updated_at")  # keys of JSON-MIN that hold no data

Task = tuple[str, tuple[int, int] | None, list[tuple[str, Outline]], Counter[str]]


def open_label_studio(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of Label Studio's export: a JSON file, or a folder with such.

    Raises
    ------
    DataError
        The file is no such JSON, a region in it is malformed, or no image that it names is there.
    """
    by_split = _files(root)
    warnings: list[str] = []
    people: list[str] = []
    read = {file: _read(file, options.annotation, warnings, people) for files in by_split.values() for file in files}
    _check_people(root, list(read.values()), options.annotation, people)
    names = sorted({name for tasks in read.values() for _, _, shapes, _ in tasks for name, _ in shapes})
    classes = listed_classes(root, names, "the regions, sorted", ("classes.txt",), rest_ignored=options.rest_ignored)

    def pair(files: Sequence[Path]) -> list[Pair]:
        with_tasks = [file for file in files if read[file]]
        _check_people(root, with_tasks, options.annotation, people)
        found = FoundImages(root, [file.parent / "images" for file in files])
        pairs = []
        for file in with_tasks or files:
            for url, size, shapes, left_out in read[file]:
                names = _image_names(url)
                if (image := found.find(*names, Path(names[-1]).stem)) is not None:
                    drawn = [shape_of(name, outline, classes) for name, outline in shapes]
                    drawing = Drawing(drawn, size, classes.background, left_out=left_out)
                    pairs.append(Pair(found.add_path(file, image), image, file, drawing=Same(drawing)))
            found.check(file, warnings)
        return pairs

    split, pairs = pairs_of_split(root, split, by_split, pair, warnings, options.split_by)
    return open_annotated(root, split, pairs, classes, warnings)


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    files = files_of_format(root, "Label Studio")
    return files_by_split(root, files, by_name=True)


def _image_names(url: str) -> list[str]:
    """Return the names that an image may have: what follows ``?d=`` in a URL, its path, and these without the prefix of an upload."""
    parts = urlsplit(url) if "\0" not in url else urlsplit("")
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = path.replace("\\", "/").rpartition("/")[2]
    names = [path.lstrip("/"), name]
    return [*names, name[9:]] if _UPLOAD.match(name) else names


def _read(file: Path, annotation: str, warnings: list[str], people: list[str]) -> list[Task]:
    """Return the tasks of a file with the annotation of each that counts; ``people`` gets those who annotated."""
    content = read_json(file, _WHAT)
    choice = AnnotationChoice(annotation)
    tasks, without = [], 0
    number = 0
    try:
        entries = items_of(content if isinstance(content, list) else [content], "content")
        given: dict[object, tuple[int, Any, list[dict[str, Any]]]] = {}  # of each task: its entry's number, its data and annotations
        for number, entry in enumerate(entries, 1):
            if "annotations" in entry or "completions" in entry:
                found = items_of(entry.get("annotations", entry.get("completions")), "annotations")
                given[number] = number, entry.get("data"), [each for each in found if not each.get("was_cancelled")]
            else:  # JSON-MIN
                data = {key: value for key, value in entry.items() if key not in _ABOUT_MIN}
                task = (entry["id"], _first_text(data)) if type(entry.get("id")) in (int, str) else number
                results = _results_of_min(entry)
                given.setdefault(task, (number, data, []))[2].extend([] if results is None else [_annotation_of_min(entry, results)])
        for number, data, annotations in given.values():  # noqa: B007 - for the error
            chosen = choice.choose(annotations)
            without += not annotations
            if chosen is not None:
                tasks.append((_first_text(data), *_shapes(items_of(chosen.get("result", []), "result"))))
    except ValueError as error:
        raise DataError(f"{file}: task {number}: {error}") from None
    if without:
        warnings.append(f"{without} tasks in {file.name} have no annotation and were left out")
    warnings += choice.messages(file.name)
    people += [choice.people()] if choice.people() else []
    return tasks


def _check_people(root: Path, found: Sequence[Any], annotation: str, people: Sequence[str]) -> None:
    """Raise a DataError where a person is asked for who annotated nothing."""
    if annotation.startswith("annotator:") and not any(found):
        raise DataError(f"{root}: has no annotation by the {annotation}, found annotations by {'; '.join(people) or 'nobody'}")


def _annotation_of_min(entry: dict[str, Any], results: list[Any]) -> dict[str, Any]:
    return {"result": results, "completed_by": entry.get("annotator")} | {key: entry.get(key) for key in ("created_at", "updated_at")}


def _first_text(data: Any) -> str:
    """Return the image's path or URL: the value of ``image``, or else the first text that has a suffix."""
    if not isinstance(data, dict):
        raise ValueError(f"its data is {literal(data, 40)}, expected an object with the image's path")
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    for text in texts:
        if "." in text.rpartition("/")[2]:
            return text
    return name_of(texts[0] if texts else None, "image")


def _results_of_min(task: dict[str, Any]) -> list[Any] | None:
    lists = [value for value in task.values() if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)]
    results = [item for value in lists for item in value if any(kind.endswith("labels") for kind in item)]
    return results or None


def _shapes(results: Sequence[Any]) -> tuple[tuple[int, int] | None, list[tuple[str, Outline]], Counter[str]]:
    size: tuple[int, int] | None = None
    shapes: list[tuple[str, Outline]] = []
    left_out = Counter[str]()
    for result in results:
        value = result.get("value", result)
        if not isinstance(value, dict):
            raise ValueError(f"a region has the value {literal(value, 40)}, expected an object")
        kind = next((kind for kind in (*_KINDS, *_WITHOUT_AREA) if isinstance(value.get(kind), list) and value[kind]), None)
        if kind is None or kind in _WITHOUT_AREA:
            left_out[f"results of the type {literal(result.get('type', 'unknown'), 40)}, which are no labelled areas, were left out"] += 1
            continue
        stated = size_of(result.get("original_height"), result.get("original_width"))
        if stated is None or size not in (None, stated):
            raise ValueError(f"a region has the original size {stated}, expected height and width, the same for all: {size}")
        size = stated
        if result.get("image_rotation"):
            left_out["regions of images that were rotated in the tool are read as of the image that was not"] += 1
        if len(value[kind]) > 1:
            left_out["regions have several labels, of which the first counts"] += 1
        shapes.append((name_of(value[kind][0]), _outline(kind, value, *size)))
    return size, shapes, left_out


def _outline(kind: str, value: dict[str, Any], height: int, width: int) -> Outline:
    if kind == "brushlabels":
        if value.get("format", "rle") != "rle":
            raise ValueError(f"a brush has the format {literal(value['format'], 40)}, expected rle")
        runs = value.get("rle")
        try:
            return LabelStudioRuns(bytes(runs if isinstance(runs, list) else [-1]))
        except (TypeError, ValueError):
            raise ValueError(f"a brush has the rle {literal(runs, 40)}, expected a list of bytes") from None
    if kind == "polygonlabels":
        points = flat_points(value.get("points"))
        return Polygons(((array("d", [number * (width, height)[index & 1] / 100 for index, number in enumerate(points)]),),))
    x, y = number_of(value.get("x"), "x") * width / 100, number_of(value.get("y"), "y") * height / 100
    angle = number_of(value.get("rotation") or 0, "rotation")
    if kind == "ellipselabels":
        radii = [number_of(value.get(name), name) * side / 100 for name, side in (("radiusX", width), ("radiusY", height))]
        return Ellipse(x, y, radii[0], radii[1], angle)
    across, down = number_of(value.get("width"), "width") * width / 100, number_of(value.get("height"), "height") * height / 100
    return box(x, y, x + across, y + down, angle=angle, about=(x, y))


READER = Reader(
    "Label Studio",
    "Label Studio (JSON)",
    recognise=lambda path: is_of_format(path, "Label Studio", _files),
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_label_studio(Path(path), split, reading_options(**options)),
    options=(*DRAWN, "annotation"),
)
