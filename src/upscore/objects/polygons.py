"""The outline of a mask as polygons along the edges of its pixels: exact, with holes.

::

    vertex (0, 0)          x ─►        pixel (row r, column c) covers x from c to c + 1 and y from r to r + 1,
         ┌───┬───┬───┐                 so that corners are whole numbers.
       y │   │▓▓▓│   │
       │ ├───┼───┼───┤                 outer ring   clockwise on the screen: the mask is on its right
       ▼ │▓▓▓│   │▓▓▓│                 hole         counter-clockwise: the mask is on its right too
         └───┴───┴───┘
                                       Pixels that touch only at a corner are not connected, and holes that touch
                                       there are one hole: a vertex like the middle one above is part of two corners.

A pixel is inside exactly where its centre is: rasterised by that rule, the polygon gives the mask back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Polygon", "outline"]


class Polygon(NamedTuple):
    """The outline of one connected component; a ring is (N, 2) int64, the x and y of its corners, without the first one again."""

    outer: npt.NDArray[np.int64]
    holes: tuple[npt.NDArray[np.int64], ...] = ()


def outline(mask: npt.NDArray[np.bool_], *, left: int = 0, top: int = 0) -> Polygon:
    """Return the outline of a mask (h, w) bool that is one connected component (pixels connected along their edges).

    ``left`` and ``top`` are where the mask lies in its image, in pixels. A ring begins at its topmost corner, of these the leftmost.

    >>> ring = outline(np.array([[True, True], [True, False]]), left=10)
    >>> ring.outer.tolist(), ring.holes
    ([[10, 0], [12, 0], [12, 1], [11, 1], [11, 2], [10, 2]], ())
    """
    across, down, rows, columns, inside = _corners(mask)
    holes: list[npt.NDArray[np.int64]] = []
    outer: list[npt.NDArray[np.int64]] = []
    next_across, next_down = across.tolist(), down.tolist()
    used = bytearray(len(rows))
    for first in range(len(rows)):  # row by row, from the left: the first corner of a ring is its top left one
        if used[first]:
            continue
        is_outer = bool(inside[first])
        ring, corner, horizontal = [], first, is_outer
        while not used[corner]:
            used[corner] = 1
            ring.append(corner)
            corner = next_across[corner] if horizontal else next_down[corner]
            horizontal = not horizontal
        points = np.stack([columns[ring] + left, rows[ring] + top], axis=1)
        (outer if is_outer else holes).append(points)
    assert len(outer) == 1, f"expected one connected component, found {len(outer)}"
    return Polygon(outer[0], tuple(holes))


def _corners(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], ...]:
    """Return the corners of the outline, row by row, as arrays.

    They are: the corner at the other end of the horizontal edge, that at the other end of the vertical edge, row, column, and whether
    the pixel below and to the right of the vertex is in the mask.
    """
    padded = np.pad(mask, 1)
    # The four pixels around each vertex: a b above, d e below.
    a, b, d, e = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    crossing = (a == e) & (b == d) & (a != b)  # two pixels that touch at this vertex only: two corners, one around each
    simple = ((a ^ d) | (b ^ e)) & ((a ^ b) | (d ^ e)) & ~crossing
    rows, columns = np.nonzero(simple | crossing)
    twice = crossing[rows, columns]
    # Of a crossing the upper corner comes first; it runs to the left where the pixel a is in the mask, to the right where b is.
    index = np.repeat(np.arange(len(rows)), 1 + twice)
    second = np.zeros(len(index), bool)
    second[1:] = index[1:] == index[:-1]
    rows, columns, twice = rows[index], columns[index], twice[index]
    to_left = np.where(twice, a[rows, columns] ^ second, (a ^ d)[rows, columns])
    upwards = np.where(twice, ~second, (a ^ b)[rows, columns])
    across = _paired(np.lexsort((~to_left, columns, rows)))
    down = _paired(np.lexsort((~upwards, rows, columns)))
    return across, down, rows, columns, e[rows, columns]


def _paired(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the partner of each corner, where the first and the second of ``order`` are partners, the third and the fourth …."""
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner
