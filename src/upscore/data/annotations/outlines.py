"""The kinds of shapes that annotation tools draw: each becomes a region of an image.

Coordinates are pixels of the image, x to the right and y down, and the first pixel's upper left corner is (0, 0). ``region`` raises a
``ValueError`` whose message is a reason for the caller to put behind the file's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from upscore.data.annotations.bitmaps import decode_bitmap
from upscore.data.annotations.polygons import MAX_COORDINATE, fill_polygon, polygon_area
from upscore.data.annotations.region import EMPTY, Region, place, unite
from upscore.data.annotations.run_lengths import coco_area, decode_coco_runs, decode_cvat_runs, decode_label_studio_runs

__all__ = ["Bitmap", "CocoRuns", "CvatRuns", "Ellipse", "Fractions", "LabelStudioRuns", "Outline", "Polygons", "box", "circle"]


class Outline(Protocol):
    """The outline of a shape."""

    def region(self, height: int, width: int) -> Region:
        """Return the pixels of an image of ``height`` and ``width`` whose centres are inside."""

    def area(self) -> float:
        """Return the area in square pixels, by which shapes are ordered; also where it reaches beyond the image."""


class Polygons(NamedTuple):
    """Polygons, of which a point is inside any; each is a sequence of flat rings, with holes by the even-odd rule."""

    parts: Sequence[Sequence[Any]]

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        return unite([fill_polygon(rings, height, width) for rings in self.parts])

    def area(self) -> float:  # noqa: D102
        return sum(polygon_area(rings) for rings in self.parts)


class Fractions(NamedTuple):
    """One polygon whose coordinates are fractions of the image's width and height, x and y in turn."""

    ring: Sequence[float]

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        points = np.asarray(self.ring, np.float64)
        if len(points) % 2:
            raise ValueError(f"a polygon has {len(points)} numbers, expected x and y of each point")
        return fill_polygon([(points.reshape(-1, 2) * (width, height)).ravel()], height, width)

    def area(self) -> float:  # noqa: D102
        return polygon_area([self.ring])


class Ellipse(NamedTuple):
    """An ellipse with its centre, two half axes, and the angle in degrees by which it is turned clockwise."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    angle: float = 0.0

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        numbers = (self.x, self.y, self.radius_x, self.radius_y, self.angle)
        if not all(abs(number) <= MAX_COORDINATE for number in numbers):
            raise ValueError(f"an ellipse has a number that is not from -{MAX_COORDINATE:g} to {MAX_COORDINATE:g}")
        if min(self.radius_x, self.radius_y) <= 0:
            return EMPTY
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        reach_x = math.hypot(self.radius_x * cosine, self.radius_y * sine)
        reach_y = math.hypot(self.radius_x * sine, self.radius_y * cosine)
        top, bottom = max(0, math.floor(self.y - reach_y)), min(height, math.ceil(self.y + reach_y))
        left, right = max(0, math.floor(self.x - reach_x)), min(width, math.ceil(self.x + reach_x))
        if top >= bottom or left >= right:
            return EMPTY._replace(clipped=round(self.area()))
        y = (np.arange(top, bottom) + 0.5 - self.y)[:, None]
        x = (np.arange(left, right) + 0.5 - self.x)[None]
        mask = ((x * cosine + y * sine) / self.radius_x) ** 2 + ((y * cosine - x * sine) / self.radius_y) ** 2 <= 1
        beyond = self.y - reach_y < -0.5 or self.x - reach_x < -0.5 or self.y + reach_y > height + 0.5 or self.x + reach_x > width + 0.5
        return Region(top, left, mask, max(0, round(self.area()) - int(np.count_nonzero(mask))) if beyond else 0)

    def area(self) -> float:  # noqa: D102
        return math.pi * self.radius_x * self.radius_y


class Bitmap(NamedTuple):
    """A PNG in base64 at a row and a column."""

    data: Any
    top: int
    left: int

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        return place(decode_bitmap(self.data), self.top, self.left, height, width)

    def area(self) -> float:  # noqa: D102
        return float(np.count_nonzero(decode_bitmap(self.data)))


class CocoRuns(NamedTuple):
    """COCO's run lengths, a list or a text, of an image with its size."""

    counts: Any
    height: int
    width: int

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        if (self.height, self.width) != (height, width):
            raise ValueError(f"the run lengths are of {self.height}×{self.width} (height × width), and the image is {height}×{width}")
        return Region(0, 0, decode_coco_runs(self.counts, height, width))

    def area(self) -> float:  # noqa: D102
        return float(coco_area(self.counts))


class CvatRuns(NamedTuple):
    """CVAT's run lengths of a box at a row and a column."""

    text: str
    top: int
    left: int
    height: int
    width: int

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        if not (0 <= self.top <= height and 0 <= self.left <= width and 0 < self.height <= height and 0 < self.width <= width):
            raise ValueError(
                f"a mask of {self.height}×{self.width} (height × width) at row {self.top} and column {self.left} does not lie in an image "
                f"of {height}×{width}"
            )
        return place(decode_cvat_runs(self.text, self.height, self.width), self.top, self.left, height, width)

    def area(self) -> float:  # noqa: D102
        return float(self.height * self.width)


class LabelStudioRuns(NamedTuple):
    """Label Studio's brush: run lengths of the whole image."""

    data: bytes

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        return Region(0, 0, decode_label_studio_runs(self.data, height, width))

    def area(self) -> float:  # noqa: D102
        return math.inf


def box(left: float, top: float, right: float, bottom: float, *, angle: float = 0.0, about: tuple[float, float] | None = None) -> Polygons:
    """Return a rectangle, turned clockwise by ``angle`` degrees about a point, its centre where none is given.

    >>> box(1, 2, 4, 3).region(10, 10).mask.shape
    (1, 3)
    """
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if angle:
        x, y = about or ((left + right) / 2, (top + bottom) / 2)
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        corners = [
            (x + (across - x) * cosine - (down - y) * sine, y + (across - x) * sine + (down - y) * cosine) for across, down in corners
        ]
    return Polygons((([number for corner in corners for number in corner],),))


def circle(x: float, y: float, radius: float) -> Ellipse:
    """Return a circle."""
    return Ellipse(x, y, radius, radius)
