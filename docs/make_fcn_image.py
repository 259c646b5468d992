"""Make docs/images/fcn.png: `upscore demo`, then `python docs/make_fcn_image.py demo/run`.

Figure 4 of the paper for one network: synthetic images, what FCN-8s predicts without its skips, with that from pool4, and with both, and
the ground truth.
"""

import sys

import numpy as np
import numpy.typing as npt
from image_sheet import write_sheet

from upscore.data.open_dataset import open_dataset
from upscore.explain.skip_contributions import predict_by_skips
from upscore.inference.image_tensors import image_to_tensor
from upscore.models.bundle import Bundle
from upscore.types import Prediction

IMAGES = (4, 12, 31)


def main() -> None:
    """Arrange the rows and write the sheet."""
    bundle, data = Bundle.load(sys.argv[1]), open_dataset("shapes", "val")
    model = bundle.build()
    rows = []
    for index in IMAGES:
        sample = data[index]
        assert sample.label is not None
        sums = [skip.label_map for skip in predict_by_skips(model, image_to_tensor(sample.image)[None])]
        rows.append([sample.image, *(draw(label_map, bundle) for label_map in (*sums, sample.label))])
    write_sheet([list(column) for column in zip(*rows, strict=True)], "fcn.png", zoom=1)


def draw(label_map: npt.NDArray[np.uint8], bundle: Bundle) -> npt.NDArray[np.uint8]:
    """Return the classes in their colours."""
    return Prediction(label_map, bundle.labels).colours()


if __name__ == "__main__":
    main()
