"""YOLO's polygons, a text file for each image, as :mod:`upscore.data.readers.yolo` reads them.

::

    data/
    ├── data.yaml
    ├── images/train/street_0001.jpg
    └── labels/train/street_0001.txt         0 0.2 0.2 0.6 0.2 0.6 0.6

A polygon has no holes: they are joined to its outer ring by bridges of no width. Ignored pixels become background.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.traced_classes import TracedClasses
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.files import write_atomically
from upscore.objects.shapes import TracedShape, join_holes
from upscore.types import LabelSpace

__all__ = ["WRITER", "YoloWriter"]


class YoloWriter:
    """Writes a text file for each image."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        self.classes = TracedClasses(labels, options.tolerance, ignored=False)
        self._splits: dict[str, None] = {}
        self._images = WrittenImages(folder, TOOLS, flat=options.copy_images, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its polygons."""
        self._splits[image.split] = None
        name = f"{image.split}/{self._images.name(image)}".lstrip("/")
        stored = self._images.store(image, f"images/{name}") if self.options.copy_images else ""
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        self.classes.count_ignored(image.label_map, self.warnings, "become background, as YOLO holds none")
        first, (height, width) = self.classes.listed[0], image.size
        lines = [
            " ".join([str(shape.label - first), *(_fraction(number) for number in (join_holes(shape.polygon) / (width, height)).ravel())])
            for shape in traced
        ]
        write_atomically(self.folder / "labels" / f"{name}.txt", "".join(f"{line}\n" for line in lines).encode())
        return Written(f"labels/{name}.txt", stored)

    def close(self) -> None:
        """Write ``data.yaml``."""
        lines = ["path: .", *(f"{json.dumps(split)}: {json.dumps(f'images/{split}')}" for split in self._splits if split)]
        names = [self.labels.names[k] for k in self.classes.listed]
        write_atomically(self.folder / "data.yaml", "\n".join([*lines, f"names: {json.dumps(names)}", ""]).encode())

    def abandon(self) -> None:
        """Do nothing: every file is whole."""


def _fraction(number: float) -> str:
    return f"{number:.8f}".rstrip("0").rstrip(".")


WRITER = Writer("yolo", "YOLO polygons (images/, labels/)", "ignored pixels, objects of several parts, folders in a split", YoloWriter)
