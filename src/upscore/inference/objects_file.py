"""The ``objects.json`` of a folder of predictions: what was found in images that are written in any order, and in an earlier call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from upscore.documents import parse_json
from upscore.errors import UpscoreError
from upscore.files import read_text
from upscore.inference.object_detection import ObjectSettings
from upscore.objects.coco_file import CocoFile
from upscore.objects.detected import object_classes
from upscore.types import LabelSpace

__all__ = ["OBJECTS", "ObjectsFile"]

OBJECTS = "objects.json"
"""The file of the objects of a folder of results."""

MAX_BYTES = 2**28
"""Of the largest file of objects that is read to resume with."""


class ObjectsFile:
    """Holds the objects of images until they are written, in the order asked for; see :class:`upscore.objects.coco_file.CocoFile`."""

    def __init__(self, folder: Path, labels: LabelSpace, settings: ObjectSettings) -> None:
        classes = object_classes(labels)
        self.path = folder / OBJECTS
        self._info = {"description": "objects found by upscore", "origin": settings.origin, "min_area": settings.min_area}
        self._categories = [{"id": k, "name": labels.names[k]} for k in classes]
        self._held: dict[str, tuple[tuple[int, int], Sequence[Mapping[str, Any]]]] = {}
        self._file = CocoFile(self.path, labels, classes, self._info)

    def restore(self) -> None:
        """Hold the objects that the file holds from an earlier call, if they were found with the same settings."""
        try:
            earlier = parse_json(read_text(self.path, max_bytes=MAX_BYTES, what="a file of objects"))
            if earlier["info"] != self._info or earlier["categories"] != self._categories:
                return
            by_image: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in earlier["images"]}
            for each in earlier["annotations"]:
                by_image[each["image_id"]].append({name: value for name, value in each.items() if name not in ("id", "image_id")})
            for image in earlier["images"]:
                self._held[str(image["file_name"])] = (int(image["height"]), int(image["width"])), by_image[image["id"]]
        except (UpscoreError, ValueError, KeyError, TypeError):  # it is missing, or none of this: the objects are found again
            self._held.clear()

    def hold(self, file: str, size: tuple[int, int], objects: Sequence[Mapping[str, Any]]) -> None:
        """Hold the objects of an image, of this height and width, until they are written."""
        self._held[file] = size, objects

    def holds(self, file: str) -> bool:
        """Return whether the objects of an image are held."""
        return file in self._held

    def begin(self, files: Iterable[str]) -> None:
        """Write the objects of images from an earlier call, and forget those of all others."""
        self.write(files)
        self._held.clear()

    def write(self, files: Iterable[str]) -> None:
        """Write the objects of images, of those that are held."""
        for file in files:
            if (held := self._held.pop(file, None)) is not None:
                self._file.add(file, *held)

    def close(self) -> None:
        """Write the objects that are still held, and give the file its name."""
        self.write(list(self._held))
        self._file.close()
