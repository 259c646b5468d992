"""Name annotations that are found where masks were expected.

Those that can be opened are named with their file, the others with a way to masks. Names of files and folders are examined first, then the
first and last kilobytes of a few files.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from upscore.data.annotations.recognition import annotation_format

__all__ = ["name_annotations"]

_MAX_ENTRIES = 20_000
_MAX_DEPTH = 4
_FILES_READ = 4  # of each kind of file in a folder
_MAX_FILES_READ = 1000
_SUFFIXES = (".json", ".geojson", ".xml", ".txt")

_MASKS = "a mask is a PNG of its image's size and name whose pixels are class numbers"
_STUDIO_PNG = (
    "Label Studio's PNG export, one file for each region (task-1-annotation-2-by-3-tag-car-0.png): export the project as JSON, which can "
    "be opened beside its images"
)
_NOT_READ = {
    "YOLO boxes": "YOLO box labels (.txt): a box does not give the pixels of its object, so masks cannot be made of them",
    "PASCAL VOC XML": (
        "PASCAL VOC's XML annotations, which hold boxes: masks would be in SegmentationClass, and boxes cannot be turned into them"
    ),
}
_BY_PATH = ((re.compile(r"(^|/)task-\d+-annotation-\d+-by-\d+-tag-[^/]*\.png$"), _STUDIO_PNG),)


def name_annotations(root: Path) -> str:
    """Return which annotations other than masks are in a file or folder, and what can be done with them; "" if none are known."""
    read: Counter[tuple[str, str]] = Counter()
    for path, relative in islice(_entries(root), _MAX_ENTRIES):
        for pattern, description in _BY_PATH:
            if pattern.search(relative):
                return description
        suffix = path.suffix.lower()
        if suffix in _SUFFIXES:
            where = (os.path.dirname(relative), suffix)
            if read[where] < _FILES_READ and read.total() < _MAX_FILES_READ:
                read[where] += 1
                if name := annotation_format(path):
                    return (
                        _NOT_READ.get(name) or f"annotations of the format {name} ({relative}): to use them, open that file or its folder"
                    )
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
