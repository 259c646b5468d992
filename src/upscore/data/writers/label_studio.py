"""Label Studio's tasks, a JSON file for each split, as :mod:`upscore.data.readers.label_studio` reads them.

::

    data/
    ├── tasks-train.json
    ├── images/train/street/0001.jpg
    ├── labeling-config.xml              the interface of the project: paste it into the project's settings
    └── classes.txt                      the classes in their order

Truth becomes the annotation of a task, a prediction its pre-annotation, with its score and the model that made it. A shape is a polygon,
or a brush where it has holes. Ignored pixels are shapes called ``__ignore__``. Images are named for Label Studio's local storage
(``/data/local-files/?d=…``), relative to the folder above the dataset.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from upscore.data.annotations.run_lengths import encode_label_studio_runs
from upscore.data.traced_classes import TracedClasses, check_names
from upscore.data.writer import AnnotatedImage, Writer, WriterOptions, Written
from upscore.data.written_images import BROWSER, WrittenImages
from upscore.files import StreamedFile, write_atomically
from upscore.objects.shapes import TracedShape
from upscore.types import IGNORE, LabelSpace

__all__ = ["WRITER", "LabelStudioWriter"]

_URL = "/data/local-files/?d="


class LabelStudioWriter:
    """Writes tasks."""

    def __init__(self, folder: Path, labels: LabelSpace, options: WriterOptions) -> None:
        check_names(labels, "classes.txt")
        self.folder, self.labels, self.options = folder, labels, options
        self.warnings = Counter[str]()
        self.classes = TracedClasses(labels, options.tolerance)
        self._files: dict[str, StreamedFile] = {}
        self._ignored = False
        self._images = WrittenImages(folder, BROWSER, flat=False, warnings=self.warnings)

    def trace(self, label_map: npt.NDArray[np.uint8], instances: npt.NDArray[np.integer] | None = None) -> list[TracedShape]:
        """Return the shapes."""
        return self.classes.trace(label_map, instances)

    def add(self, image: AnnotatedImage, shapes: Sequence[TracedShape] | None = None) -> Written:
        """Write an image and its task."""
        file = f"tasks-{image.split}.json" if image.split else "label-studio.json"
        traced = self.trace(image.label_map, image.instances) if shapes is None else shapes
        stored = ""
        if self.options.copy_images:
            stored = self._images.store(image, f"images/{image.split}/{self._images.name(image)}".replace("//", "/"))
        task: dict[str, Any] = {"data": {"image": _URL + quote(self._path(image, stored), safe="/")}}
        if image.truth is not None:
            task["annotations"] = [{"result": self._results(traced, image.size)}]
        if image.prediction is not None:
            predicted = traced if image.truth is None else self.trace(image.prediction)
            task["predictions"] = [
                {"model_version": self.options.model, "score": image.score, "result": self._results(predicted, image.size)}
            ]
        first = image.split not in self._files
        if first:
            self._files[image.split] = StreamedFile(self.folder / file)
        self._files[image.split].write((b"[\n" if first else b",\n") + json.dumps(task).encode())
        return Written(file, stored)

    def _path(self, image: AnnotatedImage, stored: str) -> str:
        if stored:
            return f"{self.options.name or self.folder.name}/{stored}"
        assert image.file is not None
        return Path(os.path.relpath(image.file, self.options.root or Path.cwd())).as_posix()

    def _results(self, shapes: Sequence[TracedShape], size: tuple[int, int]) -> list[dict[str, Any]]:
        self._ignored |= any(shape.label == IGNORE for shape in shapes)
        return [self._describe(number, shape, size) for number, shape in enumerate(shapes, 1)]

    def _describe(self, number: int, shape: TracedShape, size: tuple[int, int]) -> dict[str, Any]:
        height, width = size
        name, value = [self.classes.name_of(shape.label)], dict[str, Any]()
        if shape.polygon.holes:
            _, left, top, part, *_ = shape.component
            mask = np.zeros(size, np.bool_)
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
            kind, value = "brush", {"format": "rle", "rle": list(encode_label_studio_runs(mask)), "brushlabels": name}
        else:
            points = (shape.polygon.outer * (100 / width, 100 / height)).tolist()  # per cent
            kind, value = "polygon", {"points": points, "closed": True, "polygonlabels": name}
        return {
            "id": f"shape{number}", "type": f"{kind}labels", "from_name": kind, "to_name": "image", "original_width": width,
            "original_height": height, "image_rotation": 0, "value": value,
        }  # fmt: skip

    def close(self) -> None:
        """Give the files of tasks their names, and write the project's interface and the list of classes."""
        for file in self._files.values():
            file.write(b"\n]\n")
            file.close()
        colours = self.classes.named_colours(ignored=self._ignored)
        listed = "".join(f"    <Label value={quoteattr(name)} background={quoteattr(colour)}/>\n" for name, colour in colours)
        parts = [f'  <{kind}Labels name="{kind.lower()}" toName="image">\n{listed}  </{kind}Labels>\n' for kind in ("Polygon", "Brush")]
        config = f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{"".join(parts)}</View>\n'
        write_atomically(self.folder / "labeling-config.xml", config.encode())
        write_atomically(self.folder / "classes.txt", "\n".join([*self.labels.names, ""]).encode())

    def abandon(self) -> None:
        """Remove the files of tasks."""
        for file in self._files.values():
            file.abandon()


WRITER = Writer("label-studio", "Label Studio tasks (JSON)", "objects of several parts, bands that no browser shows", LabelStudioWriter)
