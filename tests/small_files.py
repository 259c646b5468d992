"""Small images, masks and lists, for datasets in other layouts than folders of images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 8)


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def image(path: Path, value: int | np.ndarray = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8) if isinstance(value, int) else value).save(path)
    return path


def mask(*values: int, dtype: str = "u1") -> np.ndarray:
    """A mask of vertical stripes of these values."""
    return np.repeat(np.array([values], dtype), SIZE[0], axis=0).repeat(SIZE[1] // len(values), axis=1)
