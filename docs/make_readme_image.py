"""Make docs/images/readme.png: `python docs/make_readme_image.py RUN`.

Six test images of the synthetic dataset, their ground truth, and the predictions of a run. README shows the run of

    upscore train shapes --model unet-backbone --backbone resnet10t --weights none --epochs 10 --batch-size 8 --lr 3e-3 \\
        --set augment.scale=[1,1] --set augment.hue=0.0

(seed 0, 2026-11-29, two cores of an AMD EPYC without native bfloat16), and its mean IoU on the test split (`upscore evaluate RUN shapes
--split test`).
"""

import sys

from image_sheet import write_sheet

from upscore.data.open_dataset import open_dataset
from upscore.inference.predictor import Predictor

IMAGES = 6


def main() -> None:
    """Arrange the columns and write the sheet."""
    test = open_dataset("shapes", "test")
    colours, predictor = test.labels.colours(), Predictor(sys.argv[1], device="cpu")
    columns = []
    for index in range(IMAGES):
        sample = test[index]
        assert sample.label is not None
        columns.append([sample.image, colours[sample.label], colours[predictor.predict(sample.image).label_map]])
    write_sheet(columns, "readme.png")


if __name__ == "__main__":
    main()
