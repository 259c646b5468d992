"""Make docs/images/crf.png: `python docs/make_crf_image.py`.

Four synthetic images; their ground truth at the resolution of a network of stride 16; and the same refined by the CRF.
"""

import cv2
import numpy as np
from image_sheet import write_sheet

from upscore.crf import Bilateral, DenseCRF, Gaussian
from upscore.data.open_dataset import open_dataset

IMAGES, STRIDE = (1, 4, 7, 9), 16
CRF = DenseCRF((Gaussian(2.0, 1.0), Bilateral(12.0, 12.0, 6.0)))


def main() -> None:
    """Arrange the rows and write the sheet."""
    test = open_dataset("shapes", "test")
    colours = test.labels.colours()
    columns = []
    for index in IMAGES:
        sample = test[index]
        assert sample.label is not None
        height, width = sample.label.shape
        truth = np.eye(256, dtype=np.float32)[sample.label][..., : len(test.labels)]
        cells = cv2.resize(truth, (width // STRIDE, height // STRIDE), interpolation=cv2.INTER_AREA)
        coarse = np.maximum(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), 1e-3)
        coarse /= coarse.sum(-1, keepdims=True)
        refined = CRF.refine(coarse, sample.image)
        columns.append([sample.image, colours[coarse.argmax(-1)], colours[refined.argmax(-1)]])
    write_sheet(columns, "crf.png")


if __name__ == "__main__":
    main()
