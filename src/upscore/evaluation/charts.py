"""Curves and the confusion matrix as inline SVG: numbers in, coordinates out.

The template draws them in the page's colours and fonts, so that they follow the light
or dark scheme, print sharply and can be read by a screen reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.html.drawing import as_uri
from upscore.text import visible
from upscore.types import LabelSpace

__all__ = ["Curve", "Heatmap", "Line", "draw_curve", "draw_heatmap", "list_confusions", "round_ticks"]

_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 34
_CELL_COLOUR = (36, 92, 172)
_MAX_NUMBERED = 24


@dataclass(frozen=True)
class Line:
    """A line of a chart, in its coordinates."""

    name: str  #: what it shows
    points: str  #: of the polyline
    dots: list[tuple[float, float]]  #: every point, where there are at most 40
    mark: tuple[float, float]  #: the marked point
    value: tuple[float, float, str]  #: the position of its value's text, and the text


@dataclass(frozen=True)
class Curve:
    """A chart with at least one line, in the coordinates of its image."""

    title: str
    lines: list[Line]
    y_ticks: list[tuple[float, str]]  #: coordinate and text
    x_ticks: list[tuple[float, str]]
    summary: str  #: the chart in words, for screen readers
    unit: str  #: what the x axis counts
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT  #: the sides of the area with the lines
    right: int = _WIDTH - _RIGHT
    bottom: int = _HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Heatmap:
    """The row-normalised confusion matrix in the coordinates of its image."""

    image: str  #: the cells, one pixel each, as a data URI; opacity grows with the fraction
    size: float  #: side of the matrix
    cell: float  #: side of a cell
    left: float  #: margins for the class names
    top: float
    right: float
    font_size: float  #: of the names
    angle: int  #: rotation of the names above the columns, in degrees
    names: list[tuple[float, str]]  #: coordinate along the axis and text
    numbers: list[tuple[float, float, str, bool]]  #: percentages to print, and whether on a dark cell; empty for many classes


def draw_curve(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    title: str,
    x: str = "epoch",
    mark: str = "last",
    percent: bool = False,
) -> Curve | None:
    """Lay out columns of a table over another column: of a training history over its epochs.

    Values of ``rows`` that are missing or not finite are left out. ``columns`` are those to draw, with their names on the page; those
    without a value are left out, and where no value is left the result is None. With ``percent`` values are fractions, and drawn as
    percentages. ``x`` is the column along the x axis, of whole numbers;
    ``mark``, "last" or "max", is which point of each line is marked with its value.
    >>> curve = draw_curve([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}], {"loss": "training"}, title="Loss")
    >>> curve.summary
    'Loss, training: 2 at epoch 1, 1 at epoch 2; marked: 1 at epoch 2.'
    """
    factor = 100.0 if percent else 1.0
    table = {name: [(float(row[x]), factor * float(row[column])) for row in rows if _is_number(row.get(x)) and _is_number(row.get(column))]
             for column, name in columns.items()}  # fmt: skip
    table = {name: points for name, points in table.items() if points}
    if not table:
        return None
    xs, ys = zip(*(point for points in table.values() for point in points), strict=True)
    levels = round_ticks(min(0.0, *ys), max(ys), 5)
    steps = [tick for tick in round_ticks(min(xs), max(xs), 6) if tick == int(tick) and min(xs) <= tick <= max(xs)]
    low, high, first, span = levels[0], levels[-1], min(xs), max(max(xs) - min(xs), 1.0)

    def position(point: tuple[float, float]) -> tuple[float, float]:
        across = _LEFT + (point[0] - first) / span * (_WIDTH - _LEFT - _RIGHT)
        up = _HEIGHT - _BOTTOM - (point[1] - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(up, 1)

    marked = {name: max(points, key=lambda point: point[1]) if mark == "max" else points[-1] for name, points in table.items()}
    highest = max(marked, key=lambda name: marked[name][1])
    lines, summary = [], []
    for name, points in table.items():
        dots, at = [position(point) for point in points], position(marked[name])
        above = at[1] > 30 if name == highest else at[1] + 22 > _HEIGHT - _BOTTOM  # texts of two lines do not overlap
        text = min(max(at[0], _LEFT + 20), _WIDTH - _RIGHT - 20), at[1] - 13 if above else at[1] + 22, f"{marked[name][1]:.3g}"
        lines.append(Line(name, " ".join(f"{left},{top}" for left, top in dots), dots if len(dots) <= 40 else [], at, text))
        summary.append(
            f"{title}, {name}: {points[0][1]:.3g} at {x} {points[0][0]:g}, {points[-1][1]:.3g} at {x} {points[-1][0]:g}; "
            f"marked: {marked[name][1]:.3g} at {x} {marked[name][0]:g}."
        )
    y_ticks = [(position((first, level))[1], f"{level:g}") for level in levels]
    return Curve(title, lines, y_ticks, [(position((step, low))[0], f"{step:g}") for step in steps], " ".join(summary), x)


def draw_heatmap(counts: npt.NDArray[np.int64], labels: LabelSpace) -> Heatmap:
    """Lay out a confusion matrix (K, K), row = truth, each row as fractions of its true class; long names are truncated."""
    fractions = _row_fractions(counts)
    classes = len(labels)
    cell = float(min(44.0, max(9.0, 760 / classes)))
    font_size = min(13.0, cell * 0.92)
    names = [_truncate(visible(name), 18) for name in labels.names]
    longest = max(len(name) for name in names)
    left = 14 + longest * font_size * 0.58
    vertical = cell < 2 * font_size  # slanted names would overlap
    pixels = np.empty((classes, classes, 4), np.uint8)
    pixels[..., :3] = _CELL_COLOUR
    # A square root makes fractions of one in a hundred visible beside those of nine in ten.
    pixels[..., 3] = np.rint(255 * np.sqrt(fractions))
    numbers = []
    if classes <= _MAX_NUMBERED:
        for row, column in np.argwhere(fractions >= 0.005):
            fraction = fractions[row, column]
            numbers.append(((column + 0.5) * cell, (row + 0.5) * cell, f"{100 * fraction:.0f}", bool(fraction > 0.55)))
    return Heatmap(
        image=as_uri(pixels),
        size=cell * classes,
        cell=cell,
        left=left,
        top=left if vertical else 16 + longest * font_size * 0.43,
        right=2.0 if vertical else longest * font_size * 0.43,
        font_size=font_size,
        angle=-90 if vertical else -45,
        names=[((i + 0.5) * cell, name) for i, name in enumerate(names)],
        numbers=numbers,
    )


def list_confusions(counts: npt.NDArray[np.int64], labels: LabelSpace, *, max_pairs: int = 6) -> list[tuple[str, str, float, int]]:
    """Return the most frequent errors as (true class, predicted class, fraction of the true class, pixels), by pixels.

    >>> list_confusions(np.array([[90, 10], [0, 50]]), LabelSpace(("road", "car")))
    [('road', 'car', 0.1, 10)]
    """
    fractions = _row_fractions(counts)
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:max_pairs]
    pairs = [divmod(int(index), len(labels)) for index in order]
    return [(labels.names[i], labels.names[j], float(fractions[i, j]), int(errors[i, j])) for i, j in pairs if errors[i, j]]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers (1, 2 or 5 times a power of ten apart) that enclose ``low`` to ``high``.

    >>> round_ticks(0.0, 0.83, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / count * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span if high <= low else high) / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _row_fractions(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    totals: npt.NDArray[np.int64] = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, np.maximum(totals, 1), dtype=np.float64)


def _truncate(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
