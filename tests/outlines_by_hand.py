"""Masks painted point by point: an independent oracle for shapes of annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.open_dataset import open_dataset
from upscore.types import Sample


def inside(rings: list[Any], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which centres of pixels are inside an odd number of rings, each a list of (x, y), by counting crossings to the right."""
    y, x = np.mgrid[:height, :width] + 0.5
    odd = np.zeros((height, width), np.bool_)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if y1 != y2:
                odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return odd


def disc(x: float, y: float, radius: float, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which centres of pixels are in a disc."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def rectangle(x: float, y: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return its corners."""
    return [(x, y), (right, y), (right, bottom), (x, bottom)]


def paint(shapes: list[tuple[npt.NDArray[np.bool_], int]], height: int, width: int, background: int = 0) -> npt.NDArray[np.uint8]:
    """Return a mask with regions painted over one another."""
    mask = np.full((height, width), background, np.uint8)
    for region, label in shapes:
        mask[region] = label
    return mask


def save_image(path: Path, height: int, width: int, orientation: int = 1) -> Path:
    """Save an image whose pixels are stored as (height, width), with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)).save(path, exif=exif)
    return path


def all_samples(root: Path, splits: tuple[str, ...] = ("train", "val")) -> dict[str, Sample]:
    """Return the samples of all splits by key; the labels that are read alone must be equal to theirs."""
    found = {}
    for split in splits:
        dataset = open_dataset(root, split)
        for index, key in enumerate(dataset.keys):
            found[key] = dataset[index]
            raw, mapping = dataset.raw_label(index).values, dataset.label_mapping  # type: ignore[attr-defined]
            labels = raw if mapping is None else np.vectorize(lambda value, mapping=mapping: mapping.get(value, 255))(raw)
            np.testing.assert_array_equal(labels, found[key].label)
            assert found[key].key == key
    return found


def warnings_of(root: Path, splits: tuple[str, ...] = ("train", "val")) -> str:
    """Return what the splits warn of after all masks were read."""
    lines = []
    for split in splits:
        dataset = open_dataset(root, split)
        for index in range(len(dataset)):
            dataset.raw_label(index)  # type: ignore[attr-defined]
        lines += dataset.warnings
    return "\n".join(lines)
