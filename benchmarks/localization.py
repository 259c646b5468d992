"""The localisation error of a classifier that has seen no box: scenes with one shape each.

    python benchmarks/localization.py FOLDER

It writes scenes of 128×160 pixels with one shape, trains resnet10t to name it, from nothing, and saves the weights, the class names and the
true boxes of 200 other scenes in FOLDER; then:

    upscore localize FOLDER/images --backbone resnet10t --weights FOLDER/weights.pth --classes FOLDER/classes.txt --truth FOLDER/boxes.csv
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from upscore.data.readers import shapes
from upscore.localization.classifiers import open_classifier
from upscore.models.backbones import import_timm
from upscore.proposals.boxes import boxes_of_objects

SIZE, NAMES, MIN_SIDE = (128, 160), shapes.SHAPES_LABELS.names[1:], 24
BATCH, RATE = 16, 2e-3


def draw(rng: np.random.Generator) -> tuple[np.ndarray, int, list[int]]:
    """Return a scene (H, W, 3) uint8, the class of its shape from 0, and the shape's box."""
    while True:
        sun = rng.uniform(0, math.tau)
        ground = shapes._ground(SIZE, rng.uniform(0, 1), rng)
        label, instances = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.int32)
        scene = shapes._Scene(ground, label, instances, (math.cos(sun), math.sin(sun)), rng)
        kind = int(rng.integers(1, len(NAMES) + 1))
        shapes._draw_object(scene, kind, float(rng.uniform(12, 40)), 1)
        image = np.stack([np.clip(plane, 0, 255) for plane in scene.canvas], axis=-1).astype(np.uint8)
        numbers, boxes = boxes_of_objects(instances)
        if len(numbers):
            left, top, right, bottom = boxes.corners[0].tolist()
            if max(right - left, bottom - top) >= MIN_SIDE and left > 0 and top > 0 and right < SIZE[1] and bottom < SIZE[0]:
                return image, kind - 1, [left, top, right, bottom]


def train(steps: int, rng: np.random.Generator) -> torch.nn.Module:
    torch.manual_seed(0)
    network = import_timm().create_model("resnet10t", num_classes=len(NAMES))
    settings = network.pretrained_cfg
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    seen = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 - step / steps) ** 0.9
        scenes = [draw(rng) for _ in range(BATCH)]
        images = torch.from_numpy(np.stack([image for image, _, _ in scenes])).permute(0, 3, 1, 2).float() / 255
        classes = torch.tensor([kind for _, kind, _ in scenes])
        logits = network((images - mean) / std)
        loss = F.cross_entropy(logits, classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append((loss.item(), (logits.argmax(1) == classes).float().mean().item()))
        if step % 50 == 49:
            print(f"{step + 1}/{steps}  loss {np.mean(seen[-50:], 0)[0]:.3f}, right {np.mean(seen[-50:], 0)[1]:.3f}", file=sys.stderr)
    return network


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--steps", type=int, default=600)
    flags.add_argument("--images", type=int, default=200)
    values = flags.parse_args()
    folder: Path = values.folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = ["image,class,left,top,right,bottom"]
    rng = np.random.default_rng(1)
    for number in range(values.images):
        image, kind, box = draw(rng)
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        lines.append(f"{number:03d}.png,{NAMES[kind]},{','.join(map(str, box))}")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    torch.save(train(values.steps, np.random.default_rng(0)).state_dict(), folder / "weights.pth")
    open_classifier("resnet10t", weights=folder / "weights.pth", num_classes=len(NAMES))  # it opens


if __name__ == "__main__":
    main()
