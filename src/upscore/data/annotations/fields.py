"""The values of untrusted annotations, checked: each function raises a ``ValueError`` whose message is a reason for the caller."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from upscore.data.annotations.polygons import MAX_COORDINATE
from upscore.text import literal

__all__ = ["flat_points", "items_of", "name_of", "number_of", "size_of"]


def flat_points(points: Any) -> array[float]:
    """Return a list of points, each a list of x and y, as one flat array.

    >>> flat_points([[1, 2], [3, 4.5]])
    array('d', [1.0, 2.0, 3.0, 4.5])
    """
    try:
        flat = array("d", [number for x, y in points for number in (x, y)])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"it has the points {literal(points, 60)}, expected lists of two numbers") from None
    return flat


def number_of(value: Any, what: str) -> float:
    """Return a finite number, which may also be written as text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= MAX_COORDINATE:
        raise ValueError(f"its {what} is {literal(value, 40)}, expected a number")
    return number


def name_of(value: Any, what: str = "label") -> str:
    """Return a name, which is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {what} is {literal(value, 40)}, expected a name")
    return value


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """Return height and width in pixels; None where neither is given."""
    if height is None and width is None:
        return None
    sizes = [
        int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value
        for value in (height, width)
    ]
    if not all(type(value) is int and 0 < value <= MAX_COORDINATE for value in sizes):
        raise ValueError(f"its height is {literal(height, 40)} and its width {literal(width, 40)}, expected pixels")
    return sizes[0], sizes[1]


def items_of(value: Any, what: str) -> Sequence[Any]:
    """Return a list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"its {what} is {literal(value, 40)}, expected a list of objects")
    return value
