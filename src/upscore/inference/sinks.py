"""Where an image's probabilities are written to, window by window: arrays in memory, and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.data.png_files import write_image, write_label_map
from upscore.errors import OutputError
from upscore.files import write_atomically
from upscore.inference.sources import ImageSource
from upscore.inference.tile_grid import Window
from upscore.objects.detected import DetectedObject
from upscore.overlay import draw_boxes, draw_overlay
from upscore.types import LabelSpace

__all__ = ["LabelMapSink", "MemorySink", "OverlayFileSink", "PNGSink", "ProbsFileSink", "ProbsSink", "Sink"]

MAX_JPEG_SIDE = 65500
"""libjpeg's own limit, a little below the format's."""

JPEG_QUALITY = 92


class Sink(Protocol):
    """What takes the probabilities of one image.

    :meth:`write` is called for windows that cover every pixel once, and then either :meth:`close`, perhaps in another
    thread, or :meth:`abandon`, which leaves nothing behind. Whichever comes last may be repeated.
    """

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""

    def close(self) -> None:
        """Finish: a file takes its name now."""

    def abandon(self) -> None:
        """Undo everything."""


class MemorySink:
    """A sink whose values stay in memory: nothing is to be finished or undone."""

    def close(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class LabelMapSink(MemorySink):
    """The most probable class of each pixel, ``label_map`` (H, W) uint8; of equally probable classes the first."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.label_map = np.empty(size, np.uint8)

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        self.write_labels(window, probs)

    def write_labels(self, window: Window, probs: Tensor) -> Tensor:
        """Take the labels of a window, and return the greatest probabilities (h, w)."""
        greatest, label = probs.max(0)  # several times faster than argmax
        self.label_map[window.slices] = label.to(torch.uint8).cpu().numpy()
        return greatest


class PNGSink(LabelMapSink):
    """The label map as a palette PNG, and the mean confidence; a file already there is replaced."""

    def __init__(self, path: Path, labels: LabelSpace, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.path, self.labels = path, labels
        self._total = 0.0

    @property
    def confidence(self) -> float:
        """The mean over the pixels of the greatest class probability, 0 to 1."""
        return self._total / self.label_map.size

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        greatest = self.write_labels(window, probs)
        self._total += float(greatest.sum(dtype=torch.float64 if probs.device.type != "mps" else None))

    def close(self) -> None:
        """Write the file."""
        write_label_map(self.path, self.label_map, self.labels)


class OverlayFileSink:
    """The label map over the image, with a legend: ``STEM.overlay.jpg``, or ``STEM.overlay.png`` where a side is too long for a JPEG.

    ``stem`` is the path without the endings; ``labels`` holds the label map and gets the same windows. ``path`` is known once it is closed.
    The boxes of ``objects``, which may be set until then, are drawn too.
    """

    def __init__(self, stem: Path, labels: LabelMapSink, space: LabelSpace, source: ImageSource) -> None:
        self.stem, self.labels, self.space, self.source = stem, labels, space, source
        self.path: Path | None = None
        self.objects: Sequence[DetectedObject] = ()

    @property
    def is_jpeg(self) -> bool:
        """Whether the file is a JPEG, once it is closed."""
        return self.path is not None and self.path.suffix == ".jpg"

    def write(self, window: Window, probs: Tensor) -> None:
        """Do nothing: the label map is complete when this is closed."""

    def close(self) -> None:
        """Draw and write the file."""
        height, width = self.source.size
        image = self.source.spec.display(self.source.read(Window(0, 0, height, width)))
        overlay = draw_overlay(image, self.labels.label_map, self.space, legend=True)
        if self.objects:
            names, colours = self.space.names, self.space.palette
            draw_boxes(
                overlay[:height, :width],
                [each.box for each in self.objects],
                [f"{names[each.label_class]} {each.score:.2f}" for each in self.objects],
                [colours[each.label_class] for each in self.objects],
            )
        fits = max(overlay.shape) <= MAX_JPEG_SIDE
        self.path = self.stem.with_name(f"{self.stem.name}.overlay.{'jpg' if fits else 'png'}")
        if not fits:
            write_image(self.path, overlay)
            return
        encoded = cv2.imencode(".jpg", cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        write_atomically(self.path, encoded.tobytes())

    def abandon(self) -> None:
        """Do nothing: the file is written only when this is closed."""


class ProbsSink(MemorySink):
    """The probabilities in an array (K, H, W) of any floating type, which is filled."""

    def __init__(self, probs: npt.NDArray[np.floating]) -> None:
        self.probs = probs

    def write(self, window: Window, probs: Tensor) -> None:
        """Take the probabilities (K, h, w) of a window."""
        self.probs[(slice(None), *window.slices)] = probs.cpu().numpy()


class ProbsFileSink(ProbsSink):
    """The probabilities as a NumPy file, (K, H, W) float16, written and read in parts.

    The ``.npy`` file takes its name when it is closed. OutputError where there is no room or no right to write.
    """

    def __init__(self, path: Path, classes: int, size: tuple[int, int]) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        shape = (classes, *size)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Room is taken up at once: a memory map that outgrows the disk would end the process.
            with self._partial.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
                begin = file.tell()
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, begin + 2 * int(np.prod(shape)))
                else:
                    file.truncate(begin + 2 * int(np.prod(shape)))
            super().__init__(np.memmap(self._partial, np.float16, mode="r+", offset=begin, shape=shape))
        except BaseException as error:
            self.abandon()
            raise self._error(error) if isinstance(error, OSError) else error from None

    def close(self) -> None:
        """Give the file its name."""
        try:
            assert isinstance(self.probs, np.memmap)
            self.probs.flush()
            del self.probs
            os.replace(self._partial, self.path)
        except OSError as error:
            self.abandon()
            raise self._error(error) from None

    def abandon(self) -> None:
        """Remove what was written."""
        self._partial.unlink(missing_ok=True)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({error.strerror or error}): free some space or choose another folder")
