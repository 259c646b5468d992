"""Write images and label maps as PNG files, atomically."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.files import write_atomically
from upscore.types import LabelSpace, voc_palette

__all__ = ["MAX_INSTANCE", "write_image", "write_instances", "write_label_map", "write_stored_values"]

MAX_INSTANCE = 2**16 - 1
"""The largest number of an object in a PNG."""


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


def write_instances(path: str | os.PathLike[str], instances: npt.NDArray[np.integer]) -> None:
    """Write object numbers, (H, W), 0 to :data:`MAX_INSTANCE`: as a palette PNG where all are below 256, otherwise in 16 bits of grey.

    It is like :func:`write_label_map` in all else.
    """
    if instances.max(initial=0) < 256:
        write_stored_values(path, instances.astype(np.uint8), bytes(part for colour in voc_palette(256) for part in colour))
    else:
        _write_png(Path(path), Image.fromarray(instances.astype(np.uint16)))


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
