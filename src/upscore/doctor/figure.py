"""An image as a page of the doctor shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.html.drawing import as_uri, shrink

__all__ = ["Figure", "as_rgb", "draw_figure"]


@dataclass(frozen=True)
class Figure:
    """An image of the page: a data URI, its size, and what it shows."""

    uri: str
    size: tuple[int, int]
    caption: str


def as_rgb(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Return the first bands of an image as colours, stretched where they are not of 8 bits."""
    bands = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(bands, np.uint8)
    values = np.nan_to_num(bands.astype(np.float32))
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    return np.asarray(np.clip(255 * (values - low) / max(high - low, 1e-9), 0, 255), np.uint8)


def draw_figure(pixels: npt.NDArray[np.uint8], caption: str, *, exact: bool = False) -> Figure:
    """Return an image (H, W, 3) shrunk for the page; with ``exact`` without averages or loss, for label maps."""
    small = shrink(pixels, exact=exact)
    return Figure(as_uri(small, quality=101 if exact else 82), (small.shape[0], small.shape[1]), caption)
