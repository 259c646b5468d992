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

__all__ = ["write_image", "write_label_map", "write_stored_values"]


def write_label_map(path: str | os.PathLike[str], label_map: npt.NDArray[np.uint8], labels: LabelSpace) -> None:
    """Write a label map as an 8-bit palette PNG: its pixels are class indices, shown in the classes' colours.

    ``label_map`` is (H, W), classes or 255. The file is written whole or not at all, and replaces one that is there; folders on the
    way are made. An OutputError is raised where it cannot be written.
    """
    assert label_map.ndim == 2
    assert label_map.dtype == np.uint8
    image = Image.fromarray(np.ascontiguousarray(label_map)).convert("L")
    image.putpalette(labels.colours().tobytes())
    _write_png(Path(path), image)


def write_stored_values(path: str | os.PathLike[str], values: npt.NDArray[np.uint8], palette: bytes = b"") -> None:
    """Write the values of a mask, (H, W), as an 8-bit PNG: grey, or with a ``palette``, red, green and blue of each number from 0.

    It is like :func:`write_label_map` in all else.
    """
    image = Image.fromarray(np.ascontiguousarray(values))
    if palette:
        image.putpalette(palette)
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
