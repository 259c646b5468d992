"""An explanation as one page that needs nothing but itself: no network, no script, no font.

A click on the image chooses the nearest point without a script: the points are radio
buttons, and the image is divided into their labels. Class names, paths and layer names are
untrusted: the template escapes them, and the page forbids itself to load or run anything.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

import upscore
from upscore.explain.activations import Activation, split_at_coarsest
from upscore.explain.explanation import Explanation
from upscore.explain.receptive_fields import Field
from upscore.explain.skip_contributions import Stream
from upscore.files import write_atomically
from upscore.html.drawing import THUMBNAIL, as_uri, colour_heat, pale, shrink
from upscore.html.template import open_template
from upscore.types import LabelSpace, Prediction

__all__ = ["write_explanation"]

LARGE = 1000
"""Longer side of the image that is clicked on, in pixels."""

LEAST_SHARE, MOST_CLASSES = 0.005, 24
"""A class whose map is shown has at least this share of the image's pixels, and is among the so many largest."""

_MARK = (255, 255, 255)
_CHANGED = (214, 40, 60)


@dataclass(frozen=True)
class ClassView:
    """A class of the image: its share, its greatest probability, and its map as a data URI, or ""."""

    name: str
    colour: tuple[int, int, int]
    share: float
    most: float
    map: str


@dataclass(frozen=True)
class LayerView:
    """A layer: its words, and its maps as data URIs by channel; the first is shown large."""

    name: str
    step: str
    shape: tuple[int, int, int]
    maps: list[tuple[str, str]]
    mean: str
    coarse: bool


@dataclass(frozen=True)
class StreamView:
    """One stream of an FCN: its labels, confidence and changes as data URIs, and how many pixels changed."""

    name: str
    labels: str
    confidence: str
    changes: str
    pixels: int
    share: float


@dataclass(frozen=True)
class FieldView:
    """A point that can be chosen: the part of the image that chooses it, in per cent, and what is then shown."""

    row: int
    column: int
    area: tuple[float, float, float, float]
    heat: str
    theoretical: tuple[int, int, int, int]
    held: tuple[float, float, int]
    side: int | float
    name: str
    colour: tuple[int, int, int]
    probability: float


def write_explanation(explanation: Explanation, out: str | os.PathLike[str], *, command: str | None = None) -> Path:
    """Write an explanation as one HTML file.

    Parameters
    ----------
    explanation : Explanation
        Of :func:`upscore.explain.explain_image`.
    out : path
        The file; its folder is made if need be, and a file of this name is replaced.
    command : str, optional
        The command line that repeats this; the Python lines when not given.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    e, path = explanation, Path(out)
    down, up = split_at_coarsest(e.activations)
    classes, rest = _view_classes(e)
    height, width = e.image.shape[:2]
    page = open_template("explain", "page.html.j2").render(
        e=e,
        name=Path(e.key).name or "An image",
        size=(height, width),
        thumbnail=shrink(e.image, exact=False).shape[:2],
        pixel=_view_field(e, e.fields[0], (0, 0, 0, 0)),
        ranking=_rank(e),
        image=as_uri(_outline(e), quality=82),
        large=as_uri(shrink(e.image, exact=False, side=LARGE), quality=82),
        overlay=as_uri(shrink(Prediction(e.label_map, e.labels).overlay(e.image), exact=False), quality=82),
        scale=as_uri(colour_heat(np.linspace(0, 1, 128)[None])),
        classes=classes,
        rest=rest,
        entropy=as_uri(colour_heat(_resize(_entropy(e.probs))), quality=85),
        down=[_view_layer(layer, e) for layer in down],
        up=[_view_layer(layer, e) for layer in up],
        streams=[_view_stream(stream, e.image, e.labels, first=i == 0) for i, stream in enumerate(e.streams)],
        fields=_view_fields(e),
        environment={"upscore": upscore.__version__, "torch": torch.__version__, "python": platform.python_version()},
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or _python_lines(e),
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _rank(e: Explanation) -> list[tuple[str, tuple[int, int, int], float]]:
    """Return the three most probable classes of the pixel: name, colour, probability."""
    probs = e.probs[:, e.at[0], e.at[1]]
    return [(e.labels.names[k], e.labels.palette[k], float(probs[k])) for k in np.argsort(-probs, kind="stable")[:3]]


def _view_classes(e: Explanation) -> tuple[list[ClassView], list[ClassView]]:
    """Return the classes whose maps are shown, the largest first, and those that are only listed."""
    shares = np.array(list(Prediction(e.label_map, e.labels).class_fractions().values()))
    order = np.argsort(-shares, kind="stable")
    shown = [int(k) for k in order if shares[k] >= LEAST_SHARE][:MOST_CLASSES]
    views = []
    for k in map(int, order):
        drawn = as_uri(colour_heat(_resize(e.probs[k])), quality=85) if k in shown else ""
        views.append(ClassView(e.labels.names[k], e.labels.palette[k], float(shares[k]), float(e.probs[k].max()), drawn))
    return views[: len(shown)], views[len(shown) :]


def _entropy(probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how undecided (K, H, W) probabilities are: 0 where one class is certain, 1 where all are alike."""
    if len(probs) == 1:
        return np.zeros(probs.shape[1:], np.float32)
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(0) / math.log(len(probs))
    return np.asarray(entropy, np.float32)


def _resize(values: npt.NDArray[np.float32], side: int = THUMBNAIL) -> npt.NDArray[np.float32]:
    scale = min(1.0, side / max(values.shape))
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def _outline(e: Explanation) -> npt.NDArray[np.uint8]:
    """Return the image with the border of the object."""
    image = shrink(e.image, exact=False)
    inside = (_resize(e.region.astype(np.float32)) >= 0.5).astype(np.uint8)
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, thick in (((0, 0, 0), 3), (_MARK, 1)):
        image = np.asarray(cv2.drawContours(np.ascontiguousarray(image), lines, -1, colour, thick), np.uint8)
    return image


def _view_layer(layer: Activation, e: Explanation) -> LayerView:
    # What an FCN does after its backbone it does to scores, whose channels are the classes.
    scores = layer is e.activations[-1] or (bool(e.streams) and not layer.name.startswith("backbone/"))
    called = [e.labels.names[channel] if scores else str(channel) for channel in layer.channels]
    maps = [(name, _draw_map(one)) for name, one in zip(called, layer.maps, strict=True)]
    return LayerView(layer.name, layer.step, layer.shape, maps, _draw_map(layer.mean), max(layer.shape[1:]) < 160)


def _draw_map(values: npt.NDArray[np.float32]) -> str:
    """Return a map as a data URI, from its least value, or 0, to one that hardly any cell exceeds."""
    low, high = min(0.0, float(values.min())), float(np.quantile(values, 0.998))
    high = high if high > low else float(values.max())
    spread = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return as_uri(colour_heat(spread), quality=101 if values.size < 64 * 64 else 82)


def _view_stream(stream: Stream, image: npt.NDArray[np.uint8], labels: LabelSpace, *, first: bool) -> StreamView:
    changes = pale(shrink(image, exact=False))
    # A changed line one pixel wide would be lost between the pixels of a smaller image.
    changes[_resize(stream.changed.astype(np.float32)) > 0] = _CHANGED
    return StreamView(
        stream.name,
        as_uri(Prediction(shrink(stream.label_map, exact=True), labels).colours()),
        as_uri(colour_heat(_resize(stream.confidence)), quality=85),
        as_uri(shrink(image, exact=False), quality=82) if first else as_uri(changes),
        int(stream.changed.sum()),
        float(stream.changed.mean()),
    )


def _view_fields(e: Explanation) -> list[FieldView]:
    """Return the grid's points, each chosen by its part of the image, and over them the pixel, by a small spot."""
    (rows, columns), (height, width) = e.grid, e.image.shape[:2]
    views = [
        _view_field(e, field, (100 * (i // columns) / rows, 100 * (i % columns) / columns, 100 / rows, 100 / columns))
        for i, field in enumerate(e.fields[1:])
    ]
    row, column = (100 * (at + 0.5) / n for at, n in zip(e.at, (height, width), strict=True))
    return [*views, _view_field(e, e.fields[0], (row, column, 0, 0))]


def _view_field(e: Explanation, field: Field, area: tuple[float, float, float, float]) -> FieldView:
    (row, column), window, held = field.at, field.theoretical, field.held_side
    k = int(e.label_map[row, column])
    return FieldView(
        row,
        column,
        area,
        as_uri(_glow(field.heat), quality=80),
        (window.left, window.top, window.right - window.left, window.bottom - window.top),
        (column + 0.5 - held / 2, row + 0.5 - held / 2, held),
        field.side,
        e.labels.names[k],
        e.labels.palette[k],
        float(e.probs[k, row, column]),
    )


def _glow(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return (h, w, 4) uint8: a field's colours, which let the image through where it is weak.

    Derivatives are spread over so many orders that their square roots are drawn.
    """
    most = float(np.quantile(heat, 0.999)) or float(heat.max())
    strength = np.sqrt(np.clip(heat / most, 0, 1)) if most > 0 else np.zeros_like(heat)
    opacity = np.rint(255 * np.clip(1.6 * strength, 0, 1)).astype(np.uint8)
    return np.dstack([colour_heat(0.25 + 0.75 * strength), opacity])


def _python_lines(e: Explanation) -> str:
    return (
        "from upscore.explain import explain_image, write_explanation\n"
        f"write_explanation(explain_image({e.source!r}, {e.key or 'image'!r}), 'explanation.html')"
    )
