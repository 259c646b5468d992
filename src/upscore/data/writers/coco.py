"""COCO's annotations, a JSON file for each split, as :mod:`upscore.data.readers.coco` reads them.

::

    data/
    ├── annotations/instances_train.json      or stuff_train.json where no class is a background
    └── images/train/street/0001.jpg

An object is its parts' polygons, or run lengths where one has holes, which COCO's polygons have not. Ignored pixels are crowd regions; in
a stuff file they are the pixels without annotation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.annotations.region import Region, unite
from upscore.data.traced_classes import TracedClasses
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.objects.coco_file import CocoFile
from upscore.objects.rle import encode_rle
from upscore.objects.shapes import TracedShape, group_parts
from upscore.types import IGNORE, LabelSpace

__all__ = ["WRITER", "CocoWriter"]


class CocoWriter:
    """Writes polygons and run lengths."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        stuff = TracedClasses(labels).background is None
        self.classes = TracedClasses(labels, options.tolerance, ignored=not stuff)
        self._kind = "stuff" if stuff else "instances"
        self._files: dict[str, CocoFile] = {}
        self._images = WrittenImages(folder, TOOLS, flat=False, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its annotations."""
        file = f"annotations/{self._kind}_{image.split}.json" if image.split else "coco.json"
        if image.split not in self._files:
            self._files[image.split] = CocoFile(self.folder / file, self.labels, self.classes.listed, {"description": "written by upscore"})
        name, stored = image.name, ""
        if self.options.copy_images:
            below = f"images/{image.split}".rstrip("/")
            stored = self._images.store(image, f"{below}/{self._images.name(image)}")
            name = stored.removeprefix(f"{below}/")
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        self._files[image.split].add(name, image.size, [self._describe(parts, image.size) for parts in group_parts(traced)])
        return Written(file, stored)

    def _describe(self, parts: Sequence[TracedShape], size: tuple[int, int]) -> dict[str, Any]:
        label = parts[0].label
        top, left, mask, _ = unite([Region(part.component.top, part.component.left, part.component.mask) for part in parts])
        segmentation: Any = [part.polygon.outer.ravel().tolist() for part in parts]
        if label == IGNORE or any(part.polygon.holes for part in parts):
            segmentation = {"size": list(size), "counts": encode_rle(mask, left=left, top=top, size=size)}
        return {
            "category_id": self.classes.listed[0] if label == IGNORE else label,
            "bbox": [left, top, mask.shape[1], mask.shape[0]],
            "area": sum(part.component.area for part in parts),
            "iscrowd": int(label == IGNORE),
            "segmentation": segmentation,
        }

    def close(self) -> None:
        """Give the files their names."""
        for file in self._files.values():
            file.close()

    def abandon(self) -> None:
        """Remove the files."""
        for file in self._files.values():
            file.abandon()


WRITER = Writer("coco", "COCO (JSON)", "", CocoWriter)
