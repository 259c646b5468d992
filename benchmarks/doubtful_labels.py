"""Damage masks by kind, and measure which score ranks the damaged images first: ``python benchmarks/doubtful_labels.py RUN DATA``.

One object of each image is given another class (swapped), left out (dropped), drawn 3 pixels larger or smaller (dilated, eroded), or gets
a hole; or the mask is moved by 5 pixels (shifted), or an object that is not there is added (added). Two classes become one in the whole
image (merged). The AUROC of each score is printed for each kind: the probability that a damaged image has a larger one than a clean image.
Where cleanlab is installed, its own softmin is used; otherwise its published formula, and the output says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from timing import machine, report

from upscore.data.dataset import read_as
from upscore.data.open_dataset import open_dataset
from upscore.inference.predictor import Predictor
from upscore.review.doubt import doubt
from upscore.types import IGNORE

Mask = npt.NDArray[np.uint8]
DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
MIN_AREA = 80


def components(mask: Mask, classes: int) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Return the connected components of all classes but the first, and their classes."""
    found = []
    for label in range(1, classes):
        count, numbers, facts, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        found += [(label, numbers == number) for number in range(1, count) if facts[number, cv2.CC_STAT_AREA] >= MIN_AREA]
    return found


def shifted(mask: Mask, classes: int, rng: np.random.Generator) -> Mask:
    angle = rng.uniform(0, 2 * np.pi)
    move = np.float32([[1, 0, round(5 * np.cos(angle))], [0, 1, round(5 * np.sin(angle))]])
    return cv2.warpAffine(mask, move, mask.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def added(mask: Mask, classes: int, rng: np.random.Generator) -> Mask:
    height, width = mask.shape
    for _ in range(200):
        radius = int(rng.integers(max(6, height // 25), max(8, height // 10)))
        y, x = int(rng.integers(radius, height - radius)), int(rng.integers(radius, width - radius))
        drawn = np.zeros_like(mask)
        cv2.ellipse(drawn, (x, y), (radius, int(radius * rng.uniform(0.6, 1.4))), 0, 0, 360, 1, -1)
        if (mask[drawn > 0] == 0).all():
            return np.where(drawn > 0, rng.integers(1, classes), mask).astype(np.uint8)
    return mask


def merged(mask: Mask, classes: int, rng: np.random.Generator) -> Mask:
    shown = [label for label in np.unique(mask).tolist() if 0 < label < classes]
    if len(shown) < 2:
        return mask
    first, second = rng.permutation(shown)[:2]
    return np.where(mask == first, second, mask).astype(np.uint8)


def of_one_object(change: Callable[[Mask, int, npt.NDArray[np.bool_], int, np.random.Generator], Mask]) -> Callable[..., Mask]:
    def damage(mask: Mask, classes: int, rng: np.random.Generator) -> Mask:
        found = components(mask, classes)
        if not found:
            return mask
        label, inside = found[int(rng.integers(len(found)))]
        return change(mask.copy(), label, inside, classes, rng)

    return damage


@of_one_object
def swapped(mask: Mask, label: int, inside: npt.NDArray[np.bool_], classes: int, rng: np.random.Generator) -> Mask:
    others = [other for other in range(1, classes) if other != label]
    if others:
        mask[inside] = rng.choice(others)
    return mask


@of_one_object
def dropped(mask: Mask, label: int, inside: npt.NDArray[np.bool_], classes: int, rng: np.random.Generator) -> Mask:
    mask[inside] = 0
    return mask


@of_one_object
def dilated(mask: Mask, label: int, inside: npt.NDArray[np.bool_], classes: int, rng: np.random.Generator) -> Mask:
    mask[(cv2.dilate(inside.astype(np.uint8), DISC) > 0) & (mask == 0)] = label
    return mask


@of_one_object
def eroded(mask: Mask, label: int, inside: npt.NDArray[np.bool_], classes: int, rng: np.random.Generator) -> Mask:
    mask[inside & (cv2.erode(inside.astype(np.uint8), DISC) == 0)] = 0
    return mask


@of_one_object
def holed(mask: Mask, label: int, inside: npt.NDArray[np.bool_], classes: int, rng: np.random.Generator) -> Mask:
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = (int(value) for value in np.unravel_index(int(depth.argmax()), depth.shape))
    if depth[y, x] >= 4:
        cv2.circle(mask, (x, y), int(0.6 * depth[y, x]), 0, -1)
    return mask


KINDS = {
    "swapped": swapped, "dropped": dropped, "shifted": shifted, "dilated": dilated, "eroded": eroded, "added": added, "holed": holed,
    "merged": merged,
}  # fmt: skip


def cleanlab_softmin(probs: npt.NDArray[np.float32], mask: Mask) -> float | None:
    """Return 1 - cleanlab's softmin, or None where cleanlab is not installed or the mask has ignored pixels, which it does not take."""
    try:
        from cleanlab.segmentation.rank import get_label_quality_scores
    except ImportError:
        return None
    if (mask == IGNORE).any():
        return None
    return 1 - float(get_label_quality_scores(mask[None].astype(int), probs[None], method="softmin", verbose=False)[0][0])


def scores(probs: npt.NDArray[np.float32], mask: Mask) -> dict[str, float]:
    """Return how doubtful a mask is by each score."""
    known = mask != IGNORE
    given = np.take_along_axis(probs, np.where(known, mask, 0)[None].astype(np.int64), 0)[0]
    values, predicted = given[known].astype(np.float64), probs.argmax(0)
    weights = np.exp((1 - values) / 0.1)
    overlaps = [
        ((predicted == k) & (mask == k)).sum() / max(1, (((predicted == k) | (mask == k)) & known).sum())
        for k in range(len(probs)) if ((mask == k) | ((predicted == k) & known)).any()
    ]  # fmt: skip
    softmin = cleanlab_softmin(probs, mask)
    worst = np.sort(values)[: max(1, len(values) // 100)]
    return {
        "upscore": doubt(np.where(known, given, np.nan)),
        "softmin": 1 - float((values * weights).sum() / weights.sum()) if softmin is None else softmin,
        "1 - p, worst 1 %": 1 - float(worst.mean()),
        "1 - mean IoU": 1 - float(np.mean(overlaps)),
        "1 - mean p": 1 - float(values.mean()),
    }


def auroc(damaged: list[float], clean: list[float]) -> float:
    """Return the probability that a damaged image has a larger score than a clean one; equal ones count half."""
    first, second = np.array(damaged)[:, None], np.array(clean)[None]
    return float((first > second).mean() + 0.5 * (first == second).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    predictor = Predictor(arguments.run)
    dataset = read_as(open_dataset(arguments.data, arguments.split), predictor.input)
    classes, clean = len(predictor.labels), list[dict[str, float]]()
    damaged: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    right = []
    for index in range(min(arguments.images, len(dataset))):
        sample = dataset[index]
        probs, mask = predictor.predict(sample.image, probs=True).probs, sample.label
        right.append(float((probs.argmax(0) == mask)[mask != IGNORE].mean()))
        clean.append(scores(probs, mask))
        for number, (kind, damage) in enumerate(KINDS.items()):
            changed = damage(mask, classes, np.random.default_rng((index, number)))
            if (changed != mask).any():
                damaged[kind].append(scores(probs, changed))
    found = {kind: rows for kind, rows in damaged.items() if rows}
    table = {
        name: {kind: round(auroc([row[name] for row in rows], [row[name] for row in clean]), 3) for kind, rows in found.items()}
        for name in clean[0]
    }
    try:
        from cleanlab import __version__ as cleanlab
    except ImportError:
        cleanlab = "not installed: softmin by its published formula"
    report(
        {
            "what": "AUROC of scores by which damaged masks are ranked", "run": arguments.run, "data": arguments.data,
            "images": len(clean), "pixel_accuracy": round(float(np.mean(right)), 4),
            "damaged": {kind: len(rows) for kind, rows in found.items()}, "cleanlab": cleanlab,
            "results": table, **machine("numpy", "torch"),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
