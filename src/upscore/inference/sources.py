"""Where an image is read from: an array or a file, window by window."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from upscore.data.image_files import read_image_with_metadata
from upscore.errors import DataError
from upscore.inference.tile_grid import Window

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
    def bands(self) -> int:
        """Values of a pixel; 3 for RGB."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of how it was read."""

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return the pixels of a window (h, w, bands); a view will do."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image in memory, or a memory map; DataError where the array is no such image."""

    pixels: npt.NDArray[np.uint8]  #: (H, W, 3) uint8 RGB, of any size from 1×1
    name: str = ""  #: what it is called
    warnings: tuple[str, ...] = ()  #: what a user should know of how it was read

    def __post_init__(self) -> None:
        image = self.pixels
        if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and 0 not in image.shape:
            return
        found = f"an array of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        turned = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[0] == 3 != image.shape[2]
        raise DataError(f"found {found}, expected an image (H, W, 3) uint8 RGB{': channels come last' if turned else ''}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def bands(self) -> int:
        """3: red, green and blue."""
        return int(self.pixels.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type uint8."""
        return self.pixels.dtype

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return a view of the pixels of a window (h, w, 3)."""
        return self.pixels[window.slices]


def open_source(path: str | os.PathLike[str]) -> ArraySource:
    """Return the image of a file, decoded; its name is the path. DataError where the file is no image that can be read."""
    decoded = read_image_with_metadata(path)
    return ArraySource(decoded.pixels, os.fspath(path), tuple(decoded.warnings))
