"""True boxes of images, from a CSV file.

::

    image,class,left,top,right,bottom
    street/0001.jpg,tabby,12,30,200,340

Right and bottom are exclusive. An image is named by its path, or the end of it; a class by its name, its synset, or its number. An image
may have several boxes.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from upscore.errors import DataError, nearest_name
from upscore.files import read_text
from upscore.metrics.localization import LocatedClass
from upscore.text import shortened

__all__ = ["TrueBoxes", "read_true_boxes"]

COLUMNS = ("image", "class", "left", "top", "right", "bottom")

MAX_BYTES = 2**28
"""Of the largest file of boxes: some five million."""


class TrueBoxes:
    """The true boxes of images, by name."""

    def __init__(self, path: str, boxes: Mapping[str, list[LocatedClass]]) -> None:
        self.path, self._boxes = path, boxes

    def of(self, image: str | os.PathLike[str]) -> list[LocatedClass]:
        """Return the boxes of an image, which the file names by its path or the end of it; DataError where it has none."""
        parts = Path(image).parts
        for first in range(len(parts)):
            if (boxes := self._boxes.get("/".join(parts[first:]))) is not None:
                return boxes
        raise DataError(f"{self.path}: holds no box of '{os.fspath(image)}', expected its path, or the end of it, in the column image")


def read_true_boxes(path: str | os.PathLike[str], classes: Mapping[str, int]) -> TrueBoxes:
    """Return the boxes of a CSV file; ``classes`` are the numbers of classes by all of their names, in lower case.

    DataError where the file cannot be read, has other columns, names an unknown class, or a box that is empty or no box.
    """
    name = os.fspath(path)
    rows = csv.reader(io.StringIO(read_text(Path(path), max_bytes=MAX_BYTES, what="a list of boxes")))
    boxes: dict[str, list[LocatedClass]] = defaultdict(list)
    try:
        header = tuple(cell.strip().lower() for cell in next(rows, []))
        if header != COLUMNS:
            raise DataError(f"{name}: found the columns {shortened(','.join(header)) or 'none'}, expected {','.join(COLUMNS)}")
        for row in rows:
            if row:
                _add(boxes, row, classes, f"{name}: line {rows.line_num}")
    except csv.Error as error:
        raise DataError(f"{name}: line {rows.line_num} is no CSV ({error})") from None
    if not boxes:
        raise DataError(f"{name}: found no box, expected a line for each")
    return TrueBoxes(name, boxes)


def _add(boxes: dict[str, list[LocatedClass]], row: list[str], classes: Mapping[str, int], where: str) -> None:
    if len(row) != len(COLUMNS):
        raise DataError(f"{where} has {len(row)} values, expected {len(COLUMNS)}: {','.join(COLUMNS)}")
    image, label, *corners = (cell.strip() for cell in row)
    number = classes.get(label.lower())
    if number is None:
        raise DataError(f"{where} names an unknown class '{shortened(label)}'{nearest_name(label.lower()[:80], list(classes))}")
    try:
        left, top, right, bottom = (float(corner) for corner in corners)
    except ValueError:
        left = math.nan
    if math.isnan(left) or not (-1e9 < left < right < 1e9 and -1e9 < top < bottom < 1e9):
        raise DataError(f"{where} has the box {shortened(','.join(corners))}, expected numbers, left below right and top below bottom")
    boxes["/".join(Path(image).parts)].append((number, (left, top, right, bottom)))
