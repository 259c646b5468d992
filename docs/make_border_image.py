"""Make docs/images/border.png: `upscore demo`, then `python docs/make_border_image.py demo/run`.

A synthetic image with three points, in a corner, at an edge and in the middle; and for each of them, how strongly each pixel of the image
changes the score of the class predicted there (square roots, each from 0 to its 99.8 % quantile).
"""

import sys

import cv2
import numpy as np
import numpy.typing as npt
from image_sheet import write_sheet

from upscore.data.open_dataset import open_dataset
from upscore.explain.receptive_fields import effective_receptive_fields
from upscore.html.drawing import colour_heat
from upscore.inference.image_tensors import image_to_tensor
from upscore.models.bundle import Bundle

IMAGE, POINTS = 4, ((4, 4), (64, 155), (64, 80))
QUANTILE = 0.998


def main() -> None:
    """Draw the image and the three maps, and write the sheet."""
    image = open_dataset("shapes", "val")[IMAGE].image
    model = Bundle.load(sys.argv[1]).build()
    fields = effective_receptive_fields(model, image_to_tensor(image)[None], POINTS)
    marked = image.copy()
    for point in POINTS:
        mark(marked, point)
    write_sheet([[marked], *([draw(field, point)] for field, point in zip(fields, POINTS, strict=True))], "border.png", zoom=1)


def draw(field: npt.NDArray[np.float32], point: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a map of derivatives in colours, with its point."""
    heat = colour_heat(np.sqrt(field / np.quantile(field, QUANTILE)))
    mark(heat, point)
    return heat


def mark(image: npt.NDArray[np.uint8], point: tuple[int, int]) -> None:
    """Draw a ring around a point, row and column."""
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.circle(image, point[::-1], 4, colour, thickness, cv2.LINE_AA)


if __name__ == "__main__":
    main()
