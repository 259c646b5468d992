"""Curves and the confusion matrix as inline SVG: numbers in, coordinates out.

The template draws them in the page's own colours and type, so that they follow the light
or dark scheme, print sharply and can be read by a screen reader.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.text import visible
from upscore.types import LabelSpace

__all__ = ["Curve", "Heatmap", "draw_curve", "draw_heatmap", "list_confusions", "round_ticks"]

_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 34
_INK = (36, 92, 172)
_MOST_NUMBERED = 24


@dataclass(frozen=True)
class Curve:
    """One learning curve in the coordinates of its image.

    Parameters
    ----------
    title : str
        What is drawn.
    width, height : int
        Of the image.
    line : str
        Points of the polyline.
    dots : list of (float, float)
        Every point, for curves short enough to show them.
    mark : (float, float, str)
        The point to note, and its value in words.
    across, along : list of (float, str)
        Ticks of the y and x axes: where, and their text.
    summary : str
        The curve in one sentence, for those who cannot see it.
    unit : str
        What the x axis counts.
    """

    title: str
    width: int
    height: int
    line: str
    dots: list[tuple[float, float]]
    mark: tuple[float, float, str]
    across: list[tuple[float, str]]
    along: list[tuple[float, str]]
    summary: str
    unit: str
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    base: int = _HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Heatmap:
    """The row-normalised confusion matrix in the coordinates of its image.

    Parameters
    ----------
    image : str
        The cells, one pixel each, as a data URI: ink as opaque as the share is large.
    size, cell, gutter, header, beyond : float
        Side of the matrix, side of a cell, room for names left of it, above it and right of it.
    font : float
        Size of the names.
    turn : int
        Degrees by which the names above the columns are turned.
    names : list of (float, str)
        Where along the axis each name stands.
    numbers : list of (float, float, str, bool)
        Percentages to print, and whether on dark ground; empty for many classes.
    """

    image: str
    size: float
    cell: float
    gutter: float
    header: float
    beyond: float
    font: float
    turn: int
    names: list[tuple[float, str]]
    numbers: list[tuple[float, float, str, bool]]


def draw_curve(rows: Sequence[Mapping[str, Any]], name: str, *, title: str, over: str = "epoch", best: str = "last") -> Curve | None:
    """Lay out one column of a table over another: of a training history over its epochs.

    Parameters
    ----------
    rows : sequence of mapping
        Each with ``over`` and perhaps ``name``; values that are missing or not finite are left out.
    name : str
        The column.
    title : str
        What it is called.
    over : str
        The column along the x axis, of whole numbers.
    best : {"last", "most"}
        Which point to note.

    Returns
    -------
    Curve or None
        None when there is no value to draw.
    """
    points = [(float(row[over]), float(row[name])) for row in rows if _is_number(row.get(over)) and _is_number(row.get(name))]
    if not points:
        return None
    places, values = [place for place, _ in points], [value for _, value in points]
    levels = round_ticks(min(0.0, *values), max(values), 5)
    steps = [tick for tick in round_ticks(min(places), max(places), 6) if tick == int(tick) and min(places) <= tick <= max(places)]
    low, high = levels[0], levels[-1]
    first, span = min(places), max(max(places) - min(places), 1.0)

    def x(place: float) -> float:
        return round(_LEFT + (place - first) / span * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    noted, value = max(points, key=lambda point: point[1]) if best == "most" else points[-1]
    return Curve(
        title=title,
        width=_WIDTH,
        height=_HEIGHT,
        line=" ".join(f"{x(p)},{y(v)}" for p, v in points),
        dots=[(x(p), y(v)) for p, v in points] if len(points) <= 40 else [],
        mark=(x(noted), y(value), f"{value:.3g}"),
        across=[(y(level), f"{level:g}") for level in levels],
        along=[(x(step), f"{step:g}") for step in steps],
        summary=f"{title}: {values[0]:.3g} at {over} {places[0]:g}, {values[-1]:.3g} at {over} {places[-1]:g}; "
        f"{value:.3g} noted at {over} {noted:g}.",
        unit=over,
    )


def draw_heatmap(counts: npt.NDArray[np.int64], labels: LabelSpace) -> Heatmap:
    """Lay out a confusion matrix, each row as shares of its true class.

    Parameters
    ----------
    counts : (K, K) int64
        Row is truth.
    labels : LabelSpace
        K names; long ones are cut.

    Returns
    -------
    Heatmap
    """
    shares = _row_shares(counts)
    classes = len(labels)
    cell = float(min(44.0, max(9.0, 760 / classes)))
    font = min(13.0, cell * 0.92)
    names = [_cut(visible(name), 18) for name in labels.names]
    longest = max(len(name) for name in names)
    gutter = 14 + longest * font * 0.58
    upright = cell < 2 * font  # slanted names would overlap
    pixels = np.empty((classes, classes, 4), np.uint8)
    pixels[..., :3] = _INK[::-1]
    # A square root lets shares of one in a hundred be seen beside those of nine in ten.
    pixels[..., 3] = np.rint(255 * np.sqrt(shares))
    _, encoded = cv2.imencode(".png", pixels)
    numbers = []
    if classes <= _MOST_NUMBERED:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            numbers.append(((column + 0.5) * cell, (row + 0.5) * cell, f"{100 * share:.0f}", bool(share > 0.55)))
    return Heatmap(
        image="data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode(),
        size=cell * classes,
        cell=cell,
        gutter=gutter,
        header=gutter if upright else 16 + longest * font * 0.43,
        beyond=2.0 if upright else longest * font * 0.43,
        font=font,
        turn=-90 if upright else -45,
        names=[((i + 0.5) * cell, name) for i, name in enumerate(names)],
        numbers=numbers,
    )


def list_confusions(counts: npt.NDArray[np.int64], labels: LabelSpace, *, most: int = 6) -> list[tuple[str, str, float, int]]:
    """Return the commonest mistakes as (true class, taken for, share of the true class, pixels), by pixels."""
    shares = _row_shares(counts)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(labels)) for place in order]
    return [(labels.names[i], labels.names[j], float(shares[i, j]), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about ``count`` round numbers (1, 2 or 5 times a power of ten apart) that enclose ``low`` to ``high``."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / count * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span if high <= low else high) / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    totals: npt.NDArray[np.int64] = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, np.maximum(totals, 1), dtype=np.float64)


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
