"""Outlines as labelling tools themselves draw them, pixel for pixel: with the outline, which makes objects half a pixel larger all round.

labelme and Cityscapes draw with Pillow, Ultralytics with OpenCV's fillPoly after truncating the corners to whole pixels. These are for
comparing with masks that such a tool wrote; :mod:`upscore.data.annotations.polygons` has the rule that keeps areas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from upscore.data.annotations.polygons import polygon_area
from upscore.data.annotations.region import EMPTY, Region

__all__ = ["OpenCVFractions", "PillowEllipse", "PillowPolygon", "PillowRectangle"]

_MAX_PILLOW = 1e5  # pixels; Pillow takes time in proportion to the size of an ellipse, however little of it the image shows
_MAX_OPENCV = 2**15 - 1  # pixels, beyond which OpenCV's fixed-point numbers overflow


class PillowPolygon(NamedTuple):
    """A polygon, x and y of its points in turn."""

    ring: Sequence[float]
    outlined: bool = True  #: whether the outline is drawn once more, as labelme does

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        points = _points(self.ring, _MAX_PILLOW)
        if len(points) < 2:
            return EMPTY
        corners = [(x, y) for x, y in points.tolist()]
        return _drawn_by_pillow(height, width, lambda draw: draw.polygon(corners, outline=1 if self.outlined else None, fill=1))

    def area(self) -> float:  # noqa: D102
        return polygon_area([self.ring])


class PillowRectangle(NamedTuple):
    """A rectangle with its corners."""

    left: float
    top: float
    right: float
    bottom: float

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        _points(self, _MAX_PILLOW)
        return _drawn_by_pillow(height, width, lambda draw: draw.rectangle(tuple(self), outline=1, fill=1))

    def area(self) -> float:  # noqa: D102
        return (self.right - self.left) * (self.bottom - self.top)


class PillowEllipse(NamedTuple):
    """An ellipse with the corners of its box."""

    left: float
    top: float
    right: float
    bottom: float

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        _points(self, _MAX_PILLOW)
        return _drawn_by_pillow(height, width, lambda draw: draw.ellipse(tuple(self), outline=1, fill=1))

    def area(self) -> float:  # noqa: D102
        return np.pi / 4 * (self.right - self.left) * (self.bottom - self.top)


class OpenCVFractions(NamedTuple):
    """A polygon in fractions of the image's width and height, in 32-bit numbers."""

    ring: Sequence[float]

    def region(self, height: int, width: int) -> Region:  # noqa: D102
        with np.errstate(over="ignore"):
            points = np.asarray(self.ring, np.float32)
            if len(points) % 2:
                raise ValueError(f"a polygon has {len(points)} numbers, expected x and y of each point")
            scaled = points.reshape(-1, 2) * np.array([width, height], np.float32)
        corners = _points(scaled.ravel(), _MAX_OPENCV).astype(np.int32)
        left, top, wide, high = cv2.boundingRect(corners)
        if left < 0 or top < 0 or left + wide > width or top + high > height:  # OpenCV clips the outline at the edges of its canvas
            left, top, wide, high = 0, 0, width, height
        canvas = np.zeros((high, wide), np.uint8)
        cv2.fillPoly(canvas, [corners - (left, top)], 1)
        return _drawn(canvas, top, left)

    def area(self) -> float:  # noqa: D102
        return polygon_area([self.ring])


def _points(numbers: Sequence[float] | npt.NDArray[np.floating], limit: float) -> npt.NDArray[np.floating]:
    """Return points (n, 2); ValueError where a coordinate is beyond a limit."""
    points = np.asarray(numbers)
    if len(points) % 2:
        raise ValueError(f"a polygon has {len(points)} numbers, expected x and y of each point")
    if not (np.abs(points) <= limit).all():
        raise ValueError(f"a coordinate is not a number from -{limit:g} to {limit:g} pixels, which the tool could not draw either")
    return points.reshape(-1, 2)


def _drawn_by_pillow(height: int, width: int, draw: Callable[[ImageDraw.ImageDraw], object]) -> Region:
    canvas = Image.new("L", (width, height))
    draw(ImageDraw.Draw(canvas))
    return _drawn(np.asarray(canvas))


def _drawn(canvas: npt.NDArray[np.uint8], first_row: int = 0, first_column: int = 0) -> Region:
    """Return what is not 0 in a part of an image that begins at a row and a column."""
    left, top, wide, high = cv2.boundingRect(canvas)
    mask = canvas[top : top + high, left : left + wide] != 0
    return Region(first_row + top, first_column + left, mask) if wide else EMPTY
