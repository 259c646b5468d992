"""Make docs/images/objects.png: `python docs/make_objects_image.py EDECONVNET shapes/dataset.yaml`.

EDECONVNET is an ensemble of FCN-8s trained in two stages, over 50 proposals, and FCN-8s on whole images (docs/objects.md).
The sheet has four images of the folder that benchmarks/shapes_folder.py writes, with their five best boxes; the predictions of the network
over proposals after one, five and fifty of them; those of the ensemble; and the ground truth.
"""

import sys

import cv2
import numpy as np
from image_sheet import write_sheet

from upscore import Predictor
from upscore.data.open_dataset import open_dataset
from upscore.data.readers.shapes import SHAPES_LABELS
from upscore.data.selection import select
from upscore.evaluation.proposal_sweep import SweepImage, sweep_proposals
from upscore.proposals import Boxes

IMAGES, COUNTS = (3, 13, 25, 41), (1, 5, 50)
LINE, OUTLINE = (255, 255, 255), (0, 0, 0)


def main() -> None:
    """Arrange the columns and write the sheet."""
    model, data = sys.argv[1:]
    val = open_dataset(data, "val")
    colours = SHAPES_LABELS.colours()
    columns: list[list[np.ndarray]] = []

    def show(index: int, image: SweepImage) -> None:
        assert image.sample.label is not None
        maps = [*(image.by_count[count] for count in COUNTS), image.by_mode["ensemble of 2 networks"], image.sample.label]
        columns.append([draw(image.sample.image, image.boxes.best(5)), *(colours[label_map] for label_map in maps)])

    sweep_proposals(Predictor(model), select(val, IMAGES), counts=COUNTS, show=show)
    write_sheet(columns, "objects.png", zoom=1)


def draw(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Return a copy of the image with boxes drawn on it."""
    drawn = image.copy()
    for left, top, right, bottom in np.rint(boxes.corners).astype(int).tolist():
        for colour, thickness in ((OUTLINE, 5), (LINE, 2)):
            cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, thickness, cv2.LINE_AA)
    return drawn


if __name__ == "__main__":
    main()
