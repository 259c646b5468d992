"""Make docs/images/unet.png: `python docs/make_unet_image.py`.

A synthetic image with a grid drawn over it, its objects, and U-Net's border weights between them; below, the same after an
elastic deformation.
"""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from image_sheet import write_sheet

from upscore.data.open_dataset import open_dataset
from upscore.data.transforms import Augmentation, rng_for
from upscore.data.unet_border_weights import BorderWeighting
from upscore.types import Sample

IMAGE, STEP, WHITE = 11, 16, 255
DEFORMATION = Augmentation(elastic=10, border="mirror")
WEIGHTING = BorderWeighting(weight=10, sigma=5, border_class=0)


def main() -> None:
    """Arrange the rows and write the sheet."""
    sample = open_dataset("shapes", "train")[IMAGE]
    image = sample.image.copy()
    image[STEP // 2 :: STEP] = image[:, STEP // 2 :: STEP] = WHITE
    original = replace(sample, image=image)
    deformed = DEFORMATION(original, rng=rng_for(0, 0, sample.key))
    rows = [draw(WEIGHTING.add_weights(drawn)) for drawn in (original, deformed)]
    write_sheet([list(column) for column in zip(*rows, strict=True)], "unet.png")


def draw(sample: Sample) -> list[npt.NDArray[np.uint8]]:
    """Return an image, its objects in different colours, and the border weights from dark (0) to light (10)."""
    assert sample.instances is not None
    assert sample.weights is not None
    hues = 37 * sample.instances % 180
    objects = np.stack([hues, np.full_like(hues, 140), np.where(sample.instances > 0, 235, 40)], -1).astype(np.uint8)
    weights = (255 * (sample.weights - 1) / WEIGHTING.weight).astype(np.uint8)  # without the class weight, which is 1 here
    heat = cv2.applyColorMap(weights, cv2.COLORMAP_INFERNO)
    return [sample.image, cv2.cvtColor(objects, cv2.COLOR_HSV2RGB), cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)]


if __name__ == "__main__":
    main()
