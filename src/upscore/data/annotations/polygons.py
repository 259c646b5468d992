"""Polygons become pixels by the rule of pixel centres: a pixel belongs to a polygon if its centre does.

x points to the right and y down; pixel (r, c) covers [c, c + 1) × [r, r + 1), so that its centre is (c + 0.5, r + 0.5). A centre that
lies exactly on the outline belongs to the polygon on its right, or below: polygons that share an edge share no pixel and leave none
out. The area and the position of an object are kept on average. Functions that draw the outline as well, as OpenCV's and Pillow's do,
add half a pixel all round.

Crossings with the horizontal lines through the pixels' centres are computed in float64 from the upper end of each edge to the lower,
so that the edge of two polygons gives both the same crossings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.data.annotations.region import EMPTY, Region

__all__ = ["MAX_COORDINATE", "fill_polygon", "polygon_area"]

MAX_COORDINATE = 1e9
"""The largest absolute value of a coordinate, in pixels."""

_CROSSINGS_AT_ONCE = 2**21
_MAX_CROSSINGS = 2**29  # half a minute; a polygon of a thousand points on an image of 10,000 rows has ten million


def fill_polygon(rings: Sequence[Any], height: int, width: int) -> Region:
    """Return the pixels of one polygon in an image.

    Parameters
    ----------
    rings : sequence of flat arrays
        Each x, y, x, y, … of a closed outline in pixels; the last point is connected with the first. A point is inside if it is inside
        an odd number of rings, so rings within the first are holes (the even-odd rule). Rings of fewer than three points have no inside.
    height, width : int
        Size of the image in pixels. Points may lie beyond it: what they enclose there is clipped.

    Raises
    ------
    ValueError
        A coordinate is not a number of at most :data:`MAX_COORDINATE`, a ring has half a point, or the outline crosses the rows of the
        image so often that filling it would take minutes.

    Examples
    --------
    >>> region = fill_polygon([[1, 1, 4, 1, 4, 3, 1, 3]], 10, 10)
    >>> region.top, region.left, region.mask.shape, bool(region.mask.all())
    (1, 1, (2, 3), True)
    """
    upper, lower = _edges(rings)
    if len(upper) == 0:
        return EMPTY
    first, last = (np.ceil(ends[:, 1] - 0.5).astype(np.int64) for ends in (upper, lower))
    begin, end = int(first.min()), int(last.max())
    beyond = 0
    if begin < 0 or end > height:  # what is beyond is counted as far as one image above and below
        beyond = _pixels_in_rows(upper, lower, first, last, -height, 0) + _pixels_in_rows(upper, lower, first, last, height, 2 * height)
    top, bottom = max(0, begin), min(height, end)
    if top >= bottom:
        return EMPTY._replace(clipped=beyond)
    low = float(min(upper[:, 0].min(), lower[:, 0].min()))
    high = float(max(upper[:, 0].max(), lower[:, 0].max()))
    left, right = max(0, int(np.ceil(low - 0.5))), min(width, int(np.ceil(high - 0.5)))
    if low < -0.5 or high > width + 0.5:
        beyond += _pixels_in_rows(upper, lower, first, last, top, bottom)
    if left >= right:
        return EMPTY._replace(clipped=beyond)
    inside = _between(_crossings(upper, lower, first, last, top, bottom), top, left, bottom - top, right - left)
    if low < -0.5 or high > width + 0.5:
        beyond -= int(np.count_nonzero(inside))
    return Region(top, left, inside, beyond)


def polygon_area(rings: Sequence[Any]) -> float:
    """Return the area of the first ring less that of the others, in square pixels; of rings that do not cross themselves.

    >>> polygon_area([[0, 0, 4, 0, 4, 4, 0, 4], [1, 1, 2, 1, 2, 2, 1, 2]])
    15.0
    """
    areas = []
    for ring in rings:
        x, y = np.asarray(ring, np.float64)[: len(ring) // 2 * 2].reshape(-1, 2).T
        with np.errstate(all="ignore"):  # numbers that are too large are an error when they are drawn
            areas.append(abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2)
    return 2 * areas[0] - sum(areas) if areas else 0.0


def _edges(rings: Sequence[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the upper and the lower end of each edge that is not horizontal, both (n, 2) as x, y."""
    begins, ends = [], []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 1 or len(points) % 2:
            raise ValueError(f"a ring has {points.size} numbers, expected x and y of each point")
        if len(points) < 6:
            continue
        points = points.reshape(-1, 2)
        begins.append(points)
        ends.append(np.concatenate([points[1:], points[:1]]))
    if not begins:
        return np.empty((0, 2)), np.empty((0, 2))
    begin, end = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in (begins, ends))
    if not (np.abs(begin) <= MAX_COORDINATE).all():
        raise ValueError(f"a coordinate is not a number from -{MAX_COORDINATE:g} to {MAX_COORDINATE:g} pixels")
    rises = begin[:, 1] != end[:, 1]
    begin, end = begin[rises], end[rises]
    down = (begin[:, 1] < end[:, 1])[:, None]
    return np.where(down, begin, end), np.where(down, end, begin)


def _crossings(
    upper: npt.NDArray[np.float64], lower: npt.NDArray[np.float64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64],
    top: int, bottom: int,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:  # fmt: skip
    """Yield (rows, columns) in blocks: where edges cross the centre line of a row, and the first pixel whose centre is not left of that."""
    begin = np.clip(first, top, bottom)
    counts = np.clip(last, top, bottom) - begin
    total = int(counts.sum())
    if total > _MAX_CROSSINGS:
        raise ValueError(f"an outline crosses the rows of the image {total:,} times, expected at most {_MAX_CROSSINGS:,}")
    across, down = (lower - upper).T
    sums = np.cumsum(counts)
    start = 0
    while start < len(counts):
        reached = int(sums[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(sums, reached + _CROSSINGS_AT_ONCE, "right")))
        part = slice(start, stop)
        number = counts[part]
        edge = np.repeat(np.arange(start, stop), number)
        rows = np.arange(len(edge)) - np.repeat(sums[part] - number - reached, number) + begin[edge]
        x = upper[edge, 0] + (rows + 0.5 - upper[edge, 1]) * across[edge] / down[edge]  # exact where it can be: the division is last
        yield rows, np.ceil(x - 0.5).astype(np.int64)
        start = stop


def _between(
    crossings: Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], top: int, left: int, height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Return which pixels have an odd number of crossings at or before them in their row, (height, width).

    A row is stored in words of 64 bits, the first pixel in the highest bit, and the sums modulo 2 are taken of all bits of a word at once.
    """
    words = np.zeros((height, width // 64 + 1), np.uint64)
    flat = words.reshape(-1)
    for rows, columns in crossings:
        column = np.clip(columns, left, left + width) - left
        np.bitwise_xor.at(flat, (rows - top) * words.shape[1] + (column >> 6), np.uint64(1) << (63 - (column & 63)).astype(np.uint64))
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words >> np.uint64(shift)
    if words.shape[1] > 1:
        odd = np.bitwise_xor.accumulate(words & np.uint64(1), axis=1)
        words[:, 1:] ^= np.uint64(0) - odd[:, :-1]
    return np.unpackbits(words.astype(">u8").view(np.uint8), axis=1, count=width).view(np.bool_)


def _pixels_in_rows(
    upper: npt.NDArray[np.float64], lower: npt.NDArray[np.float64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64],
    top: int, bottom: int,
) -> int:  # fmt: skip
    """Return how many pixels of rows ``top`` to ``bottom`` are inside, however far to the left and right they are."""
    blocks = list(_crossings(upper, lower, first, last, top, bottom))
    if not blocks:
        return 0
    rows, columns = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.lexsort((columns, rows))
    sorted_columns = columns[order]
    return int((sorted_columns[1::2] - sorted_columns[::2]).sum())
