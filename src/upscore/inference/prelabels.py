"""Predictions as pre-labels for an annotation tool, in its own form, beside the label maps.

::

    out/labelme/street/0001.json          a file for each image, for labelme, YOLO and GeoJSON
    out/label-studio/label-studio.json    one file for all, for Label Studio, CVAT and COCO

The images stay where they are: the files refer to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.mask_files import read_label
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage, WriterOptions
from upscore.errors import DataError
from upscore.inference.file_discovery import NamedImage
from upscore.inference.prediction_account import LabelledImage
from upscore.objects.shapes import TracedShape
from upscore.objects.simplify import check_tolerance
from upscore.types import LabelSpace

__all__ = ["PRELABELS", "PreLabelFiles", "PreLabelSettings", "image_root"]

PRELABELS = "prelabels"
"""The kind of these files in ``predictions.json``."""

TRACING_BYTES_A_PIXEL = 12
"""Of an image whose shapes are traced and wait to be written."""


@dataclass(frozen=True)
class PreLabelSettings:
    """For which tool predictions are written, and how exactly; DataError where there is no such format, or no such tolerance."""

    format: str  #: name of one of :data:`upscore.data.write_dataset.WRITERS`
    tolerance: float = 1.0  #: by which polygons may differ from the edges of the label map's pixels, in pixels; 0 is exact

    def __post_init__(self) -> None:
        find_writer(self.format, predictions=True)
        check_tolerance(self.tolerance)


def image_root(images: Sequence[NamedImage]) -> Path:
    """Return the folder that Label Studio is to serve images from: that above the one in which all of them lie."""
    return Path(os.path.commonpath([image.path.absolute().parent for image in images])).parent if images else Path.cwd()


class PreLabelFiles:
    """Holds the shapes of images until they are written, in the order asked for; files of all images are complete when this is closed."""

    def __init__(self, folder: Path, labels: LabelSpace, settings: PreLabelSettings, images: Sequence[NamedImage], model: str) -> None:
        self._folder, self._name = folder, settings.format
        options = WriterOptions(settings.tolerance, copy_images=False, root=image_root(images), model=model)
        self._writer = find_writer(settings.format, predictions=True).open(folder / settings.format, labels, options)
        self._images = {str(image.path): image for image in images}
        self._held: dict[str, tuple[LabelledImage, npt.NDArray[np.uint8], Sequence[TracedShape] | None]] = {}

    def restore(self, row: LabelledImage) -> bool:
        """Hold an image that was labelled before, and return whether its label map can be read and is whole."""
        try:
            label_map = read_label(self._folder / row.outputs["labels"])
        except DataError:
            return False
        if row.size is None or label_map.shape != tuple(row.size):
            return False
        self.hold(row, label_map)
        return True

    def hold(self, row: LabelledImage, label_map: npt.NDArray[np.uint8]) -> None:
        """Trace an image that is labelled; may be called in any thread."""
        self._held[row.file] = row, label_map, self._writer.trace(label_map)

    def write(self, files: Iterable[str]) -> None:
        """Write images, of those that are held, and enter the files into their rows."""
        for file in files:
            if (held := self._held.pop(file, None)) is not None:
                row, label_map, shapes = held
                image = self._images[file]
                name = f"{image.name}{image.path.suffix}"
                annotated = AnnotatedImage(name, prediction=label_map, score=row.confidence, file=image.path)
                row.outputs[PRELABELS] = f"{self._name}/{self._writer.add(annotated, shapes).annotation}"

    def close(self) -> None:
        """Write the images that are still held, and give the files their names."""
        try:
            self.write(list(self._held))
            self._writer.close()
        finally:
            self._writer.abandon()
