"""The growth of a canvas as pages: one for each image that is shown, and one with the curve over all of them.

``index.html`` and ``image-0001.html``, … need nothing but one another; ``growth.json`` holds the numbers.
Keys are untrusted, as in :mod:`upscore.evaluation.report`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.evaluation.charts import draw_curve
from upscore.evaluation.proposal_sweep import ProposalSweep, SweepImage
from upscore.files import write_atomically
from upscore.html.drawing import as_uri, pale, shrink
from upscore.html.template import open_template
from upscore.settings import InferenceSettings
from upscore.types import IGNORE, LabelSpace, Prediction

__all__ = ["ProposalSweepPages"]

FIRST = 5
"""Boxes that are drawn in colour."""

_FIRST, _CASE, _FAINT = (255, 176, 0), (0, 0, 0), 0.35


@dataclass(frozen=True)
class View:
    """One labelling on a page: its name, the image as a data URI, its mean IoU, and the share of the evaluated pixels it gets wrong."""

    name: str
    colours: str
    mean_iou: float
    wrong: float


@dataclass(frozen=True)
class Listed:
    """One image on the index."""

    file: str
    key: str
    image: str
    first: float
    last: float
    best: tuple[str, float]


class ProposalSweepPages:
    """Writes a page for some images as they are evaluated, and the index once all are.

    Parameters
    ----------
    out : path
        Folder; made if need be, files of these names are replaced.
    labels : LabelSpace
        The classes.
    settings : InferenceSettings
        In force.
    shown : sequence of int
        Numbers of the images that get a page.
    command : str
        The command line that repeats this.
    """

    def __init__(
        self, out: str | os.PathLike[str], *, labels: LabelSpace, settings: InferenceSettings, shown: Sequence[int], command: str
    ) -> None:
        self.folder, self.labels, self.settings, self.shown, self.command = Path(out), labels, settings, set(shown), command
        self.listed: list[Listed] = []

    def show(self, index: int, image: SweepImage) -> None:
        """Write the page of an image, if it is one of those that get one.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        if index not in self.shown:
            return
        assert image.sample.label is not None
        labels, truth, file = self.labels, image.sample.label, f"image-{index + 1:04}.html"
        grown = [_view(_boxes(count), label_map, truth, labels, image.metrics[str(count)]) for count, label_map in image.grown.items()]
        ways = [_view(name, label_map, truth, labels, image.metrics[name]) for name, label_map in image.ways.items()]
        small = shrink(image.sample.image, exact=False)
        page = open_template("evaluation", "proposal_sweep_image.html.j2").render(
            key=image.sample.key,
            size=image.sample.image.shape[:2],
            boxes=len(image.boxes),
            first=FIRST,
            found=image.found,
            enlarge=self.settings.proposals.enlarge if self.settings.proposals else 1.0,
            image=as_uri(small, quality=82),
            drawn=as_uri(_draw_boxes(image), quality=90),
            truth=as_uri(Prediction(shrink(truth, exact=True), labels).colours()),
            width=small.shape[1],
            height=small.shape[0],
            grown=grown,
            ways=ways,
            legend=[(labels.names[k], labels.palette[k]) for k in _present(image, len(labels))],
            ignored=labels.colours()[IGNORE].tolist() if (truth == IGNORE).any() else None,
        )
        write_atomically(self.folder / file, page.encode("utf-8", "replace"))
        values = [one.mean_iou for one in grown]
        best = max(image.ways, key=lambda name: image.metrics[name])
        thumbnail = as_uri(shrink(image.sample.image, exact=False, side=240), quality=80)
        self.listed.append(Listed(file, image.sample.key, thumbnail, values[0], values[-1], (best, image.metrics[best])))

    def write_index(self, growth: ProposalSweep, *, dataset: str, split: str, model: str) -> Path:
        """Write ``index.html`` and ``growth.json``; return the page's path."""
        rows = growth.curve()
        title = f"Mean IoU of {growth.network} over the number of proposals"
        curve = draw_curve(rows, {"mean_iou": "mean IoU"}, title=title, x="proposals", mark="max")
        ways = [(name, growth.mean_iou(name)) for name in growth.ways if name != growth.all_boxes]
        page = open_template("evaluation", "proposal_sweep.html.j2").render(
            dataset=dataset,
            split=split,
            model=model,
            growth=growth,
            rows=rows,
            curve=curve,
            ways=ways,
            best=max((value for _, value in ways if not math.isnan(value)), default=math.nan),
            listed=self.listed,
            proposals=self.settings.proposals,
            crf=str(self.settings.crf) if self.settings.uses_crf else "",
            command=self.command,
        )
        numbers: dict[str, Any] = {
            "model": model,
            "dataset": {"name": dataset, "split": split, "images": growth.images, "without_proposals": growth.without},
            "settings": self.settings.model_dump(mode="json"),
            "mean_iou": {"proposals": {str(int(row["proposals"])): _finite(row["mean_iou"]) for row in rows}}
            | {"ways": {name: _finite(value) for name, value in ways}},
            "class_iou": {
                what: [_finite(value) for value in matrix.metrics().class_iou.tolist()] for what, matrix in growth.matrices.items()
            },
            "classes": list(growth.labels.names),
            "repeat": self.command,
        }
        text = json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / "growth.json", text.encode("utf-8", "backslashreplace"))
        write_atomically(self.folder / "index.html", page.encode("utf-8", "replace"))
        return self.folder / "index.html"


def _view(name: str, label_map: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], labels: LabelSpace, score: float) -> View:
    evaluated = truth != IGNORE
    wrong = float(((label_map != truth) & evaluated).sum() / max(1, evaluated.sum()))
    return View(name, as_uri(Prediction(shrink(label_map, exact=True), labels).colours()), score, wrong)


def _draw_boxes(image: SweepImage) -> npt.NDArray[np.uint8]:
    """Return the image, pale, with its boxes: the best in colour, on top of the others' faint lines."""
    ground = pale(shrink(image.sample.image, exact=False))
    scale = ground.shape[1] / image.sample.image.shape[1]
    corners = [[round(float(corner) * scale) for corner in box] for box in image.boxes.corners]
    for left, top, right, bottom in corners[FIRST:]:
        lines = cv2.rectangle(ground.copy(), (left, top), (right - 1, bottom - 1), _CASE)
        ground = cv2.addWeighted(ground, 1 - _FAINT, lines, _FAINT, 0)  # lines on one another are darker
    for left, top, right, bottom in reversed(corners[:FIRST]):
        for colour, thick in ((_CASE, 4), (_FIRST, 2)):
            cv2.rectangle(ground, (left, top), (right - 1, bottom - 1), colour, thick, cv2.LINE_AA)
    return np.asarray(ground, np.uint8)


def _present(image: SweepImage, classes: int) -> list[int]:
    maps = [image.sample.label, *image.grown.values(), *image.ways.values()]
    seen = np.bincount(np.concatenate([one.ravel() for one in maps if one is not None]), minlength=256)
    return [k for k in range(classes) if seen[k]]


def _boxes(count: int) -> str:
    return f"{count} proposal{'s' * (count > 1)}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
