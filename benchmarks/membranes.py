"""The two errors of the ISBI 2012 challenge that need no warping, of a network that tells cells from membranes.

    python benchmarks/membranes.py RUN DATA [--split val] [--turned]

DATA has the classes membrane and cell. Pixel error: the share of wrong pixels. Rand error: one
minus the greatest F-score over thresholds of the probability, images averaged, as the
challenge does; cells are connected pieces. ``--turned`` averages the eight turned and mirrored
images; U-Net's paper averages seven turned ones.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from upscore.data.open_dataset import open_dataset
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.metrics import connected_components, rand_error
from upscore.types import IGNORE

THRESHOLDS = [round(0.05 * i, 2) for i in range(2, 20)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--turned", action="store_true")
    arguments = parser.parse_args()
    predictor, dataset = Predictor(arguments.bundle), open_dataset(arguments.data, arguments.split)
    cell = dataset.labels.names.index("cell")
    wrong, rand = [], {threshold: [] for threshold in THRESHOLDS}
    for sample in (dataset[i] for i in range(len(dataset))):
        images = image_to_tensor(sample.image)[None]
        probs = probability(predictor, images, cell, turned=arguments.turned)
        evaluated = sample.label != IGNORE
        wrong.append(float(((probs > 0.5) != (sample.label == cell))[evaluated].mean()))
        truth = connected_components(sample.label == cell)
        for threshold in THRESHOLDS:
            rand[threshold].append(rand_error(truth, connected_components(probs > threshold)))
    means = {threshold: float(np.mean(errors)) for threshold, errors in rand.items()}
    best = min(means, key=means.__getitem__)
    print(json.dumps({"images": len(dataset), "pixel_error": float(np.mean(wrong)), "rand_error": means[best], "threshold": best}))


def probability(predictor: Predictor, images: torch.Tensor, cell: int, *, turned: bool) -> np.ndarray:
    """Return the probability of a cell, (H, W)."""
    total, count = torch.zeros(images.shape[-2:]), 0
    for quarter in range(4 if turned else 1):
        for mirrored in (False, True) if turned else (False,):
            view = torch.rot90(images.flip(-1) if mirrored else images, quarter, (-2, -1))
            back = torch.rot90(predictor.predict_probs(view)[0, cell].cpu(), -quarter, (-2, -1))
            total += back.flip(-1) if mirrored else back
            count += 1
    return (total / count).numpy()


if __name__ == "__main__":
    main()
