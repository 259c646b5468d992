"""Name annotations of other kinds that are found where masks were expected.

Nothing is converted. Names of files and folders are examined first, then the first and last
kilobytes of a few files.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

__all__ = ["name_annotations"]

_MAX_ENTRIES = 20_000
_MAX_DEPTH = 4
_FILES_READ = 4  # of each kind of file in a folder
_MAX_FILES_READ = 1000
_BYTES_READ = 8192

_MASKS = "a mask is a PNG of its image's size and name whose pixels are class numbers"

_CITYSCAPES = (
    "Cityscapes (leftImg8bit, gtFine): put leftImg8bit/train and /val into images/, only the files that end in _gtFine_labelIds.png "
    "into masks/, and Ultralytics' cityscapes8.yaml, whose label_mapping gives the 19 classes, beside them as dataset.yaml with path: ."
)
_NNUNET = (
    "an nnU-Net dataset (imagesTr, labelsTr): 2-D images of one channel file each can be used after renaming imagesTr to images and "
    "labelsTr to masks, with the names of dataset.json in classes.txt, one a line"
)
_STUDIO_PNG = (
    "Label Studio's PNG export, one file for each region (task-1-annotation-2-by-3-tag-car-0.png): draw the regions of a task into one "
    f"mask; {_MASKS}"
)
_STUDIO = f"Label Studio's JSON export, with polygons or brush strokes: draw each task's regions into one mask; {_MASKS}"
_COCO = f"COCO annotations (JSON), with polygons or run lengths: draw them into masks, as pycocotools' annToMask does; {_MASKS}"
_LABELME = (
    "labelme's JSON files, with polygons: labelme's own labelme2voc.py makes masks of them, in a folder with JPEGImages, "
    "SegmentationClass and class_names.txt, which can be opened"
)
_YOLO_POLYGONS = f"YOLO polygon labels (.txt): draw them into masks; {_MASKS}"
_YOLO_BOXES = "YOLO box labels (.txt): a box does not give the pixels of its object, so masks cannot be made of them"
_CVAT = (
    "CVAT's XML annotations: export the task anew as 'Segmentation mask', a folder with JPEGImages, SegmentationClass and labelmap.txt, "
    "which can be opened"
)
_VOC_XML = "PASCAL VOC's XML annotations, which hold boxes: masks would be in SegmentationClass, and boxes cannot be turned into them"
_SUPERVISELY = f"a Supervisely project (meta.json, ann/): export it as masks, or draw its objects into masks; {_MASKS}"
_VIA = f"VGG Image Annotator's JSON, with polygons: draw its regions into masks; {_MASKS}"
_GEOJSON = f"GeoJSON polygons: draw them into masks; {_MASKS}"
_PARQUET = f"parquet files, as Hugging Face stores datasets: save their images and masks as files; {_MASKS}"

_BY_PATH = (
    (re.compile(r"(^|/)(gtFine|gtCoarse)(/|$)|_gtFine_(polygons\.json|labelIds\.png)$"), _CITYSCAPES),
    (re.compile(r"(^|/)(imagesTr|labelsTr)(/|$)"), _NNUNET),
    (re.compile(r"(^|/)task-\d+-annotation-\d+-by-\d+-tag-[^/]*\.png$"), _STUDIO_PNG),
    (re.compile(r"\.parquet$"), _PARQUET),
)
_BY_CONTENT = {  # the first whose words all occur counts
    ".json": (
        (_VIA, ('"_via_img_metadata"|"shape_attributes"',)),
        (_STUDIO, ('"(polygonlabels|brushlabels|keypointlabels|rectanglelabels|original_width)"',)),
        (_SUPERVISELY, ('"(classTitle|geometryType|geometry_type)"',)),
        (_LABELME, ('"shapes"', '"(imagePath|imageData|shape_type|flags)"')),
        (_NNUNET, ('"(channel_names|numTraining)"',)),
        (_GEOJSON, ('"FeatureCollection"',)),
        (_COCO, ('"(image_id|segments_info|category_id)"',)),
        (_COCO, ('"images"', '"(annotations|categories)"')),
        (_CITYSCAPES, ('"imgHeight"', '"objects"')),
    ),
    ".geojson": ((_GEOJSON, ('"Feature',)),),
    ".xml": ((_CVAT, ("<annotations>",)), (_VOC_XML, ("<annotation>", "<(object|bndbox)>"))),
}
_NUMBER = r"[ \t]+(?:[01](?:\.\d*)?|\.\d+)(?:[eE]-?\d+)?"  # a fraction of the image's width or height
_BOX = re.compile(rf"\d{{1,4}}(?:{_NUMBER}){{4,5}}")
_POLYGON = re.compile(rf"\d{{1,4}}(?:{_NUMBER}){{6,}}")


def name_annotations(root: Path) -> str:
    """Return which annotations other than masks are in a file or folder, and how to make masks of them; "" if none are known."""
    read: Counter[tuple[str, str]] = Counter()
    for path, relative in islice(_entries(root), _MAX_ENTRIES):
        for pattern, description in _BY_PATH:
            if pattern.search(relative):
                return description
        suffix = path.suffix.lower()
        if suffix == ".txt" or suffix in _BY_CONTENT:
            where = (os.path.dirname(relative), suffix)
            if read[where] < _FILES_READ and read.total() < _MAX_FILES_READ:
                read[where] += 1
                if description := _by_content(path, suffix):
                    return description
    return ""


def _entries(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield files and folders with their paths below ``root``, with slashes."""
    if root.is_file():
        yield root, root.name
        return
    for folder, folders, files in os.walk(root):
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if start.count("/") < _MAX_DEPTH else []
        for name in (*folders, *sorted(files)):
            if not name.startswith("."):
                yield Path(folder, name), start + name


def _by_content(path: Path, suffix: str) -> str:
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            data = file.read(_BYTES_READ)
            if len(data) == _BYTES_READ:
                file.seek(max(_BYTES_READ, path.stat().st_size - _BYTES_READ))
                data += file.read(_BYTES_READ)
    except (OSError, ValueError):
        return ""
    text = data.decode("utf-8", "replace")
    if suffix == ".txt":
        lines = [line.strip() for line in text[:_BYTES_READ].splitlines()[:3] if line.strip()]
        if len(data) >= _BYTES_READ and len(lines) == 1:  # it continues beyond what was read
            lines = [lines[0].rpartition(" ")[0]]
        if lines and all(_POLYGON.fullmatch(line) for line in lines):
            return _YOLO_POLYGONS
        return _YOLO_BOXES if lines and all(_BOX.fullmatch(line) for line in lines) else ""
    return next((description for description, words in _BY_CONTENT[suffix] if all(re.search(word, text) for word in words)), "")
