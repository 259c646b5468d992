"""Make docs/images/invariance.svg: `upscore demo`, then `python docs/make_invariance_image.py demo/run`.

Objects of the synthetic dataset, each alone on a plain ground, are shifted, rotated and scaled. Curves of the mean probability of the
object's class over its own pixels: each object thin, their mean thick.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from svg_chart import Curves, write_charts
from torch import nn

from upscore.data.open_dataset import open_dataset
from upscore.inference.image_tensors import image_to_tensor
from upscore.models.bundle import Bundle

SIZE, CENTRE = (160, 224), (80, 80)
SIDES, COUNT = (20, 32), 8
"""Square roots of the areas of objects that are chosen, in pixels, and how many."""

SHIFTS, ANGLES, SCALES = range(0, 65, 2), range(0, 361, 10), np.round(2 ** np.arange(-2, 2.01, 0.25), 2)


@dataclass(frozen=True)
class Lone:
    """An object alone in the centre of a plain ground."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    kind: int  #: its class
    ground: tuple[int, int, int]


def main() -> None:
    """Transform the objects, and draw the curves."""
    model = Bundle.load(sys.argv[1]).build().eval()
    objects = choose_objects(model)
    charts = []
    for title, unit, values in (("shifted to the right", "pixels", SHIFTS), ("rotated", "degrees", ANGLES), ("scaled", "times", SCALES)):
        curves = [[respond(model, lone, title, float(value)) for value in values] for lone in objects]
        charts.append(Curves(title, unit, [float(value) for value in values], curves, logarithmic=title == "scaled"))
        print(title, [round(float(value), 2) for value in np.mean(curves, 0)])
    write_charts(charts, "invariance.svg", f"Probability of the class of {len(objects)} objects when they are shifted, rotated and scaled")


def choose_objects(model: nn.Module) -> list[Lone]:
    """Return objects of medium size that are whole, and predicted with a probability above one half as they are."""
    data, chosen = open_dataset("shapes", "val"), list[Lone]()
    for index in range(len(data)):
        sample = data[index]
        assert sample.label is not None
        assert sample.instances is not None
        for number in np.unique(sample.instances[sample.instances > 0]):
            mask = sample.instances == number
            rows, columns = np.nonzero(mask)
            whole = rows.min() > 1 and columns.min() > 1 and rows.max() < mask.shape[0] - 2 and columns.max() < mask.shape[1] - 2
            if whole and SIDES[0] <= mask.sum() ** 0.5 <= SIDES[1] and max(np.ptp(rows), np.ptp(columns)) < 48:
                lone = isolate(sample.image, sample.label, mask)
                if respond(model, lone, "rotated", 0) > 0.5:
                    chosen.append(lone)
                    break
        if len(chosen) == COUNT:
            break
    return chosen


def isolate(image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> Lone:
    """Return an object in the centre of a ground of the mean colour of the background of its image."""
    red, green, blue = image[label == 0].mean(0).astype(int).tolist()
    rows, columns = np.nonzero(mask)
    canvas, there = np.full((*SIZE, 3), (red, green, blue), np.uint8), np.zeros(SIZE, np.uint8)
    row, column = rows - (rows.min() + rows.max()) // 2 + CENTRE[0], columns - (columns.min() + columns.max()) // 2 + CENTRE[1]
    canvas[row, column], there[row, column] = image[rows, columns], 1
    return Lone(canvas, there, int(label[rows[0], columns[0]]), (red, green, blue))


def respond(model: nn.Module, lone: Lone, title: str, value: float) -> float:
    """Return the mean probability of the object's class over its pixels after a transformation."""
    x, y = float(CENTRE[1]), float(CENTRE[0])
    if title == "shifted to the right":
        matrix = np.array([[1, 0, value], [0, 1, 0]], np.float32)
    else:
        matrix = cv2.getRotationMatrix2D((x, y), value if title == "rotated" else 0, value if title == "scaled" else 1)
    size: Sequence[int] = SIZE[::-1]
    image = cv2.warpAffine(lone.image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=lone.ground)
    mask = cv2.warpAffine(lone.mask, matrix, size, flags=cv2.INTER_NEAREST)
    with torch.no_grad():
        probs = model(image_to_tensor(np.asarray(image, np.uint8))[None])[0].softmax(0)
    return float(probs[lone.kind].numpy()[mask > 0].mean())


if __name__ == "__main__":
    main()
