"""PASCAL VOC's layout with ``labelmap.txt``, CVAT's "Segmentation mask 1.1", as :mod:`upscore.data.readers.voc` reads it.

::

    data/
    ├── JPEGImages/street_0001.jpg
    ├── SegmentationClass/street_0001.png     palette PNG in the colours of labelmap.txt, 255 is ignored
    ├── SegmentationObject/street_0001.png    the number of each pixel's object, where the dataset tells objects; 255 is ignored
    ├── ImageSets/Segmentation/train.txt      one name a line
    └── labelmap.txt                          name:red,green,blue::
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.png_files import MAX_INSTANCE, write_instances, write_label_map
from upscore.data.traced_classes import check_names
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import TOOLS, WrittenImages
from upscore.files import write_atomically
from upscore.objects.numbers import numbered_to
from upscore.objects.shapes import TracedShape
from upscore.types import IGNORE, LabelSpace

__all__ = ["WRITER", "VOCWriter"]

_VOID = (224, 224, 192)  # the colour of 255
_IGNORED = ("void", "ignored")  # which labelmap.txt gives to ignored pixels


class VOCWriter:
    """Writes masks whose colours are listed."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        check_names(
            labels, "labelmap.txt", forbidden=lambda name: ":" in name or name[0] == "#" or name.lower() in _IGNORED,
            expected="without ':', that is not void or ignored and does not begin with '#'",
        )  # fmt: skip
        if len({*labels.palette, _VOID}) <= len(labels):  # two classes of one colour
            labels = LabelSpace(labels.names)
        self.folder, self.labels = folder, labels
        self.warnings = Counter[str]()
        self._listed: dict[str, list[str]] = {}
        self._images = WrittenImages(folder, TOOLS, flat=True, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> None:
        """Return None: masks hold pixels."""

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its mask."""
        name = str(self._images.name(image))
        self._listed.setdefault(image.split or "train", []).append(name)
        stored = self._images.store(image, f"JPEGImages/{name}")
        mask = f"SegmentationClass/{name}.png"
        write_label_map(self.folder / mask, image.label_map, self.labels)
        if image.instances is not None:
            numbers = numbered_to(image.instances, MAX_INSTANCE, without=IGNORE)
            write_instances(self.folder / f"SegmentationObject/{name}.png", np.where(image.label_map == IGNORE, IGNORE, numbers))
        return Written(mask, stored)

    def close(self) -> None:
        """Write the lists and the colours."""
        for split, names in self._listed.items():
            lines = "".join(f"{name}\n" for name in names)
            write_atomically(self.folder / "ImageSets" / "Segmentation" / f"{split}.txt", lines.encode("utf-8", "surrogateescape"))
        colours = [
            f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in zip(self.labels.names, self.labels.palette, strict=True)
        ]
        write_atomically(self.folder / "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *colours, ""]).encode())

    def abandon(self) -> None:
        """Do nothing: every file is whole."""


WRITER = Writer("voc", "PASCAL VOC folders with labelmap.txt", "folders in a split, names with ':'", VOCWriter, predictions=False)
