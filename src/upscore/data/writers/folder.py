"""Folders of images and masks with a ``dataset.yaml``, as :mod:`upscore.data.readers.dataset_yaml` reads them.

::

    data/
    ├── dataset.yaml
    ├── images/train/street/0001.jpg
    ├── masks/train/street/0001.png       palette PNG, 255 is ignored
    └── instances/train/street/0001.png   the number of each pixel's object, where the dataset tells objects
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.png_files import MAX_INSTANCE, write_instances, write_label_map
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import ANY, WrittenImages
from upscore.files import write_atomically
from upscore.objects.numbers import numbered_to
from upscore.objects.shapes import TracedShape
from upscore.types import LabelSpace

__all__ = ["WRITER", "FolderWriter"]


class FolderWriter:
    """Writes masks beside images."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        self.folder, self.labels = folder, labels
        self.warnings = Counter[str]()
        self._splits: dict[str, None] = {}
        self._images = WrittenImages(folder, ANY, flat=False, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> None:
        """Return None: masks hold pixels."""

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its mask."""
        split = image.split or "train"
        self._splits[split] = None
        name = self._images.name(image)
        stored = self._images.store(image, f"images/{split}/{name}")
        mask = f"masks/{split}/{name}.png"
        write_label_map(self.folder / mask, image.label_map, self.labels)
        if image.instances is not None:
            write_instances(self.folder / f"instances/{split}/{name}.png", numbered_to(image.instances, MAX_INSTANCE))
        return Written(mask, stored)

    def close(self) -> None:
        """Write ``dataset.yaml``."""
        lines = ["path: .", *(f"{json.dumps(split)}: {json.dumps(f'images/{split}')}" for split in self._splits)]
        lines += ["masks_dir: masks", f"names: {json.dumps(list(self.labels.names))}"]
        write_atomically(self.folder / "dataset.yaml", ("\n".join(lines) + "\n").encode())

    def abandon(self) -> None:
        """Do nothing: every file is whole."""


WRITER = Writer("folder", "images/ and masks/ with a dataset.yaml", "", FolderWriter, predictions=False)
