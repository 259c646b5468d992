"""Teach DeconvNet's encoder to name the shape in the middle of a cut, as VGG16 was taught to name what is in an image.

    python benchmarks/shapes_encoder.py FOLDER

The bundle in FOLDER is a DeconvNet with an eighth of its channels, of which only the encoder has learned:
``upscore train --start-from FOLDER``. The scenes are of another seed than those that docs/objects.md trains and evaluates on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.data.object_crops import find_objects
from upscore.data.readers.shapes import SHAPES_LABELS, open_shapes
from upscore.models.bundle import Bundle
from upscore.models.encoder_decoder import encode
from upscore.models.factory import create_model
from upscore.ops.box_crop import Corners, crop_boxes
from upscore.proposals import enlarge_boxes

Cut = tuple[Tensor, Corners, int]
LEAST_SIDE, LEAST_AREA, OF_A_SCENE, MIXED = 16, 60, 12, 600


def cuts(rng: np.random.Generator) -> Iterator[Cut]:
    """Yield scenes, a box in each, and the class of what it is around; those of one scene follow one another."""
    scenes = open_shapes("train", size=(240, 320), count=100_000, seed=17)
    for index in range(len(scenes)):
        sample = scenes[index]
        numbers, tight, classes = find_objects(sample, SHAPES_LABELS)
        sides = (tight.corners[:, 2:] - tight.corners[:, :2]).max(1)
        assert sample.instances is not None
        areas = np.bincount(sample.instances.ravel(), minlength=numbers.max() + 1)[numbers]
        picked = rng.permutation(np.flatnonzero((sides >= LEAST_SIDE) & (areas >= LEAST_AREA)))[:OF_A_SCENE]
        image = torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255
        for box, kind in zip(enlarge_boxes(tight, 1.2).corners[picked].tolist(), classes[picked].tolist(), strict=True):
            yield image, tuple(box), kind


def batches(rng: np.random.Generator, sizes: list[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, classes) of each size (number, side), mixed from many scenes, half of them mirrored."""
    source, pool = cuts(rng), []
    for number, side in sizes:
        while len(pool) < MIXED:
            pool.append(next(source))
        taken = [pool.pop(int(rng.integers(len(pool)))) for _ in range(number)]
        images = torch.stack([crop_boxes(image, [box], side)[0] for image, box, _ in taken])
        mirrored = torch.rand(number) < 0.5
        images[mirrored] = images[mirrored].flip(-1)
        yield images, torch.tensor([kind for _, _, kind in taken])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--width", type=float, default=0.125)
    flags.add_argument("--steps", type=int, default=1200, help="of 48 cuts of 112×112; an eighth as many of 24 of 224×224 follow")
    flags.add_argument("--rate", type=float, default=3e-3)
    values = flags.parse_args()
    torch.manual_seed(0)
    arguments = {"num_classes": len(SHAPES_LABELS), "width": values.width}
    network = create_model("deconvnet", **arguments)
    head = nn.Linear(round(512 * values.width), len(SHAPES_LABELS))
    optimizer = torch.optim.AdamW([*network.encoder.parameters(), *head.parameters()], lr=values.rate, weight_decay=1e-4)
    sizes = [(48, 112)] * values.steps + [(24, 224)] * (values.steps // 8)
    seen = []
    for step, (images, classes) in enumerate(batches(np.random.default_rng(0), sizes)):
        for group in optimizer.param_groups:
            group["lr"] = values.rate * min(1, (step + 1) / 20) * (1 - step / len(sizes)) ** 0.9
        pooled, _ = encode(network.encoder, network.normalization(images))
        scores = head(pooled.mean((2, 3)))
        loss = F.cross_entropy(scores, classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append((loss.item(), (scores.argmax(1) == classes).float().mean().item()))
        if step % 25 == 24:
            print(f"{step + 1}/{len(sizes)}  loss {np.mean(seen[-25:], 0)[0]:.3f}, right {np.mean(seen[-25:], 0)[1]:.3f}", file=sys.stderr)
    Bundle.of("deconvnet", arguments, network, SHAPES_LABELS).save(values.folder)


if __name__ == "__main__":
    main()
