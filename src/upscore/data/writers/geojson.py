"""GeoJSON in pixels, a file for each image, as QuPath imports it and :mod:`upscore.data.readers.geojson` reads it.

::

    data/
    ├── classes.txt                                  the classes in their order
    └── train/slide_1.tif, slide_1.geojson

Polygons hold holes; an object of several parts is one feature. Ignored pixels are features of the class ``__ignore__``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.traced_classes import TracedClasses, check_names
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import ANY, WrittenImages
from upscore.files import write_atomically
from upscore.objects.shapes import TracedShape, group_parts
from upscore.types import LabelSpace

__all__ = ["WRITER", "GeoJSONWriter"]


class GeoJSONWriter:
    """Writes a file of features for each image."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        check_names(labels, "classes.txt")
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        self.classes = TracedClasses(labels, options.tolerance)
        self._images = WrittenImages(folder, ANY, flat=options.copy_images, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its features."""
        name = f"{image.split}/{self._images.name(image)}".lstrip("/")
        stored = self._images.store(image, name) if self.options.copy_images else ""
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        content = {"type": "FeatureCollection", "features": [self._describe(parts) for parts in group_parts(traced)]}
        write_atomically(self.folder / f"{name}.geojson", (json.dumps(content, ensure_ascii=False) + "\n").encode())
        return Written(f"{name}.geojson", stored)

    def _describe(self, parts: Sequence[TracedShape]) -> dict[str, Any]:
        label = parts[0].label
        polygons = [[np.concatenate([ring, ring[:1]]).tolist() for ring in (part.polygon.outer, *part.polygon.holes)] for part in parts]
        kind, coordinates = ("MultiPolygon", polygons) if parts[1:] else ("Polygon", polygons[0])
        classification = {"name": self.classes.name_of(label), "color": self.labels.colours()[label].tolist()}
        return {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"objectType": "annotation", "classification": classification},
        }

    def close(self) -> None:
        """Write ``classes.txt``."""
        write_atomically(self.folder / "classes.txt", "\n".join([*self.labels.names, ""]).encode())

    def abandon(self) -> None:
        """Do nothing: every file is whole."""


WRITER = Writer("geojson", "GeoJSON in pixels (QuPath)", "folders in a split", GeoJSONWriter)
