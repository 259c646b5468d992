"""Train on images that ``upscore next`` chooses, and on as many random ones: ``python benchmarks/chosen_images.py``.

A network is trained on a few images of the synthetic dataset; it chooses others among those that are left. Then one network is trained on
the few and the chosen, and one on the few and random ones, both from scratch with the same number of steps. It prints the mean IoU of each
on images that are neither.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import machine, report

import upscore
from upscore.data.convert import convert
from upscore.data.open_dataset import open_dataset
from upscore.inference.predictor import Predictor
from upscore.review.next_images import choose_next


def train_on(pool: Any, chosen: Sequence[int], val: Any, out: Path, *, steps: int, seed: int) -> tuple[Predictor, float]:
    """Train on some of the pool's images, and return the network and its mean IoU on ``val``."""
    few = torch.utils.data.Subset(pool, list(chosen))
    run = upscore.train(
        train=few, val=val, labels=pool.labels, model="unet-backbone", backbone="resnet10t", weights="none", steps=steps, batch_size=8,
        lr=2e-3, out=out, seed=seed, device="cpu", progress=False, validate_every=100_000, workers=0, precision="fp32", patience=0,
    )  # fmt: skip
    predictor = Predictor(run.best)
    return predictor, upscore.evaluate(predictor, val).metrics.mean_iou


def study(folder: Path, val: Any, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """Return the mean IoU of the networks of one seed."""
    pool: Any = open_dataset(folder, "train")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool)).tolist()
    first, rest = order[: arguments.first], order[arguments.first :]
    predictor, before = train_on(pool, first, val, folder.parent / f"first-{seed}", steps=arguments.steps, seed=seed)
    index_of = {str(path): index for index, path in enumerate(pool.image_files)}
    found = choose_next(predictor, [str(pool.image_files[index]) for index in rest], arguments.count)
    chosen = [index_of[str(image.image.path)] for image in found.chosen]
    random = rng.choice(rest, len(chosen), replace=False).tolist()
    results = {"first images": before}
    for name, others in (("and chosen ones", chosen), ("and random ones", random)):
        out = folder.parent / f"{name.split()[1]}-{seed}"
        results[name] = train_on(pool, [*first, *others], val, out, steps=arguments.steps, seed=seed)[1]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=300, help="images to choose from, the first ones included")
    parser.add_argument("--first", type=int, default=20, help="images that the first network is trained on")
    parser.add_argument("--count", type=int, default=40, help="images that are added")
    parser.add_argument("--val", type=int, default=60, help="images to evaluate on")
    parser.add_argument("--size", type=int, default=128, help="height and width, in pixels")
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    side = f"size={arguments.size}x{arguments.size}"
    val = open_dataset(f"shapes:{side},count={arguments.val}", "val")
    with tempfile.TemporaryDirectory() as name:
        pool = Path(name) / "pool"
        convert(f"shapes:{side},count={arguments.pool}", pool, splits=["train"])
        results = {f"seed {seed}": study(pool, val, arguments, seed) for seed in range(arguments.seeds)}
    report({"what": "mean IoU by how the images to label are chosen", **vars(arguments), "results": results, **machine()})


if __name__ == "__main__":
    main()
