"""Sheets of images side by side, for docs/images."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.png_files import write_image

GAP, ZOOM = 4, 2


def write_sheet(columns: list[list[npt.NDArray[np.uint8]]], name: str, *, zoom: int = ZOOM) -> None:
    """Write columns of images (H, W, 3) of one size, side by side, enlarged, as docs/images/NAME."""
    stacked = [np.concatenate([np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in cells]) for cells in columns]
    sheet = np.concatenate(stacked, axis=1)[:-GAP, :-GAP]
    target = Path(__file__).with_name("images") / name
    write_image(target, np.ascontiguousarray(sheet.repeat(zoom, 0).repeat(zoom, 1)))
    print(target)
