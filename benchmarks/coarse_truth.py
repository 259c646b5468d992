"""What is left of the truth at a network's coarsest cells: python benchmarks/coarse_truth.py DATA [--split val]

The classes' shares are averaged over cells of s × s pixels, interpolated back bilinearly, and the
greatest taken: a network of stride s without skips that knows all shares. It is no bound, since a
network may give thin things more than their share, but says what stands against them. Prints IoU
in per cent, by stride and class, as JSON.
"""

from __future__ import annotations

import argparse
import json

import torch
import torch.nn.functional as F

from upscore.data.open_dataset import open_dataset
from upscore.metrics import ConfusionMatrix
from upscore.types import IGNORE

STRIDES = (32, 16, 8, 4, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, arguments.split)
    classes = len(dataset.labels)
    found = {}
    for stride in STRIDES:
        matrix = ConfusionMatrix(classes)
        for index in range(len(dataset)):
            truth = torch.from_numpy(dataset[index].label)
            evaluated = truth != IGNORE
            shares = torch.zeros(classes + 1, *truth.shape).scatter_(0, torch.where(evaluated, truth, classes).long()[None], 1.0)[:classes]
            height, width = truth.shape
            cells = F.avg_pool2d(F.pad(shares[None], (0, -width % stride, 0, -height % stride)), stride)
            back = F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)[0, :, :height, :width]
            matrix.add(truth.numpy(), back.argmax(0).to(torch.uint8).numpy())
        metrics = matrix.metrics().as_dict(dataset.labels)
        found[stride] = {"mean_iou": round(100 * metrics["mean_iou"], 1)} | {
            name: round(100 * of_class["iou"], 1) for name, of_class in metrics["classes"].items()
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
