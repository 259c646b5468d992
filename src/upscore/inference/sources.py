"""Where an image is read from: an array or a file, window by window."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from upscore.data.image_files import read_image_with_metadata
from upscore.inference.tile_grid import Window
from upscore.input_spec import RGB, Image, InputSpec

__all__ = ["ArraySource", "ImageSource", "open_source"]


class ImageSource(Protocol):
    """One image, of any origin."""

    @property
    def name(self) -> str:
        """What it is called in files of boxes and in messages; "" for none."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def spec(self) -> InputSpec:
        """The bands and their type, and how they are shown."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of how it was read."""

    def read(self, window: Window) -> Image:
        """Return the pixels of a window (h, w, C); a view will do."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image in memory, or a memory map; DataError where the array is no image of the bands of ``spec``."""

    pixels: Image  #: (H, W, C), of any size from 1×1
    name: str = ""  #: what it is called
    warnings: tuple[str, ...] = ()  #: what a user should know of how it was read
    spec: InputSpec = RGB  #: its bands

    def __post_init__(self) -> None:
        self.spec.check(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, window: Window) -> Image:
        """Return a view of the pixels of a window (h, w, C)."""
        return self.pixels[window.slices]


def open_source(path: str | os.PathLike[str], spec: InputSpec = RGB) -> ArraySource:
    """Return the image of a file, decoded; its name is the path. DataError where the file is no image of the bands of ``spec``."""
    decoded = read_image_with_metadata(path, spec)
    return ArraySource(decoded.pixels, os.fspath(path), tuple(decoded.warnings), spec)
