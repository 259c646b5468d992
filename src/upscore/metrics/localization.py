"""The localisation error of a classifier that names a box for each of its classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upscore.errors import DataError

__all__ = ["localization_error"]

LocatedClass = tuple[int, tuple[float, float, float, float]]
"""A class, and its box: left, top, right and bottom in pixels, right and bottom exclusive."""


def localization_error(
    predicted: Sequence[Sequence[LocatedClass]], truth: Sequence[Sequence[LocatedClass]], *, top: int = 5, min_iou: float = 0.5
) -> float:
    """Return the fraction of images of which none of the best ``top`` classes is right and has a right box; nan without images.

    A box is right if its intersection over union with a true box of the class is at least ``min_iou`` (ILSVRC's classification and
    localisation task, Russakovsky et al. 2015, §4.2).

    Parameters
    ----------
    predicted : sequence
        For each image its classes with their boxes, best first.
    truth : sequence
        For each image at least one class with its box.

    Raises
    ------
    DataError
        The numbers of images differ, or an image has no true box.

    Examples
    --------
    >>> truth = [[(3, (0, 0, 10, 10))]]
    >>> localization_error([[(3, (0, 0, 10, 5))]], truth), localization_error([[(3, (0, 0, 10, 4))]], truth)
    (0.0, 1.0)
    """
    if len(predicted) != len(truth):
        raise DataError(f"found predictions for {len(predicted)} images and the truth of {len(truth)}, expected the same")
    if any(not boxes for boxes in truth):
        raise DataError("found an image without a true box, expected at least one for each image")
    wrong = [
        not any(k == true_k and _iou(box, true_box) >= min_iou for k, box in classes[:top] for true_k, true_box in boxes)
        for classes, boxes in zip(predicted, truth, strict=True)
    ]
    return float(np.mean(wrong)) if wrong else float("nan")


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    intersection = max(0.0, width) * max(0.0, height)
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - intersection
    return intersection / union
