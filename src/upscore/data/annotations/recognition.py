"""Recognise annotation files by their first and last kilobytes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS, subfolders
from upscore.data.splits import canonical_split

__all__ = ["annotation_folders", "annotation_format", "annotation_formats", "files_of_format", "files_with_suffix", "is_of_format"]

_BYTES_READ = 8192
_MAX_FILES = 100_000
_FILES_READ = 16  # of each folder

_JSON_WORDS = (  # the first format whose words all occur counts
    ("VGG Image Annotator", ('"_via_img_metadata"|"shape_attributes"',)),
    ("Label Studio", ('"(polygonlabels|brushlabels|keypointlabels|rectanglelabels|ellipselabels|original_width)"',)),
    ("Label Studio", ('"data"\\s*:', '"(annotations|predictions)"\\s*:', '"result"\\s*:')),
    ("Supervisely", ('"(classTitle|geometryType|geometry_type)"',)),
    ("Supervisely", ('"size"', '"objects"', '"height"')),
    ("labelme", ('"shapes"', '"(imagePath|imageData|shape_type|flags)"')),
    ("nnU-Net", ('"(channel_names|numTraining|file_ending)"', '"labels"')),
    ("GeoJSON", ('"FeatureCollection"|"type"\\s*:\\s*"Feature"',)),
    ("COCO panoptic", ('"segments_info"',)),
    ("COCO", ('"images"', '"(annotations|categories)"')),
    ("COCO", ('"image_id"', '"(segmentation|category_id)"')),
    ("Cityscapes", ('"imgHeight"', '"objects"')),
)
_XML_WORDS = (("CVAT", ("<annotations>",)), ("PASCAL VOC XML", ("<annotation>", "<(object|bndbox)>")))
_NUMBER = r"[ \t]+(?:[01](?:\.\d*)?|\.\d+)(?:[eE]-?\d+)?"  # a fraction of the image's width or height
_BOX = re.compile(rf"\d{{1,4}}(?:{_NUMBER}){{4,5}}")
_POLYGON = re.compile(rf"\d{{1,4}}(?:{_NUMBER}){{6,}}")


def annotation_format(file: Path) -> str:
    """Return the name of an annotation file's format, ``""`` where it is none that is known or cannot be read.

    ``"YOLO polygons"`` and ``"YOLO boxes"`` are text files, ``"CVAT"`` and ``"PASCAL VOC XML"`` XML, the others JSON.
    """
    suffix = file.suffix.lower()
    if suffix not in (".json", ".geojson", ".xml", ".txt"):
        return ""
    try:
        if not os.path.isfile(file):
            return ""
        with file.open("rb") as opened:
            data = opened.read(_BYTES_READ)
            if len(data) == _BYTES_READ:
                opened.seek(max(_BYTES_READ, file.stat().st_size - _BYTES_READ))
                data += opened.read(_BYTES_READ)
    except (OSError, ValueError):
        return ""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = data.decode(encoding, "replace")
    if suffix == ".txt":
        return _format_of_text(text, len(data))
    words = _XML_WORDS if suffix == ".xml" else _JSON_WORDS
    return next((name for name, patterns in words if all(re.search(pattern, text) for pattern in patterns)), "")


def _format_of_text(text: str, size: int) -> str:
    lines = [line.strip() for line in text[:_BYTES_READ].splitlines()[:3] if line.strip()]
    if size >= _BYTES_READ and len(lines) == 1:  # it continues beyond what was read
        lines = [lines[0].rpartition(" ")[0]]
    if lines and all(_POLYGON.fullmatch(line) or _BOX.fullmatch(line) for line in lines):
        return "YOLO polygons" if any(_POLYGON.fullmatch(line) for line in lines) else "YOLO boxes"
    return ""


def annotation_folders(root: Path) -> list[Path]:
    """Return the folders of a dataset in which annotation files may lie: its own, those of annotations and those of splits, two deep."""
    folders = [root]
    for name in subfolders(root)[:1000]:
        if _may_hold_annotations(name):
            folders.append(root / name)
            folders += [root / name / inner for inner in subfolders(root / name)[:1000] if _may_hold_annotations(inner)]
    return folders


def _may_hold_annotations(name: str) -> bool:
    lower = name.lower()
    return (
        lower in MASK_FOLDERS
        or lower in IMAGE_FOLDERS
        or lower in ("json", "jsons")
        or canonical_split(re.sub(r"\d+$", "", lower)) is not None
    )


def files_with_suffix(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder, not of those in it, whose names end so, sorted; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            shown = islice((entry.name for entry in entries if not entry.name.startswith(".")), _MAX_FILES)
            return [folder / name for name in sorted(shown) if name.lower().endswith(suffixes)]
    except OSError:
        return []


def files_of_format(root: Path, name: str, suffixes: tuple[str, ...] = (".json",)) -> list[Path]:
    """Return the files of a format in the folders of a dataset where annotations may lie.

    Of a folder with many files the first are read: where one of them has the format, all files with its suffix are returned that have it or
    were not read.
    """
    found: list[Path] = []
    for folder in annotation_folders(root):
        files = files_with_suffix(folder, suffixes)
        read = {file: annotation_format(file) for file in files[:_FILES_READ]}
        if name in read.values():
            found += [file for file in files if read.get(file, name) == name]
    return found


def is_of_format(path: str, name: str, files: Callable[[Path], object]) -> bool:
    """Return whether a path is a file of a format, or a folder in which ``files`` finds some."""
    return bool(files(Path(path))) if os.path.isdir(path) else annotation_format(Path(path)) == name


def annotation_formats(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the first annotation files of each folder of a dataset, with their formats."""
    for folder in annotation_folders(root):
        for file in files_with_suffix(folder, (".json", ".geojson", ".xml", ".txt"))[:_FILES_READ]:
            if found := annotation_format(file):
                yield file, found
