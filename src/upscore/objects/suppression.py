"""Of objects that overlap, only the best: greedy non-maximum suppression by masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upscore.objects.detected import DetectedObject

__all__ = ["common_pixels", "mask_overlap", "suppress"]


def mask_overlap(one: DetectedObject, other: DetectedObject) -> float:
    """Return the intersection of two masks over the area of the smaller one, in [0, 1].

    It is not the intersection over union: half an object, truncated by a box, is inside the whole one, and its IoU is low.
    """
    return common_pixels(one, other) / min(one.area, other.area)


def common_pixels(one: DetectedObject, other: DetectedObject) -> int:
    """Return the number of pixels that the two masks have in common."""
    left, top = max(one.left, other.left), max(one.top, other.top)
    right, bottom = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if left >= right or top >= bottom:
        return 0
    first, second = (each.mask[top - each.top : bottom - each.top, left - each.left : right - each.left] for each in (one, other))
    return int(np.count_nonzero(first & second))


def suppress(objects: Sequence[DetectedObject], *, max_overlap: float = 0.5) -> list[DetectedObject]:
    """Return the objects without those that overlap a better one of their class that remains, best first.

    An object is removed where :func:`mask_overlap` is above ``max_overlap`` in [0, 1]. Of equal scores the first is better.
    """
    remaining: list[DetectedObject] = []
    for candidate in sorted(objects, key=lambda each: -each.score):
        same = (better for better in remaining if better.label_class == candidate.label_class)
        if all(mask_overlap(better, candidate) <= max_overlap for better in same):
            remaining.append(candidate)
    return remaining
