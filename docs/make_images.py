"""Make docs/images/demo.png from what `make demo` left: `python docs/make_images.py demo`.

Six new images, what they are, and what the demo's network says.
"""

import sys
from pathlib import Path

import numpy as np

from upscore.data.mask_files import read_label
from upscore.data.open_dataset import open_dataset
from upscore.data.png_files import write_image

ROWS, GAP, ZOOM = ("image", "truth", "prediction"), 4, 2


def write_sheet(columns: list[list[np.ndarray]], name: str, *, zoom: int = ZOOM) -> None:
    """Write columns of images (H, W, 3) of one size, side by side, enlarged."""
    stacked = [np.concatenate([np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in cells]) for cells in columns]
    sheet = np.concatenate(stacked, axis=1)[:-GAP, :-GAP]
    target = Path(__file__).with_name("images") / name
    write_image(target, np.ascontiguousarray(sheet.repeat(zoom, 0).repeat(zoom, 1)))
    print(target)


def main() -> None:
    """Lay the rows out and write the sheet."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    test = open_dataset("shapes", "test")
    colours = test.labels.colours()
    columns = []
    for i, path in enumerate(sorted((demo / "images").glob("*.png"))):
        sample = test[i]
        assert sample.label is not None
        columns.append([sample.image, colours[sample.label], colours[read_label(demo / "predictions" / path.name)]])
    write_sheet(columns, "demo.png")


if __name__ == "__main__":
    main()
