"""What a decoder can draw at all: a few images learned by heart: python benchmarks/thin_classes.py DATA

SegNet (a quarter of its channels) and FCN-32s on resnet10t, from nothing, 250 steps each over the same
eight images, four a step, cut to the 224×224 pixels at their top left, AdamW 3e-3, cross-entropy. Prints
the IoU of each class on these very crops, in per cent, as JSON.
"""

from __future__ import annotations

import argparse
import json

import torch
import torch.nn.functional as F

from upscore.data.open_dataset import open_dataset
from upscore.inference.image_tensors import image_to_tensor
from upscore.metrics import ConfusionMatrix
from upscore.models.factory import create_model
from upscore.types import IGNORE

NETWORKS = {"segnet": {"width": 0.25}, "fcn32s": {"backbone": "resnet10t"}}
IMAGES, SIDE = 8, 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=250)
    values = parser.parse_args()
    dataset = open_dataset(values.data, "train")
    samples = [dataset[i * len(dataset) // IMAGES] for i in range(IMAGES)]
    images = torch.stack([image_to_tensor(sample.image[:SIDE, :SIDE]) for sample in samples])
    labels = torch.stack([torch.from_numpy(sample.label[:SIDE, :SIDE].copy()) for sample in samples])
    for name, arguments in NETWORKS.items():
        torch.manual_seed(0)
        model = create_model(name, num_classes=len(dataset.labels), **arguments).train()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for step in range(values.steps):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / values.steps) ** 0.9
            some = torch.arange(IMAGES)[step % 2 :: 2]
            loss = F.cross_entropy(model(images[some]), labels[some].long(), ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        matrix = ConfusionMatrix(len(dataset.labels))
        model.eval()
        with torch.inference_mode():
            for image, label in zip(images, labels, strict=True):
                matrix.add(label.numpy(), model(image[None]).argmax(1)[0].to(torch.uint8).numpy())
        metrics = matrix.metrics().as_dict(dataset.labels)
        found = {"loss": round(float(loss.detach()), 3), "mean_iou": round(100 * metrics["mean_iou"], 1)} | {
            kind: None if of["iou"] is None else round(100 * of["iou"], 1) for kind, of in metrics["classes"].items()
        }
        print(json.dumps({name: found}), flush=True)


if __name__ == "__main__":
    main()
