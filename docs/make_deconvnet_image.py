"""Make docs/images/deconvnet.png: `python docs/make_deconvnet_image.py`; about ten minutes on one core.

Figure 4 of the paper: a synthetic scene, and what the layers of the decoder output for it, from coarse to fine; for each layer the channel
that is more active than any other on one object. The network, an eighth as wide as the paper's, is trained on this scene and another.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from image_sheet import write_sheet

from upscore.data.open_dataset import open_dataset
from upscore.explain.activations import Activation, record_activations, split_at_coarsest
from upscore.explain.explanation import choose_pixel, find_object
from upscore.html.drawing import colour_heat
from upscore.inference.image_tensors import image_to_tensor
from upscore.models.factory import create_model

SCENES, SIZE, CELL = (11, 12), 224, 168
STEPS, WIDTH, LEARNING_RATE = 700, 1 / 8, 1e-3
ROWS = 2


def main() -> None:
    """Train the network, and write its maps as a sheet."""
    torch.manual_seed(0)
    data = open_dataset("shapes", "train", size=(SIZE, SIZE))
    samples = [data[index] for index in SCENES]
    images = torch.stack([image_to_tensor(sample.image) for sample in samples])
    label_maps = np.stack([sample.label for sample in samples if sample.label is not None])
    labels = torch.from_numpy(label_maps).long()
    model = create_model("deconvnet", num_classes=len(data.labels), width=WIDTH)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for step in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, round(loss.item(), 3), flush=True)
    region = find_object(label_maps[0], choose_pixel(label_maps[0]))
    _, decoder = split_at_coarsest(record_activations(model, images[:1], region))
    cells = [enlarge(samples[0].image), *map(draw, [layer for layer in decoder if layer.shape[1] > decoder[0].shape[1]][:9])]
    columns = len(cells) // ROWS
    write_sheet([cells[column::columns] for column in range(columns)], "deconvnet.png", zoom=1)


def draw(layer: Activation) -> npt.NDArray[np.uint8]:
    """Return the first channel of a layer, from 0 to its 99.8 % quantile."""
    values = np.maximum(layer.maps[0], 0)
    return enlarge(colour_heat(values / max(float(np.quantile(values, 0.998)), 1e-6)))


def enlarge(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image in the size of a cell, its pixels in sight."""
    smaller = image.shape[0] > CELL
    return np.asarray(cv2.resize(image, (CELL, CELL), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST), np.uint8)


if __name__ == "__main__":
    main()
