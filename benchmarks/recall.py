"""How many real objects are among the first boxes: recall by the number of proposals, of every proposer.

An object is found if the tight box of it overlaps one of the boxes by at least the threshold.
DeconvNet trains on boxes that overlap an object by 0.5.

    python benchmarks/recall.py DATA [DATA …] --split val
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from measuring import machine, report

from upscore.data.opening import open_dataset
from upscore.proposals import EdgeBoxes, SelectiveSearch, SlidingWindows, boxes_of_objects, overlaps

COUNTS = (1, 10, 50, 100, 200, 500, 1000, 2000)
PROPOSERS = {"edge-boxes": EdgeBoxes(), "selective-search": SelectiveSearch(), "windows": SlidingWindows()}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("data", nargs="+")
    flags.add_argument("--split", default="val")
    flags.add_argument("--overlap", type=float, nargs="+", default=[0.5, 0.7])
    flags.add_argument("--pictures", type=int, default=100, help="of each dataset, at most, evenly spread")
    values = flags.parse_args()
    results = {}
    for data in values.data:
        dataset = open_dataset(data, values.split)
        few = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, min(values.pictures, len(dataset)))})
        pictures = [(sample.image, boxes_of_objects(sample.instances)[1]) for sample in (dataset[i] for i in few)]
        results[dataset.name] = {"pictures": len(few), "objects": sum(len(tight) for _, tight in pictures)} | {
            name: recall_of(propose, pictures, values.overlap) for name, propose in PROPOSERS.items()
        }
    report(
        {
            "what": "recall of objects by the number of proposals",
            "split": values.split,
            "results": results,
            **machine("opencv-contrib-python-headless"),
        }
    )


def recall_of(propose, pictures, thresholds) -> dict:
    """Return recall in per cent by threshold and count, and how many boxes and seconds a picture takes."""
    found = {(threshold, count): 0 for threshold in thresholds for count in COUNTS}
    objects = boxes = 0
    began = time.process_time()
    guesses = [propose(image) for image, _ in pictures]
    seconds = time.process_time() - began
    for guess, (_, tight) in zip(guesses, pictures, strict=True):
        boxes += len(guess)
        objects += len(tight)
        shared = overlaps(guess, tight) if len(guess) else np.zeros((1, len(tight)))
        for threshold, count in found:
            found[threshold, count] += int((shared[:count].max(0) >= threshold).sum()) if len(tight) else 0
    table = {f"overlap {t}": {str(c): round(100 * found[t, c] / max(1, objects), 1) for c in COUNTS} for t in thresholds}
    return table | {"boxes a picture": round(boxes / len(pictures)), "processor seconds a picture": round(seconds / len(pictures), 2)}


if __name__ == "__main__":
    main()
