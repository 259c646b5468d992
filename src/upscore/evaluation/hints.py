"""What to compare metrics with, and what to do next: the baseline of one class, the weakest classes, and hints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from upscore.metrics import ConfusionMatrix

__all__ = ["Baseline", "describe_small_split", "find_weakest_classes", "is_still_rising", "one_class_baseline"]

MIN_IMAGES = 20  # below which the mean IoU of a split changes by points with the images that happen to be in it
MIN_RISE = 0.001  # of mean IoU, over the last validations, that is worth going on for
LAST = 0.25  # fraction of the validations that are the last ones; at least three


class Baseline(NamedTuple):
    """The metrics of a network that labels every pixel as the most frequent class of the truth."""

    name: str  #: of that class
    mean_iou: float  #: in [0, 1]
    pixel_accuracy: float  #: in [0, 1]


def one_class_baseline(class_pixels: Mapping[str, int], *, absent: str = "union") -> Baseline | None:
    """Return the baseline on a truth with so many pixels of each class; None where it has none.

    The metrics are those of the confusion matrix of that prediction; ``absent`` is as in
    :meth:`upscore.metrics.ConfusionMatrix.metrics`. Of equally frequent classes the first is taken.

    >>> one_class_baseline({"road": 50, "car": 50})
    Baseline(name='road', mean_iou=0.25, pixel_accuracy=0.5)
    """
    pixels = np.array(list(class_pixels.values()), np.int64)
    if not pixels.any():
        return None
    k = int(pixels.argmax())
    counts = np.zeros((len(pixels), len(pixels)), np.int64)
    counts[:, k] = pixels
    metrics = ConfusionMatrix.of(counts).metrics(absent=absent)
    return Baseline(list(class_pixels)[k], float(metrics.mean_iou), float(metrics.pixel_accuracy))


def find_weakest_classes(class_iou: Mapping[str, float | None], *, count: int = 3) -> list[tuple[str, float]]:
    """Return up to ``count`` classes whose IoU is below the mean of all, the lowest first; those that are nan or None do not count.

    >>> find_weakest_classes({"road": 0.9, "car": 0.5, "pole": 0.1, "sky": 0.95})
    [('pole', 0.1), ('car', 0.5)]
    """
    known = [(name, iou) for name, iou in class_iou.items() if iou is not None and not math.isnan(iou)]
    mean = sum(iou for _, iou in known) / max(1, len(known))
    return sorted(((name, iou) for name, iou in known if iou < mean), key=lambda item: item[1])[:count]


def is_still_rising(history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether validation was still improving when a run ended: the best is the last or the last but one, and the slope is positive.

    ``history`` is that of a run's progress: rows with ``miou`` where it was validated. The slope is that of the least-squares line through
    the last quarter of the validations, or the last three; it must gain 0.1 points over them.

    >>> is_still_rising([{"miou": 0.2}, {"miou": 0.4}, {"miou": 0.5}, {"miou": 0.55}])
    True
    """
    values = [float(row["miou"]) for row in history if "miou" in row]
    if len(values) < 3 or max(values) not in values[-2:]:
        return False
    last = np.array(values[-max(3, math.ceil(LAST * len(values))) :])
    slope = float(np.polyfit(np.arange(len(last)), last, 1)[0])
    return slope * (len(last) - 1) > MIN_RISE


def describe_small_split(images: int, split: str) -> str | None:
    """Return a hint where a split is so small that its metrics depend on which images are in it; None where it is not.

    >>> describe_small_split(4, "val")
    'val has 4 images: metrics are noisy'
    """
    return f"{split} has {images} image{'s' * (images != 1)}: metrics are noisy" if images < MIN_IMAGES else None
