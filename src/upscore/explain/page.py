"""An explanation as one HTML page in a single file: no network, no script, no font.

A click on the image chooses the nearest point without a script: the points are radio
buttons, and their labels divide the image. Class names, paths and layer names are
untrusted: the template escapes them, and the page's security policy forbids it to load or run anything.
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
from upscore.explain.receptive_fields import ReceptiveField
from upscore.explain.skip_contributions import SkipPrediction
from upscore.files import write_atomically
from upscore.html.drawing import as_uri, colour_heat, pale, shrink
from upscore.html.error_view import INVENTED, MISSED, draw_errors, find_class_errors, find_errors, legend_of_errors
from upscore.html.template import open_template
from upscore.metrics import ConfusionMatrix
from upscore.types import IGNORE, LabelSpace, Prediction

__all__ = ["write_explanation"]

LARGE = 1000
"""Longer side of the image on which points are chosen, in pixels."""

MIN_FRACTION, MAX_CLASSES = 0.005, 24
"""A class map is shown of classes with at least this fraction of the image's pixels, the largest so many."""

PAPERS = {
    "FCN": "docs/papers/fcn.md",
    "LateFusion": "docs/papers/fcn.md",
    "DeconvNet": "docs/papers/deconvnet.md",
    "SegNet": "docs/papers/segnet.md",
    "SegNetBasic": "docs/papers/segnet.md",
    "UNet": "docs/papers/unet.md",
    "UNetDecoder": "docs/papers/unet.md",
}
"""Which page of upscore's repository shows a network's paper beside its code, by the name of its class."""

ANSWERS = {
    "FCN": (
        ("why FCN adds these levels", "docs/papers/fcn.md#why-pool3-and-pool4"),
        (
            "whether information moves from the border to the middle",
            "docs/papers/fcn.md#does-information-from-the-border-move-to-the-middle",
        ),
        ("what is invariant, and to what", "docs/papers/fcn.md#what-is-invariant-and-to-what"),
    ),
    "DeconvNet": (
        ("what the decoder's layers show", "docs/papers/deconvnet.md#what-do-the-decoders-layers-show"),
        ("whether unpooling eases backpropagation", "docs/papers/deconvnet.md#does-unpooling-ease-backpropagation"),
        ("what objects of other sizes do", "docs/papers/deconvnet.md#does-a-fixed-receptive-field-split-large-objects-and-lose-small-ones"),
    ),
    "SegNet": (
        ("why a network downsamples", "docs/papers/segnet.md#why-downsample-and-then-upsample"),
        ("why channels go up and down", "docs/papers/segnet.md#why-do-channels-go-up-and-down"),
    ),
    "UNet": (("why maps are concatenated", "docs/papers/unet.md#why-are-maps-concatenated-and-not-added"),),
}
"""Questions that a reader of an explanation asks, and where they are answered, by the name of the network's class."""

_MARK = (255, 255, 255)
_CHANGED = (214, 40, 60)


@dataclass(frozen=True)
class ClassView:
    """A class: its fraction of the pixels, its greatest probability, and its probability map as a data URI, or ""."""

    name: str
    colour: tuple[int, int, int]
    fraction: float
    max_probability: float
    map: str


@dataclass(frozen=True)
class LayerView:
    """A layer: its maps as data URIs by channel, of which the first is shown large."""

    name: str
    step: str
    shape: tuple[int, int, int]
    maps: list[tuple[str, str]]
    mean: str
    coarse: bool


@dataclass(frozen=True)
class SkipView:
    """A partial sum of an FCN: labels, confidence and changes as data URIs, and how many pixels changed."""

    name: str
    labels: str
    confidence: str
    changes: str
    changed_pixels: int
    changed_fraction: float


@dataclass(frozen=True)
class TruthView:
    """The truth beside the prediction: data URIs, and what is true at the pixel; metrics are of this image."""

    colours: str
    errors: str
    class_errors: str  #: of the class predicted at the pixel
    at_pixel: str  #: the true class there, "" where it is unknown
    correct: bool  #: whether the prediction is right at the pixel
    pixel_accuracy: float
    class_iou: float  #: of the class predicted at the pixel


@dataclass(frozen=True)
class PointView:
    """A point: the part of the image that chooses it, in per cent, and the receptive field that is then shown."""

    row: int
    column: int
    area: tuple[float, float, float, float]
    effective: str
    theoretical: tuple[int, int, int, int]
    enclosing: tuple[float, float, int]
    theoretical_side: int | float
    name: str
    colour: tuple[int, int, int]
    probability: float


def write_explanation(explanation: Explanation, out: str | os.PathLike[str], *, command: str | None = None) -> Path:
    """Write an explanation of :func:`upscore.explain.explain_image` as one HTML file, and return its path.

    The folder of ``out`` is made if need be, and a file of this name is replaced; OutputError where it cannot be written. ``command`` is
    the command line that writes this page, which shows Python lines when it is not given.
    """
    e, path = explanation, Path(out)
    encoder, decoder = split_at_coarsest(e.activations)
    classes, rest = _view_classes(e)
    height, width = e.image.shape[:2]
    page = open_template("explain", "page.html.j2").render(
        e=e,
        name=Path(e.key).name or "An image",
        size=(height, width),
        thumbnail=shrink(e.image).shape[:2],
        pixel=_view_point(e, e.receptive_fields[0], (0, 0, 0, 0)),
        ranking=_rank(e),
        image=as_uri(_outline(e), quality=82),
        large=as_uri(shrink(e.image, side=LARGE), quality=82),
        overlay=as_uri(shrink(Prediction(e.label_map, e.labels).overlay(e.image)), quality=82),
        scale=as_uri(colour_heat(np.linspace(0, 1, 128)[None])),
        classes=classes,
        rest=rest,
        truth=_view_truth(e),
        one_class=len(e.labels) == 1,
        one_predicted=bool((e.label_map == e.label_map[0, 0]).all()),
        unbounded=math.isinf(e.receptive_fields[0].theoretical_side),
        glow=as_uri(_glow(np.linspace(0, 1, 26, dtype=np.float32)[None])),
        errors_legend=legend_of_errors(e.labels),
        class_errors_legend=(MISSED.colour, INVENTED.colour),
        paper=PAPERS.get(e.network, ""),
        answers=ANSWERS.get(e.network, ()),
        entropy=as_uri(colour_heat(shrink(_entropy(e.probs))), quality=85),
        encoder=[_view_layer(layer, e) for layer in encoder],
        decoder=[_view_layer(layer, e) for layer in decoder],
        skips=[_view_skip(skip, e.image, e.labels, first=i == 0) for i, skip in enumerate(e.skip_predictions)],
        points=_view_points(e),
        environment={"upscore": upscore.__version__, "torch": torch.__version__, "python": platform.python_version()},
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or _python_lines(e),
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _rank(e: Explanation) -> list[tuple[str, tuple[int, int, int], float]]:
    """Return the three most probable classes of the pixel: name, colour, probability."""
    probs = e.probs[:, e.pixel[0], e.pixel[1]]
    return [(e.labels.names[k], e.labels.palette[k], float(probs[k])) for k in np.argsort(-probs, kind="stable")[:3]]


def _view_classes(e: Explanation) -> tuple[list[ClassView], list[ClassView]]:
    """Return the classes whose maps are shown, the largest first, and those that are only listed."""
    fractions = np.array(list(Prediction(e.label_map, e.labels).class_fractions().values()))
    order = np.argsort(-fractions, kind="stable")
    shown = [int(k) for k in order if fractions[k] >= MIN_FRACTION][:MAX_CLASSES]
    views = []
    for k in map(int, order):
        drawn = as_uri(colour_heat(shrink(e.probs[k])), quality=85) if k in shown else ""
        views.append(ClassView(e.labels.names[k], e.labels.palette[k], float(fractions[k]), float(e.probs[k].max()), drawn))
    return views[: len(shown)], views[len(shown) :]


def _entropy(probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the normalised entropy of (K, H, W) probabilities: 0 where one class is certain, 1 where all are equal."""
    if len(probs) == 1:
        return np.zeros(probs.shape[1:], np.float32)
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(0) / math.log(len(probs))
    return np.asarray(entropy, np.float32)


def _outline(e: Explanation) -> npt.NDArray[np.uint8]:
    """Return the image with the object's contour drawn on it."""
    image = shrink(e.image)
    inside = (shrink(e.region.astype(np.float32)) >= 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, thickness in (((0, 0, 0), 3), (_MARK, 1)):
        image = np.asarray(cv2.drawContours(np.ascontiguousarray(image), contours, -1, colour, thickness), np.uint8)
    return image


def _view_truth(e: Explanation) -> TruthView | None:
    if e.truth is None:
        return None
    matrix = ConfusionMatrix(len(e.labels))
    matrix.add(e.truth, e.label_map)
    metrics = matrix.metrics()
    k, at_pixel, image = int(e.label_map[e.pixel]), int(e.truth[e.pixel]), shrink(e.image)
    truth, predicted = (shrink(label_map, exact=True) for label_map in (e.truth, e.label_map))
    return TruthView(
        as_uri(Prediction(truth, e.labels).colours()),
        as_uri(draw_errors(find_errors(truth, predicted, e.labels), image)),
        as_uri(draw_errors(find_class_errors(truth, predicted, k), image)),
        "" if at_pixel == IGNORE else e.labels.names[at_pixel],
        at_pixel == k,
        metrics.pixel_accuracy,
        float(metrics.class_iou[k]),
    )


def _view_layer(layer: Activation, e: Explanation) -> LayerView:
    # After its backbone, an FCN computes scores only: the channels are the classes.
    is_scores = layer is e.activations[-1] or (bool(e.skip_predictions) and not layer.name.startswith("backbone/"))
    names = [e.labels.names[channel] if is_scores else str(channel) for channel in layer.channels]
    maps = [(name, _draw_map(channel)) for name, channel in zip(names, layer.maps, strict=True)]
    return LayerView(layer.name, layer.step, layer.shape, maps, _draw_map(layer.mean), max(layer.shape[1:]) < 160)


def _draw_map(values: npt.NDArray[np.float32]) -> str:
    """Return a map as a data URI, from 0 or its minimum to its 99.8 % quantile."""
    low, high = min(0.0, float(values.min())), float(np.quantile(values, 0.998))
    high = high if high > low else float(values.max())
    normalized = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return as_uri(colour_heat(normalized), quality=101 if values.size < 64 * 64 else 82)


def _view_skip(skip: SkipPrediction, image: npt.NDArray[np.uint8], labels: LabelSpace, *, first: bool) -> SkipView:
    changes = pale(shrink(image))
    # A changed line one pixel wide would vanish between the pixels of a smaller image.
    changes[shrink(skip.changed.astype(np.float32)) > 0] = _CHANGED
    return SkipView(
        skip.name,
        as_uri(Prediction(shrink(skip.label_map, exact=True), labels).colours()),
        as_uri(colour_heat(shrink(skip.confidence)), quality=85),
        as_uri(shrink(image), quality=82) if first else as_uri(changes),
        int(skip.changed.sum()),
        float(skip.changed.mean()),
    )


def _view_points(e: Explanation) -> list[PointView]:
    """Return the grid's points, each chosen by its part of the image, and last the explained pixel, by a small spot on top."""
    (rows, columns), (height, width) = e.grid, e.image.shape[:2]
    views = [
        _view_point(e, field, (100 * (i // columns) / rows, 100 * (i % columns) / columns, 100 / rows, 100 / columns))
        for i, field in enumerate(e.receptive_fields[1:])
    ]
    top, left = (100 * (at + 0.5) / n for at, n in zip(e.pixel, (height, width), strict=True))
    return [*views, _view_point(e, e.receptive_fields[0], (top, left, 0, 0))]


def _view_point(e: Explanation, field: ReceptiveField, area: tuple[float, float, float, float]) -> PointView:
    (row, column), window, side = field.pixel, field.theoretical, field.effective_side
    k = int(e.label_map[row, column])
    return PointView(
        row,
        column,
        area,
        as_uri(_glow(field.effective), quality=80),
        (window.left, window.top, window.right - window.left, window.bottom - window.top),
        (column + 0.5 - side / 2, row + 0.5 - side / 2, side),
        field.theoretical_side,
        e.labels.names[k],
        e.labels.palette[k],
        float(e.probs[k, row, column]),
    )


def _glow(effective: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return (h, w, 4) uint8: the colours of an effective receptive field, transparent where it is weak.

    Derivatives span so many orders of magnitude that their square roots are drawn.
    """
    high = float(np.quantile(effective, 0.999)) or float(effective.max())
    strength = np.sqrt(np.clip(effective / high, 0, 1)) if high > 0 else np.zeros_like(effective)
    opacity = np.rint(255 * np.clip(1.6 * strength, 0, 1)).astype(np.uint8)
    return np.dstack([colour_heat(0.25 + 0.75 * strength), opacity])


def _python_lines(e: Explanation) -> str:
    return (
        "from upscore.explain import explain_image, write_explanation\n"
        f"write_explanation(explain_image({e.source!r}, {e.key or 'image'!r}{', truth=truth' if e.truth is not None else ''}), "
        "'explanation.html')"
    )
