"""A proposal sweep as HTML pages: one for each image that is shown, and one with the curve over all images.

``index.html`` and ``image-0001.html``, … load nothing but one another; ``proposal-sweep.json`` holds the numbers.
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
from upscore.metrics.confusion import json_safe
from upscore.settings import InferenceSettings
from upscore.types import IGNORE, LabelSpace, Prediction

__all__ = ["ProposalSweepPages"]

IN_COLOUR = 5  # boxes that are drawn in colour, the best ones

_BOX, _OUTLINE, _FAINT = (255, 176, 0), (0, 0, 0), 0.35


@dataclass(frozen=True)
class PredictionView:
    """One prediction on a page: its name, its colours as a data URI, its mean IoU, and the fraction of evaluated pixels that are wrong."""

    name: str
    colours: str
    mean_iou: float
    wrong: float


@dataclass(frozen=True)
class ImageLink:
    """One image on the index: its page, its thumbnail, and its mean IoU after the fewest boxes, after all, and of the best mode."""

    file: str
    key: str
    image: str
    fewest_boxes: float
    all_boxes: float
    best_mode: tuple[str, float]


class ProposalSweepPages:
    """Writes a page for the images with indices ``shown`` as they are evaluated, and the index once all are.

    The folder is made if need be, and files of these names are replaced. ``settings`` are those in force, ``command`` is the command line
    that repeats this.
    """

    def __init__(
        self, out: str | os.PathLike[str], *, labels: LabelSpace, settings: InferenceSettings, shown: Sequence[int], command: str
    ) -> None:
        self.folder, self.labels, self.settings, self.shown, self.command = Path(out), labels, settings, set(shown), command
        self.links: list[ImageLink] = []

    def show(self, index: int, image: SweepImage) -> None:
        """Write the page of an image, if it gets one; raises OutputError where the folder cannot be written."""
        if index not in self.shown:
            return
        assert image.sample.label is not None
        labels, truth, file = self.labels, image.sample.label, f"image-{index + 1:04}.html"
        by_count = [
            _view(f"{count} proposal{'s' * (count > 1)}", label_map, truth, labels, image.mean_iou[str(count)])
            for count, label_map in image.by_count.items()
        ]
        by_mode = [_view(name, label_map, truth, labels, image.mean_iou[name]) for name, label_map in image.by_mode.items()]
        small = shrink(image.displayed)
        page = open_template("evaluation", "proposal_sweep_image.html.j2").render(
            key=image.sample.key,
            size=image.sample.image.shape[:2],
            boxes=len(image.boxes),
            in_colour=IN_COLOUR,
            has_proposals=image.has_proposals,
            enlarge=self.settings.proposals.enlarge if self.settings.proposals else 1.0,
            image=as_uri(small, quality=82),
            drawn=as_uri(_draw_boxes(image), quality=90),
            truth=as_uri(Prediction(shrink(truth, exact=True), labels).colours()),
            width=small.shape[1],
            height=small.shape[0],
            by_count=by_count,
            by_mode=by_mode,
            legend=[(labels.names[k], labels.palette[k]) for k in _present(image, len(labels))],
            ignored=labels.colours()[IGNORE].tolist() if (truth == IGNORE).any() else None,
        )
        write_atomically(self.folder / file, page.encode("utf-8", "replace"))
        best = max(image.by_mode, key=lambda name: image.mean_iou[name])
        thumbnail = as_uri(shrink(image.displayed, side=240), quality=80)
        fewest_boxes, all_boxes = by_count[0].mean_iou, by_count[-1].mean_iou
        self.links.append(ImageLink(file, image.sample.key, thumbnail, fewest_boxes, all_boxes, (best, image.mean_iou[best])))

    def write_index(self, sweep: ProposalSweep, *, dataset: str, split: str, model: str) -> Path:
        """Write ``index.html`` and ``proposal-sweep.json``; return the page's path."""
        rows = sweep.curve()
        title = f"Mean IoU of {sweep.network} over the number of proposals, %"
        curve = draw_curve(rows, {"mean_iou": "mean IoU"}, title=title, x="proposals", mark="max", percent=True)
        modes = [(name, sweep.mean_iou(name)) for name in sweep.modes]
        page = open_template("evaluation", "proposal_sweep.html.j2").render(
            dataset=dataset,
            split=split,
            model=model,
            sweep=sweep,
            rows=rows,
            curve=curve,
            modes=modes,
            best=max((value for value in map(sweep.mean_iou, sweep.matrices) if not math.isnan(value)), default=math.nan),
            links=self.links,
            proposals=self.settings.proposals,
            crf=str(self.settings.crf) if self.settings.uses_crf else "",
            command=self.command,
        )
        numbers: dict[str, Any] = {
            "model": model,
            "dataset": {"name": dataset, "split": split, "images": sweep.images, "without_proposals": sweep.without_proposals},
            "settings": self.settings.model_dump(mode="json"),
            "mean_iou": {"proposals": {str(int(row["proposals"])): json_safe(row["mean_iou"]) for row in rows}}
            | {"modes": {name: json_safe(value) for name, value in modes}},
            "class_iou": {
                name: [json_safe(value) for value in matrix.metrics().class_iou.tolist()] for name, matrix in sweep.matrices.items()
            },
            "classes": list(sweep.labels.names),
            "repeat": self.command,
        }
        text = json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / "proposal-sweep.json", text.encode("utf-8", "backslashreplace"))
        write_atomically(self.folder / "index.html", page.encode("utf-8", "replace"))
        return self.folder / "index.html"


def _view(name: str, label_map: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], labels: LabelSpace, mean_iou: float) -> PredictionView:
    evaluated = truth != IGNORE
    wrong = float(((label_map != truth) & evaluated).sum() / max(1, evaluated.sum()))
    return PredictionView(name, as_uri(Prediction(shrink(label_map, exact=True), labels).colours()), mean_iou, wrong)


def _draw_boxes(image: SweepImage) -> npt.NDArray[np.uint8]:
    """Return the image, pale, with its boxes: the best in colour, over the faint lines of the others."""
    background = pale(shrink(image.displayed))
    scale = background.shape[1] / image.sample.image.shape[1]
    corners = [[round(float(corner) * scale) for corner in box] for box in image.boxes.corners]
    for left, top, right, bottom in corners[IN_COLOUR:]:
        lines = cv2.rectangle(background.copy(), (left, top), (right - 1, bottom - 1), _OUTLINE)
        background = cv2.addWeighted(background, 1 - _FAINT, lines, _FAINT, 0)  # overlapping lines are darker
    for left, top, right, bottom in reversed(corners[:IN_COLOUR]):
        for colour, thickness in ((_OUTLINE, 4), (_BOX, 2)):
            cv2.rectangle(background, (left, top), (right - 1, bottom - 1), colour, thickness, cv2.LINE_AA)
    return np.asarray(background, np.uint8)


def _present(image: SweepImage, classes: int) -> list[int]:
    maps = [image.sample.label, *image.label_maps().values()]
    counts = np.bincount(np.concatenate([label_map.ravel() for label_map in maps if label_map is not None]), minlength=256)
    return [k for k in range(classes) if counts[k]]
