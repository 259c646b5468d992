"""CVAT's "CVAT for images 1.1", one XML file, as :mod:`upscore.data.readers.cvat` reads it.

::

    data/
    ├── annotations.xml
    └── images/train/street/0001.jpg

A shape is a polygon, or a mask where it has holes; larger ones are below smaller ones (``z_order``). The parts of an object are a group
(``group_id``). Ignored pixels are shapes called ``__ignore__``. Splits are the subsets of a project.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from upscore.data.annotations.run_lengths import encode_cvat_runs
from upscore.data.traced_classes import TracedClasses, check_names
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.files import StreamedFile
from upscore.objects.shapes import TracedShape, group_ids
from upscore.types import IGNORE, LabelSpace

__all__ = ["WRITER", "CvatWriter"]

_IN_MEMORY = 2**24  # bytes of the images' elements, which go to a temporary file beyond


class CvatWriter:
    """Writes polygons and masks."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        check_names(labels, "CVAT's XML", forbidden=lambda name: not name.isprintable(), expected="without control characters")
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        self.classes = TracedClasses(labels, options.tolerance)
        self._file = StreamedFile(folder / "annotations.xml")
        self._body = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # the labels stand before the images
        self._count = 0
        self._ignored = False
        self._images = WrittenImages(folder, TOOLS, flat=False, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its element."""
        name, stored = image.name, ""
        if self.options.copy_images:
            stored = self._images.store(image, f"images/{image.split}/{self._images.name(image)}".replace("//", "/"))
            name = stored.removeprefix("images/")
        height, width = image.size
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        self._ignored |= any(shape.label == IGNORE for shape in traced)
        subset = f" subset={quoteattr(image.split)}" if image.split else ""
        lines = [f'  <image id="{self._count}" name={quoteattr(name)}{subset} width="{width}" height="{height}">']
        groups = group_ids(traced)
        lines += [f"    {self._describe(shape, order, groups[order])}" for order, shape in enumerate(traced)]
        self._body.write("\n".join([*lines, "  </image>\n"]).encode("utf-8", "xmlcharrefreplace"))
        self._count += 1
        return Written("annotations.xml", stored)

    def _describe(self, shape: TracedShape, order: int, group: int | None) -> str:
        rank = f'z_order="{order}"' + ("" if group is None else f' group_id="{group}"')
        label = f'label={quoteattr(self.classes.name_of(shape.label))} source="upscore" occluded="0"'
        if not shape.polygon.holes:
            points = ";".join(f"{x:.1f},{y:.1f}" for x, y in shape.polygon.outer.tolist())
            return f'<polygon {label} points="{points}" {rank}></polygon>'
        _, left, top, mask, *_ = shape.component
        height, width = mask.shape
        box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
        return f'<mask {label} rle="{encode_cvat_runs(mask)}" {box} {rank}></mask>'

    def close(self) -> None:
        """Write the labels and the images, and give the file its name."""
        named = self.classes.named_colours(ignored=self._ignored)
        labels = "".join(f"<label><name>{escape(name)}</name><color>{colour}</color></label>" for name, colour in named)
        head = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><task><size>{self._count}</size>'
        self._file.write(f"{head}<labels>{labels}</labels></task></meta>\n".encode())
        self._body.seek(0)
        while part := self._body.read(_IN_MEMORY):
            self._file.write(part)
        self._file.write(b"</annotations>\n")
        self._file.close()
        self._body.close()

    def abandon(self) -> None:
        """Remove the file."""
        self._file.abandon()
        self._body.close()


WRITER = Writer("cvat", "CVAT for images 1.1 (XML)", "", CvatWriter)
