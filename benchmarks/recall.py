"""How many real objects are among the first boxes: recall by the number of proposals, of every proposer.

An object is found if the tight box of it overlaps one of the boxes by at least the threshold.
DeconvNet trains on boxes that overlap an object by 0.5.

    python benchmarks/recall.py DATA [DATA …] --split val
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from timing import machine, report

from upscore.data.open_dataset import open_dataset
from upscore.proposals import Boxes, EdgeBoxes, Proposer, SelectiveSearch, SlidingWindows, boxes_of_objects, proposal_recall

COUNTS = (1, 10, 50, 100, 200, 500, 1000, 2000)
PROPOSERS = {"edge-boxes": EdgeBoxes(), "selective-search": SelectiveSearch(), "windows": SlidingWindows()}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("data", nargs="+")
    flags.add_argument("--split", default="val")
    flags.add_argument("--overlap", type=float, nargs="+", default=[0.5, 0.7])
    flags.add_argument("--images", type=int, default=100, help="of each dataset, at most, evenly spread")
    values = flags.parse_args()
    results = {}
    for data in values.data:
        dataset = open_dataset(data, values.split)
        few = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, min(values.images, len(dataset)))})
        images = [(sample.image, boxes_of_objects(sample.instances)[1]) for sample in (dataset[i] for i in few)]
        results[dataset.name] = {"images": len(few), "objects": sum(len(tight) for _, tight in images)} | {
            name: recall_of(propose, images, values.overlap) for name, propose in PROPOSERS.items()
        }
    report(
        {
            "what": "recall of objects by the number of proposals",
            "split": values.split,
            "results": results,
            **machine("opencv-contrib-python-headless"),
        }
    )


def recall_of(propose: Proposer, images: list[tuple[np.ndarray, Boxes]], thresholds: list[float]) -> dict:
    """Return recall in per cent by threshold and count, and how many boxes and seconds an image takes."""
    began = time.process_time()
    found = [propose(image) for image, _ in images]
    seconds = time.process_time() - began
    shares, _ = proposal_recall([(tight, boxes) for (_, tight), boxes in zip(images, found, strict=True)], COUNTS, min_ious=thresholds)
    table = {
        f"overlap {threshold}": dict(zip(map(str, COUNTS), (100 * shares[:, i]).round(1).tolist(), strict=True))
        for i, threshold in enumerate(thresholds)
    }
    each = {"boxes an image": sum(map(len, found)) / len(images), "processor seconds an image": seconds / len(images)}
    return table | {name: round(value, 2) for name, value in each.items()}


if __name__ == "__main__":
    main()
