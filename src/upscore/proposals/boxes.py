"""Rectangles around what may be an object, and the arithmetic of them.

Corners are edges between pixels: a box covers the columns ``left`` to ``right - 1`` and the
rows ``top`` to ``bottom - 1``, and its area is ``(right - left) · (bottom - top)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["Boxes", "boxes_of_objects", "enlarged", "overlaps", "suppressed", "whole_image"]

FARTHEST = 2**24
"""Corners lie within this many pixels of the origin, so that areas are exact in 64 bits."""


@dataclass(frozen=True, init=False, eq=False)
class Boxes:
    """Boxes of one image.

    Parameters
    ----------
    corners : (N, 4) whole numbers
        Left, top, right, bottom in pixels; right and bottom are the first not covered. They may
        lie beyond the image, as those of enlarged boxes do.
    scores : (N,) numbers, optional
        Greater is more likely an object; of no scale. 1 where not given.

    Attributes
    ----------
    corners : (N, 4) int64
    scores : (N,) float64

    Raises
    ------
    DataError
        A corner is no whole number or too far away, a box is empty or turned round, or a score
        is not a number; the first is named.
    """

    corners: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    def __init__(self, corners: npt.ArrayLike, scores: npt.ArrayLike | None = None) -> None:
        given = np.asarray(corners)
        if given.size == 0:
            given = given.reshape(0, 4)
        if given.ndim != 2 or given.shape[1] != 4 or given.dtype.kind not in "iuf":
            raise DataError(f"found boxes of shape {given.shape} and type {given.dtype}, expected (N, 4): left, top, right, bottom")
        marks = np.ones(len(given)) if scores is None else np.asarray(scores, np.float64)
        if marks.shape != (len(given),):
            raise DataError(f"found {marks.size} scores for {len(given)} boxes, expected one each")
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(given).all(1) & (np.abs(given.astype(np.float64)) <= FARTHEST).all(1) & (given == np.rint(given)).all(1)
        for wrong, why in (
            (~whole, f"expected whole numbers of pixels, at most {FARTHEST} away"),
            ((given[:, 0] >= given[:, 2]) | (given[:, 1] >= given[:, 3]), "expected left below right and top below bottom"),
        ):
            if wrong.any():
                first = int(np.flatnonzero(wrong)[0])
                raise DataError(f"box {first} is {given[first].tolist()}: {why}")
        if not np.isfinite(marks).all():
            first = int(np.flatnonzero(~np.isfinite(marks))[0])
            raise DataError(f"the score of box {first} is {marks[first]}, expected a number")
        object.__setattr__(self, "corners", np.ascontiguousarray(given, np.int64))
        object.__setattr__(self, "scores", np.ascontiguousarray(marks))

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, which: Any) -> Boxes:
        """Return some of them: by a slice, places or a mask, as NumPy takes them."""
        return Boxes(self.corners[which], self.scores[which])

    def best(self, most: int) -> Boxes:
        """Return the ``most`` of greatest score, best first; of equal ones the earlier."""
        return self[np.argsort(-self.scores, kind="stable")[:most]]

    def areas(self) -> npt.NDArray[np.int64]:
        """Return the pixels that each covers, (N,)."""
        return np.asarray(np.prod(self.corners[:, 2:] - self.corners[:, :2], axis=1))

    def clipped(self, height: int, width: int) -> Boxes:
        """Return what of them lies in an image, without those of which nothing does."""
        corners = np.clip(self.corners, 0, (width, height, width, height))
        within = (corners[:, :2] < corners[:, 2:]).all(1)
        return Boxes(corners[within], self.scores[within])


def whole_image(height: int, width: int) -> Boxes:
    """Return the one box that is the image."""
    return Boxes(np.array([[0, 0, width, height]]))


def boxes_of_objects(instances: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], Boxes]:
    """Return the objects' numbers, ascending, and the tight box of each.

    Parameters
    ----------
    instances : (H, W) integer
        Number of each pixel's object, 0 for none.

    Raises
    ------
    DataError
        They are no integers of two axes, or negative.
    """
    if instances.ndim != 2 or instances.dtype.kind not in "iu" or instances.min(initial=0) < 0:
        raise DataError(f"found objects of shape {instances.shape} and type {instances.dtype}, expected (H, W) integers from 0 on")
    rows, columns = np.nonzero(instances)
    numbers, which = np.unique(instances[rows, columns], return_inverse=True)
    corners = np.empty((len(numbers), 4), np.int64)
    for place, ends, first in ((0, columns, True), (1, rows, True), (2, columns, False), (3, rows, False)):
        corners[:, place] = _extreme(ends, which, len(numbers), least=first)
    corners[:, 2:] += 1
    return numbers.astype(np.int64), Boxes(corners)


def enlarged(boxes: Boxes, factor: float) -> Boxes:
    """Return boxes of ``factor`` times the sides about the same centres, edges at the nearest pixels."""
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    more = (factor - 1) / 2 * sides
    corners = np.hstack([np.floor(boxes.corners[:, :2] - more + 0.5), np.ceil(boxes.corners[:, 2:] + more - 0.5)])
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    return Boxes(corners, boxes.scores)


def overlaps(some: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Return the intersection over union of each of M boxes with each of N, (M, N) in [0, 1]."""
    a, b = some.corners[:, None], others.corners[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=2)
    return np.asarray(common / (some.areas()[:, None] + others.areas()[None] - common))


def suppressed(boxes: Boxes, overlap: float, *, most: int | None = None) -> Boxes:
    """Return the boxes without those that a better one covers: greedy non-maximum suppression.

    Parameters
    ----------
    boxes : Boxes
    overlap : float
        A box goes if it has more than this in common with a better one that stays; in [0, 1].
    most : int, optional
        Stop after so many.

    Returns
    -------
    Boxes
        Best first.
    """
    rest = boxes.best(len(boxes))
    kept: list[int] = []
    alive = np.ones(len(rest), bool)
    while alive.any() and (most is None or len(kept) < most):
        best = int(np.argmax(alive))
        kept.append(best)
        alive[best] = False
        later = np.flatnonzero(alive)
        alive[later[overlaps(rest[later], rest[best : best + 1])[:, 0] > overlap]] = False
    return rest[np.array(kept, int)]


def _extreme(values: npt.NDArray[np.int64], which: npt.NDArray[np.int64], count: int, *, least: bool) -> npt.NDArray[np.int64]:
    found = np.full(count, np.iinfo(np.int64).max if least else np.iinfo(np.int64).min)
    (np.minimum if least else np.maximum).at(found, which, values)
    return found
