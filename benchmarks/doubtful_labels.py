"""Damage masks, and measure which score ranks damaged images first: ``python benchmarks/doubtful_labels.py RUN DATA [RUN DATA …]``.

One object of each image is given another class (swapped), left out (dropped), drawn 3 pixels larger or smaller (dilated, eroded), or gets
a hole; or the mask is moved by 5 pixels (shifted), or an object that is not there is added (added). Two classes become one in the whole
image (merged). The AUROC of each score is printed for each kind: the probability that a damaged image has a larger one than a clean image,
each damaged mask being ranked among all clean ones. Images are drawn anew a thousand times for the interval of the difference between doubt
and the better of the other two. Where cleanlab is installed, its own softmin is used; otherwise its published formula, which the output
says.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from timing import machine, report

from upscore.data.dataset import read_as
from upscore.data.open_dataset import open_dataset
from upscore.inference.predictor import Predictor
from upscore.metrics.confusion import ConfusionMatrix
from upscore.review.doubt import Doubt, combined_doubt, measure_doubt
from upscore.types import IGNORE

Mask = npt.NDArray[np.uint8]
DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
MIN_AREA = 80
SAMPLES = 1000


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
    mask[(cv2.dilate(inside.astype(np.uint8), DISC) > 0) & (mask != IGNORE)] = label
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


def describe(probs: npt.NDArray[np.float32], mask: Mask) -> tuple[Doubt, dict[str, float]]:
    """Return how doubtful a mask is by upscore's three measures, and by other scores."""
    known = mask != IGNORE
    given = np.take_along_axis(probs, np.where(known, mask, 0)[None].astype(np.int64), 0)[0]
    values, predicted = given[known].astype(np.float64), probs.argmax(0).astype(np.uint8)
    weights = np.exp((1 - values) / 0.1)
    overlaps = [
        ((predicted == k) & (mask == k)).sum() / max(1, (((predicted == k) | (mask == k)) & known).sum())
        for k in range(len(probs)) if ((mask == k) | ((predicted == k) & known)).any()
    ]  # fmt: skip
    softmin = cleanlab_softmin(probs, mask)
    measured = measure_doubt(mask, predicted, np.where(known, given, np.nan))
    assert measured is not None
    return measured, {
        "softmin": 1 - float((values * weights).sum() / weights.sum()) if softmin is None else softmin,
        "1 - mean IoU": 1 - float(np.mean(overlaps)),
        "1 - mean p": 1 - float(values.mean()),
    }


@dataclass
class Compared:
    """Damaged masks of a kind beside all clean ones: whether each score ranks it above each of them, 1, or 0.5 where they are equal."""

    images: list[int]  # the image of each damaged mask
    above: dict[str, npt.NDArray[np.float64]]  # (damaged, clean) of each score

    def auroc(self, counts: npt.NDArray[np.int64] | None = None) -> dict[str, float]:
        """Return the AUROC of each score; ``counts`` says how often each image is in a sample of them."""
        columns = next(iter(self.above.values())).shape[1]
        of_clean = np.ones(columns) if counts is None else counts.astype(np.float64)
        of_damaged = of_clean[self.images]
        return {name: float(of_damaged @ above @ of_clean / (of_damaged.sum() * of_clean.sum())) for name, above in self.above.items()}


def compare(clean: list[tuple[Doubt, dict[str, float]]], damaged: list[tuple[int, tuple[Doubt, dict[str, float]]]]) -> Compared:
    """Rank each damaged mask among the clean ones, as a review of these and that one mask does."""
    masks = [measured for measured, _ in clean]
    above: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in ("doubt", *Doubt._fields, *clean[0][1])}
    for _, (measured, others) in damaged:
        ranks = combined_doubt([*masks, measured])
        rows = {"doubt": (ranks[-1], ranks[:-1])}
        rows |= {name: (getattr(measured, name), np.array([getattr(mask, name) for mask in masks])) for name in Doubt._fields}
        rows |= {name: (others[name], np.array([each[name] for _, each in clean])) for name in others}
        for name, (value, beside) in rows.items():
            above[name].append((value > beside) + 0.5 * (value == beside))
    return Compared([index for index, _ in damaged], {name: np.array(rows) for name, rows in above.items()})


def difference(folds: list[Compared], rng: np.random.Generator) -> dict[str, float]:
    """Return AUROC of doubt minus that of the better of softmin and IoU, with its 95 % interval over samples of the images."""

    def gain(sample: bool) -> float:
        found = []
        for fold in folds:
            columns = next(iter(fold.above.values())).shape[1]
            counts = np.bincount(rng.integers(0, columns, columns), minlength=columns) if sample else None
            found.append(fold.auroc(counts))
        mean = {name: float(np.mean([values[name] for values in found])) for name in found[0]}
        return mean["doubt"] - max(mean["softmin"], mean["1 - mean IoU"])

    gains = np.array([gain(sample=True) for _ in range(SAMPLES)])
    low, high = np.quantile(gains, [0.025, 0.975])
    return {"difference": round(gain(sample=False), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def compare_fold(run: str, data: str, arguments: argparse.Namespace) -> tuple[dict[str, Compared], dict[str, object]]:
    """Damage the masks of a split that the network was not trained on."""
    predictor = Predictor(run)
    dataset = read_as(open_dataset(data, arguments.split), predictor.input)
    classes, clean = len(predictor.labels), list[tuple[Doubt, dict[str, float]]]()
    damaged: dict[str, list[tuple[int, tuple[Doubt, dict[str, float]]]]] = {kind: [] for kind in KINDS}
    confusion = ConfusionMatrix(classes)
    for index in range(min(arguments.images, len(dataset))):
        sample = dataset[index]
        probs, mask = predictor.predict(sample.image, probs=True).probs, sample.label
        confusion.add(mask, probs.argmax(0).astype(np.uint8))
        clean.append(describe(probs, mask))
        for number, (kind, damage) in enumerate(KINDS.items()):
            for copy in range(arguments.copies):
                changed = damage(mask, classes, np.random.default_rng((index, number, copy)))
                if (changed != mask).any():
                    damaged[kind].append((index, describe(probs, changed)))
    facts = {"run": run, "data": data, "images": len(clean), "mean_iou": round(100 * confusion.metrics().mean_iou, 1)}
    return {kind: compare(clean, rows) for kind, rows in damaged.items() if rows}, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folds", nargs="+", metavar="RUN DATA", help="a run and a dataset; several such pairs are folds, of which means are given"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--copies", type=int, default=2, help="damaged copies of each mask and kind")
    arguments = parser.parse_args()
    if len(arguments.folds) % 2:
        parser.error("expected pairs of a run and a dataset")
    pairs = list(zip(arguments.folds[::2], arguments.folds[1::2], strict=True))
    compared, facts = zip(*(compare_fold(run, data, arguments) for run, data in pairs), strict=True)
    kinds = [kind for kind in KINDS if all(kind in fold for fold in compared)]
    rates = {kind: [fold[kind].auroc() for fold in compared] for kind in kinds}
    table = {
        name: {kind: round(float(np.mean([fold[name] for fold in folds])), 3) for kind, folds in rates.items()}
        for name in next(iter(rates.values()))[0]
    }
    try:
        from cleanlab import __version__ as cleanlab
    except ImportError:
        cleanlab = "not installed: softmin by its published formula"
    rng = np.random.default_rng(0)
    report(
        {
            "what": "AUROC of scores by which damaged masks are ranked", "folds": facts, "cleanlab": cleanlab,
            "damaged": {kind: sum(len(fold[kind].images) for fold in compared) for kind in kinds}, "results": table,
            "doubt minus the better of softmin and IoU": {kind: difference([fold[kind] for fold in compared], rng) for kind in kinds},
            **machine("numpy", "torch"),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
