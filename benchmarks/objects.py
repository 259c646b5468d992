"""DeconvNet's claims, on trained networks: stages, proposals, object sizes, the ensemble with FCN-8s, and the CRF.

    python benchmarks/objects.py DATA --fcn RUN --whole RUN --stage1 RUN --stage2 RUN --alone RUN --field 199

Any of the runs may be left out, and what needs it is left out too. Every network runs once over an image;
what is put together from their answers is evaluated side by side: mean IoU, boundary IoU, and mean IoU among
objects of a size, which is that of the pixels in their tight boxes enlarged by 1.2. Small objects are less
than a quarter of FCN's field of view along their longer side, large ones more than all of it. ``alone`` is
a network that learned from proposals at once, for as many steps as the two stages together.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from timing import machine, report

from upscore.data.open_dataset import open_dataset
from upscore.inference.crf_postprocess import crf
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.proposal_aggregation import boxes_for, scores_over_boxes
from upscore.metrics import BorderCounts, ConfusionMatrix
from upscore.proposals import boxes_of_objects, enlarge_boxes
from upscore.settings import CRFSettings, ProposalSettings

COUNTS = (1, 5, 10, 20, 50, 100)
CRFS = {
    "usual CRF": CRFSettings(),
    "milder CRF": CRFSettings(gaussian_weight=1.0, bilateral_sigma=30.0, bilateral_sigma_colour=10.0, bilateral_weight=4.0),
}


class Candidate:
    """What is counted of one way of labelling."""

    def __init__(self, classes: int) -> None:
        self.matrix, self.borders = ConfusionMatrix(classes), BorderCounts(classes)
        self.sizes = {size: ConfusionMatrix(classes) for size in ("small", "medium", "large")}

    def add(self, truth: np.ndarray, label_map: np.ndarray, among: dict[str, np.ndarray]) -> None:
        self.matrix.add(truth, label_map)
        self.borders.add(truth, label_map)
        for size, inside in among.items():
            if inside.any():
                self.sizes[size].add(truth[inside][None], label_map[inside][None])

    def row(self) -> dict:
        def percent(value: float) -> float | None:
            return None if value != value else round(100 * value, 1)

        sizes = {size: percent(matrix.metrics().mean_iou) for size, matrix in self.sizes.items()}
        return {
            "mean IoU": percent(self.matrix.metrics().mean_iou),
            "boundary IoU": percent(self.borders.metrics().boundary_iou),
            **sizes,
        }


def among_objects(instances: np.ndarray, field: float) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Return where objects of each size are, (H, W) yes or no, and how many."""
    found: Counter[str] = Counter()
    places = {size: np.zeros(instances.shape, bool) for size in ("small", "medium", "large")}
    _, tight = boxes_of_objects(instances)
    sides = (tight.corners[:, 2:] - tight.corners[:, :2]).max(1)
    for side, (left, top, right, bottom) in zip(sides, enlarge_boxes(tight, 1.2).clipped(*instances.shape).corners, strict=True):
        size = "small" if side < field / 4 else "large" if side > field else "medium"
        places[size][top:bottom, left:right] = True
        found[size] += 1
    return places, found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("data")
    for name in ("fcn", "whole", "stage1", "stage2", "alone"):
        flags.add_argument(f"--{name}", type=Path)
    flags.add_argument("--split", default="val")
    flags.add_argument("--field", type=float, default=199, help="FCN's field of view, in pixels")
    flags.add_argument("--images", type=int, default=1000)
    flags.add_argument("--crop-side", type=int, default=224, help="of what a network sees of a box, in pixels")
    values = flags.parse_args()
    dataset = open_dataset(values.data, values.split)
    settings = ProposalSettings(max_proposals=max(COUNTS), crop_side=values.crop_side)
    if not any((values.stage1, values.stage2, values.alone)):
        flags.error("give at least one of --stage1, --stage2, --alone: networks that use proposals")
    networks = {name: Predictor(path) for name in ("fcn", "whole", "stage1", "stage2", "alone") if (path := getattr(values, name))}
    scorers = {name: networks[name].members[0].segmenter.scores for name in ("stage1", "stage2", "alone") if name in networks}
    evaluated: dict[str, Candidate] = {}
    objects: Counter[str] = Counter()
    images = range(min(values.images, len(dataset)))
    for index in images:
        sample = dataset[index]
        image = image_to_tensor(sample.image)
        among, found = among_objects(sample.instances, values.field)
        objects += found
        probs: dict[str, torch.Tensor] = {}
        for name in ("fcn", "whole"):
            if name in networks:
                probs[name] = networks[name].predict_probs(image[None])[0]
        if "stage2" in networks:
            probs["stage2, whole image"] = networks["stage2"].predict_probs(image[None])[0]
        boxes, _ = boxes_for(image, networks[next(iter(scorers))].proposer(settings), settings)
        for name, score in scorers.items():
            at = COUNTS if name == "stage2" else (50,)
            few = boxes if name == "stage2" else boxes[:50]
            canvases = dict(scores_over_boxes(score, image, few, settings, at=at))
            for count in at:
                probs[f"{name}, {count} proposals"] = canvases[min(count, len(few))].softmax(0)
            if name == "stage2":
                ((_, mean),) = scores_over_boxes(score, image, boxes[:50], settings.model_copy(update={"aggregate": "mean"}))
                probs["stage2, 50 proposals, mean"] = mean.softmax(0)
                raw = canvases[min(50, len(few))]
        if "fcn" in networks and "stage2" in networks:
            probs["ensemble"] = (probs["fcn"] + probs["stage2, 50 proposals"]) / 2
            fcn = networks["fcn"].members[0].segmenter.scores(image[None])[0]
            probs["ensemble, scores multiplied"] = (raw.clamp_min(0) * fcn.clamp_min(0)).softmax(0)
        for name in ("fcn", "whole", "stage1, 50 proposals", "stage2, 50 proposals", "ensemble"):
            for how, numbers in CRFS.items():
                if name in probs:
                    one = probs[name]
                    probs[f"{name} + {how}"] = crf(lambda images, one=one: one[None], numbers.build())(image[None])[0]
        for name, one in probs.items():
            evaluated.setdefault(name, Candidate(len(dataset.labels))).add(sample.label, one.argmax(0).byte().numpy(), among)
        print(f"{index + 1}/{len(images)}", flush=True, file=sys.stderr)
    rows = {name: one.row() for name, one in evaluated.items()}
    report(
        {
            "what": "DeconvNet's claims",
            "data": dataset.name,
            "images": len(images),
            "objects": objects,
            "rows": rows,
            **machine("torch"),
        }
    )


if __name__ == "__main__":
    main()
