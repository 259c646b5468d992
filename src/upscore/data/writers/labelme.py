"""labelme's annotations, a JSON file for each image, as :mod:`upscore.data.readers.labelme` reads them.

::

    data/
    ├── labels.txt                                  __ignore__, then the classes in their order
    └── train/street_0001.jpg, street_0001.json

A shape is a polygon, or a bitmap where it has holes, which labelme's polygons have not. The parts of an object are a group (``group_id``).
Ignored pixels are shapes called ``__ignore__``.
Where an image has a truth and a prediction, the shapes of the prediction are called ``predicted: NAME``.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.annotations.classes import IGNORED_NAME
from upscore.data.traced_classes import TracedClasses, check_names
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.files import write_atomically
from upscore.objects.shapes import TracedShape, group_ids
from upscore.types import LabelSpace

__all__ = ["WRITER", "LabelmeWriter"]

_VERSION = "6.0.0"  # labelme's, whose form of files this is


class LabelmeWriter:
    """Writes a JSON file beside each image, or one that refers to it."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        check_names(labels, "labels.txt")
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        self.classes = TracedClasses(labels, options.tolerance)
        self._images = WrittenImages(folder, TOOLS, flat=options.copy_images, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its file."""
        name = f"{image.split}/{self._images.name(image)}".lstrip("/")
        file = self.folder / f"{name}.json"
        stored = ""
        if self.options.copy_images:
            stored = self._images.store(image, name)
            path = Path(stored).name
        else:
            assert image.file is not None
            path = Path(os.path.relpath(image.file, file.parent)).as_posix()
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        described = [self._describe(shape, group=group) for shape, group in zip(traced, group_ids(traced), strict=True)]
        if image.truth is not None and image.prediction is not None:
            described += [self._describe(shape, prefix="predicted: ") for shape in self.trace(image.prediction)]
        height, width = image.size
        content: dict[str, Any] = {
            "version": _VERSION, "flags": {}, "shapes": described, "imagePath": path, "imageData": None, "imageHeight": height,
            "imageWidth": width,
        }  # fmt: skip
        write_atomically(file, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace"))
        return Written(f"{name}.json", stored)

    def _describe(self, shape: TracedShape, *, prefix: str = "", group: int | None = None) -> dict[str, Any]:
        _, left, top, mask, *_ = shape.component
        described: dict[str, Any] = {"label": prefix + self.classes.name_of(shape.label), "group_id": group, "flags": {}}
        if not shape.polygon.holes:
            points = shape.polygon.outer.astype(float).tolist()
            return described | {"shape_type": "polygon", "points": points, "mask": None}
        corners = [[float(left), float(top)], [float(left + mask.shape[1] - 1), float(top + mask.shape[0] - 1)]]  # the last one inclusive
        content = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8)).save(content, "PNG")
        return described | {"shape_type": "mask", "points": corners, "mask": base64.b64encode(content.getvalue()).decode("ascii")}

    def close(self) -> None:
        """Write ``labels.txt``."""
        write_atomically(self.folder / "labels.txt", "\n".join([IGNORED_NAME, *self.labels.names, ""]).encode())

    def abandon(self) -> None:
        """Do nothing: every file is whole."""


WRITER = Writer("labelme", "labelme (JSON)", "folders in a split", LabelmeWriter)
