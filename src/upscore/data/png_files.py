"""Write images and label maps as PNG files, atomically."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.files import write_atomically
from upscore.types import LabelSpace

__all__ = ["write_image", "write_label_map"]


def write_label_map(path: str | os.PathLike[str], label_map: npt.NDArray[np.uint8], labels: LabelSpace) -> None:
    """Write a label map as an 8-bit palette PNG: its pixels are class indices, shown in the classes' colours.

    The file is written whole or not at all; folders on the way are made.

    Parameters
    ----------
    path : path
        Where to; a file already there is replaced.
    label_map : (H, W) uint8
        Class of each pixel, or 255.
    labels : LabelSpace
        Gives the palette, the ignored label's colour included.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    assert label_map.ndim == 2
    assert label_map.dtype == np.uint8
    image = Image.fromarray(np.ascontiguousarray(label_map)).convert("L")
    image.putpalette(labels.colours().tobytes())
    _write_png(Path(path), image)


def write_image(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
    """Write ``image``, (H, W, 3) uint8 RGB, as a PNG; like :func:`write_label_map` in all else."""
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    _write_png(Path(path), Image.fromarray(np.ascontiguousarray(image)))


def _write_png(path: Path, image: Image.Image) -> None:
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=4)
    write_atomically(path, encoded.getvalue())
