"""Polygons with fewer corners, within a tolerance, that never cross themselves.

Douglas and Peucker, "Algorithms for the reduction of the number of points required to represent a digitized line or its caricature",
Cartographica 10(2), 1973: a chain of corners becomes the segment between its ends if no corner is farther from it than the tolerance;
otherwise it is divided at the farthest one. OpenCV's ``approxPolyDP`` is not used: its rings may cross themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.objects.polygons import Polygon

__all__ = ["MAX_TOLERANCE", "check_tolerance", "is_simple", "simplify"]

MAX_TOLERANCE = 100.0
"""The largest tolerance of a setting, in pixels."""

Ring = npt.NDArray[np.int64]

_PAIRS_AT_ONCE = 2**18
_MAX_PAIRS = 2**25  # of edges that are compared: a few seconds


def check_tolerance(tolerance: float) -> None:
    """Raise a DataError for a tolerance that is not from 0 to :data:`MAX_TOLERANCE` pixels."""
    if not (math.isfinite(tolerance) and 0 <= tolerance <= MAX_TOLERANCE):
        raise DataError(f"found the tolerance {tolerance}, expected 0 to {MAX_TOLERANCE:g} pixels")


def simplify(polygon: Polygon, tolerance: float) -> Polygon:
    """Return a polygon with some of the corners of another.

    The Hausdorff distance of each ring to the one that it replaces is at most the tolerance. Rings cross neither themselves nor each
    other, none vanishes, and holes stay inside the outer ring: where they would not, half the tolerance is tried, a quarter, and then
    the ring is left as it is.

    Parameters
    ----------
    polygon : Polygon
        As :func:`upscore.objects.polygons.outline` returns it, with rings (N, 2) int64.
    tolerance : float
        In pixels; at least 0, which changes nothing.

    Examples
    --------
    >>> stairs = Polygon(np.array([[0, 0], [4, 0], [4, 4], [3, 4], [3, 3], [2, 3], [2, 2], [1, 2], [1, 1], [0, 1]]))
    >>> simplify(stairs, 1).outer.tolist()
    [[0, 0], [4, 0], [4, 4]]
    """
    if tolerance <= 0:
        return polygon
    for allowed in (tolerance, tolerance / 2, tolerance / 4):
        outer, *holes = (_simplified_ring(ring, allowed) for ring in (polygon.outer, *polygon.holes))
        if not holes or is_simple([outer, *holes]):
            return Polygon(outer, tuple(holes))
    return polygon


def is_simple(rings: Sequence[Ring]) -> bool:
    """Return whether rings, the outer one first, bound an area: each has an area and is not crossed by itself or another one, and the
    others lie inside the first and outside of each other.

    A ring may touch itself at a corner, as where two pixels touch. Computed in whole numbers, exactly.

    >>> is_simple([np.array([[0, 0], [2, 2], [2, 0], [0, 2]])])
    False
    """
    if any(len(ring) < 3 or _doubled_area(ring) == 0 for ring in rings):
        return False
    begins = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    before = np.concatenate([np.roll(ring, 1, axis=0) for ring in rings])
    if any(_touch(begins[first], ends[first], begins[second], ends[second]) for first, second in _near_pairs(begins, ends)):
        return False
    if _cross_at_corners(begins, before, ends):
        return False
    number = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    rises = begins[:, 1] != ends[:, 1]
    down = (begins[:, 1] < ends[:, 1])[:, None]
    upper, lower = np.where(down, begins, ends), np.where(down, ends, begins)
    # Of rings that do not cross, each hole is inside an odd number of the others just where it is inside the outer one alone.
    return all(
        _is_inside(hole[0], upper[chosen], lower[chosen]) for k, hole in enumerate(rings[1:], 1) for chosen in [rises & (number != k)]
    )


def _simplified_ring(ring: Ring, tolerance: float) -> Ring:
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))  # the ring is divided at its first corner and the one farthest from it
    closed, area = np.concatenate([ring, ring[:1]]), _doubled_area(ring)
    for allowed in (tolerance, tolerance / 2, tolerance / 4):
        remaining = _corners_that_remain(closed, far, allowed)
        if len(remaining) == len(closed):
            break
        corners = closed[remaining[:-1]]
        if len(corners) > 2 and _doubled_area(corners) * area > 0 and is_simple([corners]):
            return corners
    return ring


def _corners_that_remain(closed: Ring, far: int, tolerance: float) -> list[int]:
    """Return the positions of the corners that Douglas and Peucker leave of a ring whose first corner is repeated at its end."""
    points = closed.astype(np.float64)
    remaining = {0, far, len(closed) - 1}
    chains = [(0, far), (far, len(closed) - 1)]
    while chains:
        first, last = chains.pop()
        if last - first < 2:
            continue
        chord, between = points[last] - points[first], points[first + 1 : last] - points[first]
        along = np.clip(between @ chord / max(float(chord @ chord), 1.0), 0.0, 1.0)
        distances = ((between - along[:, None] * chord) ** 2).sum(axis=1)
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance**2:
            middle = first + 1 + farthest
            remaining.add(middle)
            chains += [(first, middle), (middle, last)]
    return sorted(remaining)


def _doubled_area(ring: Ring) -> int:
    """Return twice the area of a ring; below 0 where it runs the other way round."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _near_pairs(begins: Ring, ends: Ring) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the pairs of edges whose boxes touch, in blocks; where there are too many to compare, an edge with itself, which touches."""
    low, high = np.minimum(begins, ends), np.maximum(begins, ends)
    axis = int(np.argmin((high - low).sum(axis=0)))  # along which edges are shorter
    order = np.argsort(low[:, axis], kind="stable")
    counts = np.searchsorted(low[order, axis], high[order, axis], "right") - np.arange(len(order)) - 1
    sums = np.cumsum(counts)
    if sums[-1] > _MAX_PAIRS:
        yield order[:1], order[:1]
        return
    start = 0
    while start < len(order):
        reached = int(sums[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(sums, reached + _PAIRS_AT_ONCE, "right")))
        first = np.repeat(np.arange(start, stop), counts[start:stop])
        second = first + 1 + np.arange(len(first)) - np.repeat(sums[start:stop] - counts[start:stop] - reached, counts[start:stop])
        first, second = order[first], order[second]
        touching = (low[first, 1 - axis] <= high[second, 1 - axis]) & (low[second, 1 - axis] <= high[first, 1 - axis])
        yield first[touching], second[touching]
        start = stop


def _touch(a: Ring, b: Ring, c: Ring, d: Ring) -> bool:
    """Return whether any edge a-b touches its edge c-d elsewhere than at an end that both have."""
    shared = np.stack([_equal(a, c), _equal(a, d), _equal(b, c), _equal(b, d)])
    count = shared.sum(axis=0)
    if (count > 1).any():
        return True
    apart = count == 0
    p, q, r, s = a[apart], b[apart], c[apart], d[apart]
    sides = np.sign(_cross(q - p, r - p)) * np.sign(_cross(q - p, s - p)), np.sign(_cross(s - r, p - r)) * np.sign(_cross(s - r, q - r))
    if ((sides[0] <= 0) & (sides[1] <= 0)).any():
        return True
    for case, (corner, first, second) in enumerate(((a, b, d), (a, b, c), (b, a, d), (b, a, c))):
        at = shared[case]
        one, two = first[at] - corner[at], second[at] - corner[at]
        if ((_cross(one, two) == 0) & ((one * two).sum(axis=1) > 0)).any():  # they lie on one another
            return True
    return False


def _cross_at_corners(corners: Ring, before: Ring, after: Ring) -> bool:
    """Return whether a ring passes through a corner of itself, or another's, from one of its sides to the other."""
    _, inverse, counts = np.unique(corners, axis=0, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse.ravel()] > 1)
    visits: dict[int, list[int]] = {}
    for position in repeated.tolist():
        visits.setdefault(int(inverse.ravel()[position]), []).append(position)
    for positions in visits.values():
        for one, two in combinations(positions, 2):
            into, out = before[one] - corners[one], after[one] - corners[one]
            sides = [_is_between(into, out, other[two] - corners[two]) for other in (before, after)]
            if sides[0] != sides[1]:
                return True
    return False


def _is_between(begin: Ring, end: Ring, direction: Ring) -> bool:
    """Return whether a direction lies between two others, from the first to the second one; it is neither of them."""
    turn = _cross(begin, end)
    if turn > 0:
        return bool(_cross(begin, direction) > 0 and _cross(direction, end) > 0)
    if turn < 0:
        return not bool(_cross(end, direction) > 0 and _cross(direction, begin) > 0)
    return bool(_cross(begin, direction) > 0)


def _is_inside(point: Ring, upper: Ring, lower: Ring) -> bool:
    """Return whether a point is inside an odd number of rings, given the upper and lower ends of their edges, on none of which it lies."""
    rows = (upper[:, 1] <= point[1]) & (point[1] < lower[:, 1])
    return bool(np.count_nonzero(_cross(lower[rows] - upper[rows], point - upper[rows]) > 0) & 1)


def _cross(one: Ring, two: Ring) -> npt.NDArray[np.int64]:
    return np.asarray(one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0])


def _equal(one: Ring, two: Ring) -> npt.NDArray[np.bool_]:
    return np.asarray((one == two).all(axis=1))
