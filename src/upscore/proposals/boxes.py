"""Boxes around objects and candidates, and their geometry.

Corners lie between pixels: a box covers the columns ``left`` to ``right - 1`` and the
rows ``top`` to ``bottom - 1``, and its area is ``(right - left) · (bottom - top)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["Boxes", "boxes_of_objects", "enlarge_boxes", "non_maximum_suppression", "pairwise_iou", "whole_image"]

MAX_COORDINATE = 2**24
"""Bound on corner coordinates, in pixels, so that areas are exact in 64 bits."""


@dataclass(frozen=True, init=False, eq=False)
class Boxes:
    """Boxes of one image.

    Parameters
    ----------
    corners : (N, 4) whole numbers
        Left, top, right, bottom in pixels; right and bottom are exclusive. They may lie outside
        the image, as those of enlarged boxes do. Stored as int64.
    objectness : (N,) numbers, optional
        Higher is more likely an object; only the order matters. 1 where not given. Stored as float64.

    Raises
    ------
    DataError
        A corner is no whole number or too large, a box is empty or inverted, or an objectness is
        not finite; the message names the first.

    Examples
    --------
    >>> boxes = Boxes([[0, 0, 4, 4], [2, 2, 8, 6]], [0.3, 0.9])
    >>> boxes.best(1).corners.tolist(), boxes.areas().tolist()
    ([[2, 2, 8, 6]], [16, 24])
    """

    corners: npt.NDArray[np.int64]
    objectness: npt.NDArray[np.float64]

    def __init__(self, corners: npt.ArrayLike, objectness: npt.ArrayLike | None = None) -> None:
        given = np.asarray(corners)
        if given.size == 0:
            given = given.reshape(0, 4)
        if given.ndim != 2 or given.shape[1] != 4 or given.dtype.kind not in "iuf":
            raise DataError(f"found boxes of shape {given.shape} and type {given.dtype}, expected (N, 4): left, top, right, bottom")
        scored = np.ones(len(given)) if objectness is None else np.asarray(objectness, np.float64)
        if scored.shape != (len(given),):
            raise DataError(f"found {scored.size} objectness values for {len(given)} boxes, expected one each")
        with np.errstate(invalid="ignore"):
            near = np.abs(given.astype(np.float64)) <= MAX_COORDINATE
            whole = (np.isfinite(given) & near & (given == np.rint(given))).all(1)
        for wrong, expected in (
            (~whole, f"expected whole numbers of pixels, at most {MAX_COORDINATE} from the origin"),
            ((given[:, 0] >= given[:, 2]) | (given[:, 1] >= given[:, 3]), "expected left below right and top below bottom"),
        ):
            if wrong.any():
                first = int(np.flatnonzero(wrong)[0])
                raise DataError(f"box {first} is {given[first].tolist()}: {expected}")
        if not np.isfinite(scored).all():
            first = int(np.flatnonzero(~np.isfinite(scored))[0])
            raise DataError(f"the objectness of box {first} is {scored[first]}, expected a finite number")
        object.__setattr__(self, "corners", np.ascontiguousarray(given, np.int64))
        object.__setattr__(self, "objectness", np.ascontiguousarray(scored))

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, index: Any) -> Boxes:
        """Return the boxes of a slice, of positions or of a mask, as NumPy indexes."""
        return Boxes(self.corners[index], self.objectness[index])

    def best(self, count: int) -> Boxes:
        """Return the ``count`` boxes of highest objectness in decreasing order; ties keep their order."""
        return self[np.argsort(-self.objectness, kind="stable")[:count]]

    def areas(self) -> npt.NDArray[np.int64]:
        """Return the area of each box in pixels, (N,)."""
        return np.asarray(np.prod(self.corners[:, 2:] - self.corners[:, :2], axis=1))

    def clipped(self, height: int, width: int) -> Boxes:
        """Return the parts of the boxes inside an image, without the boxes that lie outside."""
        corners = np.clip(self.corners, 0, (width, height, width, height))
        inside = (corners[:, :2] < corners[:, 2:]).all(1)
        return Boxes(corners[inside], self.objectness[inside])


def whole_image(height: int, width: int) -> Boxes:
    """Return one box that covers the image."""
    return Boxes(np.array([[0, 0, width, height]]))


def boxes_of_objects(instances: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], Boxes]:
    """Return the numbers of the objects, ascending, and the bounding box of each.

    ``instances`` (H, W) integer holds the number of each pixel's object, 0 for none; DataError where it is anything else.
    """
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise DataError(f"found objects of shape {instances.shape} and type {instances.dtype}, expected (H, W) integers from 0 on")
    rows, columns = np.nonzero(instances)
    numbers, object_of_pixel = np.unique(instances[rows, columns], return_inverse=True)
    corners = np.repeat([[*instances.shape[::-1], 0, 0]], len(numbers), axis=0).astype(np.int64)
    for axis, position in enumerate((columns, rows)):
        np.minimum.at(corners[:, axis], object_of_pixel, position)
        np.maximum.at(corners[:, axis + 2], object_of_pixel, position + 1)
    return numbers.astype(np.int64), Boxes(corners)


def enlarge_boxes(boxes: Boxes, factor: float) -> Boxes:
    """Return boxes with sides times ``factor`` about the same centres, rounded to pixels, at least one pixel each."""
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    extra = (factor - 1) / 2 * sides
    corners = np.hstack([np.floor(boxes.corners[:, :2] - extra + 0.5), np.ceil(boxes.corners[:, 2:] + extra - 0.5)])
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    return Boxes(corners, boxes.objectness)


def pairwise_iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Return the intersection over union of each of M boxes with each of N, (M, N) in [0, 1].

    >>> pairwise_iou(Boxes([[0, 0, 2, 2]]), Boxes([[0, 0, 2, 2], [1, 0, 3, 2]])).round(3).tolist()
    [[1.0, 0.333]]
    """
    a, b = boxes.corners[:, None], others.corners[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.prod(np.maximum(sides, 0), axis=2)
    return np.asarray(intersection / (boxes.areas()[:, None] + others.areas()[None] - intersection))


def non_maximum_suppression(boxes: Boxes, max_iou: float, *, max_boxes: int | None = None) -> Boxes:
    """Return the boxes without those that overlap a better one, in decreasing order of objectness: greedy non-maximum suppression.

    A box is removed if its IoU with a better one that remains is above ``max_iou`` in [0, 1]. It stops after ``max_boxes``.
    """
    ranked = boxes.best(len(boxes))
    selected: list[int] = []
    remaining = np.ones(len(ranked), bool)
    while remaining.any() and (max_boxes is None or len(selected) < max_boxes):
        best = int(np.argmax(remaining))
        selected.append(best)
        remaining[best] = False
        later = np.flatnonzero(remaining)
        remaining[later[pairwise_iou(ranked[later], ranked[best : best + 1])[:, 0] > max_iou]] = False
    return ranked[np.array(selected, int)]
