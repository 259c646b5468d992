"""Confusion matrices of label maps, beside torchmetrics and other ways to count pairs, on the same maps.

Neighbouring pixels of label maps mostly repeat, and how often they do decides: ``objects`` are a
few regions to an image (as in PASCAL VOC), ``streets`` many (as in CamVid), ``noise`` the worst
case, where no pixel repeats. Both maps have regions, predictions are wrong along their borders,
and borders are ignored (255). Processor time for all maps.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from timing import interleave, is_installed, machine, report, summary

from upscore.metrics import ConfusionMatrix
from upscore.models.backbones import import_timm

Map = npt.NDArray[np.uint8]
Pairs = list[tuple[Map, Map]]


def regions(rng: np.random.Generator, classes: int, size: tuple[int, int], blobs: int) -> tuple[Map, Map]:
    """Four smooth random fields compete for each pixel; the prediction sees them with finer noise."""
    h, w = size
    fields = cv2.resize(rng.normal(size=(blobs, blobs, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    noise = cv2.resize(rng.normal(size=(3 * blobs, 3 * blobs, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    names = rng.integers(classes, size=4).astype(np.uint8)
    truth, predicted = names[fields.argmax(-1)], names[(fields + 0.2 * noise).argmax(-1)]
    border = cv2.morphologyEx(truth, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    truth[border] = 255
    return truth, predicted


def speckles(rng: np.random.Generator, classes: int, size: tuple[int, int]) -> tuple[Map, Map]:
    truth, predicted = rng.integers(classes, size=(2, *size)).astype(np.uint8)
    truth[rng.random(size) < 0.05] = 255
    return truth, predicted


def repeats(pairs: Pairs) -> float:
    """Return the share of pixels that have the truth and the prediction of the pixel before."""
    return float(np.mean([((t.ravel()[1:] == t.ravel()[:-1]) & (p.ravel()[1:] == p.ravel()[:-1])).mean() for t, p in pairs]))


def variants_of(pairs: Pairs, classes: int, *, peer: bool) -> dict[str, Callable[[], npt.NDArray[np.int64]]]:
    def with_torchmetrics(dtype: torch.dtype) -> Callable[[], npt.NDArray[np.int64]]:
        from torchmetrics.classification import MulticlassConfusionMatrix

        tensors = [(torch.from_numpy(truth).to(dtype), torch.from_numpy(predicted).to(dtype)) for truth, predicted in pairs]

        def run() -> npt.NDArray[np.int64]:
            metric = MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=False)
            for truth, predicted in tensors:
                metric.update(predicted, truth)
            return metric.compute().numpy()

        return run

    def with_bincount() -> npt.NDArray[np.int64]:
        """The FCN reference code's way."""
        counts = np.zeros((classes, classes), np.int64)
        for truth, predicted in pairs:
            valid = truth < classes
            counts += np.bincount(classes * truth[valid].astype(int) + predicted[valid], minlength=classes**2).reshape(classes, classes)
        return counts

    def with_opencv() -> npt.NDArray[np.int64]:
        counts = np.zeros((classes, classes), np.int64)
        for pair in pairs:
            counts += cv2.calcHist(pair, [0, 1], None, [classes, classes], [0, classes, 0, classes]).astype(np.int64)
        return counts

    def with_upscore() -> npt.NDArray[np.int64]:
        matrix = ConfusionMatrix(classes)
        for truth, predicted in pairs:
            matrix.add(truth, predicted)
        return matrix.counts

    types = {"torchmetrics, int64": torch.int64, "torchmetrics, uint8": torch.uint8} if peer else {}
    return {name: with_torchmetrics(dtype) for name, dtype in types.items()} | {
        "numpy.bincount, int64": with_bincount,
        "cv2.calcHist": with_opencv,
        "upscore": with_upscore,
    }


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--maps", type=int, default=100)
    flags.add_argument("--size", type=int, nargs=2, default=(375, 500))
    flags.add_argument("--classes", type=int, nargs="+", default=[21, 150])
    values = flags.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    import_timm()  # mends torchvision's import, which torchmetrics needs, where torch has no CUDA
    peer = is_installed("torchmetrics")
    results: dict[str, Any] = {}
    for classes in values.classes:
        for kind, blobs in (("objects", 4), ("streets", 9), ("noise", 0)):
            rng = np.random.default_rng(0)
            size = tuple(values.size)
            pairs = [regions(rng, classes, size, blobs) if blobs else speckles(rng, classes, size) for _ in range(values.maps)]
            variants = variants_of(pairs, classes, peer=peer)
            counts = [run() for run in variants.values()]
            assert all(np.array_equal(found, counts[0]) for found in counts), "the counts differ"
            seconds = interleave(variants, rounds=values.rounds, clock=time.process_time)
            results[f"{kind}, {classes} classes"] = {
                "share_of_repeating_pixels": round(repeats(pairs), 4),
                **summary(seconds, peer="torchmetrics, uint8" if peer else "numpy.bincount, int64"),
            }
    setting = {"maps": values.maps, "size": list(values.size), "threads": 1, "rounds": values.rounds}
    report(
        {
            "what": "confusion matrices, identical counts",
            **setting,
            "results": results,
            **machine("numpy", "torch", "torchmetrics", "opencv-contrib-python-headless"),
        }
    )


if __name__ == "__main__":
    main()
