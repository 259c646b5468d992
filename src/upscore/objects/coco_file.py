"""The objects of many images in one file of COCO's format, written object by object.

::

    {"info": {"description": "…"},
     "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "score": 0.93,
                      "bbox": [left, top, width, height], "area": 1520, "iscrowd": 0,
                      "segmentation": {"size": [H, W], "counts": "…"},
                      "polygon": {"outer": [x, y, x, y, …], "holes": [[x, y, …], …]}}, …],
     "images": [{"id": 1, "file_name": "street/0001.jpg", "width": W, "height": H}, …],
     "categories": [{"id": 2, "name": "car"}, …]}

Tools for COCO's format open it as annotations, and its ``annotations`` as results. A category's id is the class's number. COCO's polygons
have no holes, so ``segmentation`` is the mask's run lengths, and the exact outline is one more key, ``polygon``, along the edges of pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from upscore.files import StreamedFile
from upscore.objects.detected import DetectedObject
from upscore.types import LabelSpace

__all__ = ["CocoFile", "describe_object"]

DECIMALS = 6
"""Of a score in a file."""


def describe_object(found: DetectedObject) -> dict[str, Any]:
    """Return an object as COCO describes it, without the ids of itself and its image.

    >>> import numpy as np
    >>> described = describe_object(DetectedObject(2, 0.5, np.ones((1, 2), bool), 3, 0, (4, 6)))
    >>> described["category_id"], described["bbox"], described["area"], described["polygon"]
    (2, [3, 0, 2, 1], 2, {'outer': [3, 0, 5, 0, 5, 1, 3, 1], 'holes': []})
    """
    left, top, right, bottom = found.box
    polygon = found.polygon()
    return {
        "category_id": found.label_class,
        "score": round(found.score, DECIMALS),
        "bbox": [left, top, right - left, bottom - top],
        "area": found.area,
        "iscrowd": 0,
        "segmentation": {"size": list(found.size), "counts": found.rle()},
        "polygon": {"outer": polygon.outer.ravel().tolist(), "holes": [hole.ravel().tolist() for hole in polygon.holes]},
    }


class CocoFile:
    """A file of objects; it takes its name when it is closed, and memory holds the images' names and sizes alone.

    Parameters
    ----------
    path : path
        The file, which is replaced if it is there.
    labels : LabelSpace
        The classes.
    classes : sequence of int
        Of which there are objects: the file's categories.
    info : mapping
        How the objects were found, as JSON.

    Raises
    ------
    OutputError
        From every method: there is no room or no right to write. No partial file is left behind.
    """

    def __init__(self, path: Path, labels: LabelSpace, classes: Sequence[int], info: Mapping[str, object]) -> None:
        self.path = path
        self._images: list[dict[str, object]] = []
        self._categories = [{"id": k, "name": labels.names[k]} for k in classes]
        self._objects = 0
        self._file = StreamedFile(path)
        self._file.write(b'{"info": ' + _encoded(dict(info)) + b',\n "annotations": [')

    def add(self, file_name: str, size: tuple[int, int], objects: Iterable[Mapping[str, Any]]) -> None:
        """Write the objects of an image, as :func:`describe_object` gives them; ``size`` is its height and width."""
        self._images.append({"id": len(self._images) + 1, "file_name": file_name, "width": size[1], "height": size[0]})
        for described in objects:
            separator = b",\n  " if self._objects else b"\n  "
            self._objects += 1
            self._file.write(separator + _encoded({"id": self._objects, "image_id": len(self._images), **described}))

    def close(self) -> None:
        """Write the rest, and give the file its name; nothing where it was abandoned."""
        if self._file.ended:
            return
        self._file.write(b'],\n "images": ' + _encoded(self._images) + b',\n "categories": ' + _encoded(self._categories) + b"}\n")
        self._file.close()

    def abandon(self) -> None:
        """Remove what was written, unless the file is closed."""
        self._file.abandon()


def _encoded(value: object) -> bytes:
    # File names may hold bytes that are no text; they are written as escapes.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
