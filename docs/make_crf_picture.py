"""Make docs/pictures/crf.png: `python docs/make_crf_picture.py`.

Four embedded pictures; their truth as coarse as a network of stride 16 would know it; and what the CRF makes of that.
"""

from pathlib import Path

import cv2
import numpy as np

from upscore.crf import Bilateral, DenseCRF, Gaussian
from upscore.data.opening import open_dataset
from upscore.data.pictures import write_picture

PICTURES, STRIDE, GAP, ZOOM = (1, 4, 7, 9), 16, 4, 2
CRF = DenseCRF((Gaussian(2.0, 1.0), Bilateral(12.0, 12.0, 6.0)))


def main() -> None:
    """Lay the rows out and write the sheet."""
    test = open_dataset("shapes", "test")
    colours = test.labels.colours()
    columns = []
    for index in PICTURES:
        sample = test[index]
        assert sample.label is not None
        height, width = sample.label.shape
        truth = np.eye(256, dtype=np.float32)[sample.label][..., : len(test.labels)]
        cells = cv2.resize(truth, (width // STRIDE, height // STRIDE), interpolation=cv2.INTER_AREA)
        coarse = np.maximum(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), 1e-3)
        coarse /= coarse.sum(-1, keepdims=True)
        refined = CRF.refine(coarse, sample.image)
        rows = [sample.image, colours[coarse.argmax(-1)], colours[refined.argmax(-1)]]
        columns.append(np.concatenate([np.pad(row, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for row in rows]))
    sheet = np.concatenate(columns, axis=1)[:-GAP, :-GAP]
    target = Path(__file__).with_name("pictures") / "crf.png"
    write_picture(target, np.ascontiguousarray(sheet.repeat(ZOOM, 0).repeat(ZOOM, 1)))
    print(target)


if __name__ == "__main__":
    main()
