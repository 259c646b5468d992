"""A gallery of all evaluated images, small, sorted by a choice of the reader and without a script.

Each image has its values as CSS variables, in hundredths of a per cent, and the style sheet orders images by the one that is chosen. A
page holds :data:`IMAGES_PER_PAGE` images, 8 to 25 kB each: those of the lowest mean IoU are on the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.truth_checks import check_mask
from upscore.evaluation.result import ImageMetrics
from upscore.html.drawing import as_uri, shrink
from upscore.html.error_view import draw_errors, find_errors
from upscore.input_spec import RGB, InputSpec
from upscore.types import LabelSpace, Prediction, Sample

__all__ = ["IMAGES_PER_PAGE", "Gallery", "Tile"]

IMAGES_PER_PAGE = 1000
"""Images on one page: 8 to 25 megabytes."""

SIDE = 192
"""Longer side of an image of the gallery, in pixels."""

MAX_IMAGES = 10_000
"""Images that a gallery holds, the first that are evaluated; ``images.csv`` lists all."""


@dataclass(frozen=True)
class Tile:
    """One image of the gallery: its metrics, and four views as data URIs."""

    metrics: ImageMetrics
    size: tuple[int, ...]  #: height and width of the views
    image: str
    truth: str
    predicted: str
    errors: str  #: transparent where the prediction is correct

    def style(self, name_rank: int) -> str:
        """Return the values by which the image can be sorted as CSS variables; those that are not defined are left out."""
        metrics = self.metrics
        values = {"m": metrics.mean_iou, "a": metrics.pixel_accuracy} | {f"c{k}": iou for k, iou in enumerate(metrics.class_iou.tolist())}
        numbers = {name: round(10_000 * value) for name, value in values.items() if not math.isnan(value)}
        return ";".join(f"--{name}:{number}" for name, number in ({"n": name_rank} | numbers).items())


class Gallery:
    """Collects the images of an evaluation as they are predicted: pass :meth:`add` to ``evaluate`` as ``show``.

    ``spec`` describes their bands, which are drawn as they are displayed.
    """

    def __init__(self, labels: LabelSpace, spec: InputSpec = RGB) -> None:
        self.labels, self.spec = labels, spec
        self.left_out = 0  #: images beyond :data:`MAX_IMAGES`
        self._tiles: list[Tile] = []

    def __len__(self) -> int:
        return len(self._tiles)

    def add(self, sample: Sample, metrics: ImageMetrics, prediction: Prediction) -> None:
        """Take small views of an image, its truth and its prediction."""
        if len(self._tiles) == MAX_IMAGES:
            self.left_out += 1
            return
        image = shrink(self.spec.display(sample.image), side=SIDE)
        truth, predicted = (shrink(label_map, exact=True, side=SIDE) for label_map in (check_mask(sample), prediction.label_map))
        errors = as_uri(draw_errors(find_errors(truth, predicted, self.labels)))
        tile = Tile(metrics, image.shape[:2], as_uri(image, quality=70), self._colours(truth), self._colours(predicted), errors)
        self._tiles.append(tile)

    def pages(self) -> list[list[tuple[Tile, str]]]:
        """Return the pages: images with their styles, from the lowest mean IoU to the highest, those without one last."""
        ranks = {tile.metrics.key: rank for rank, tile in enumerate(sorted(self._tiles, key=lambda tile: tile.metrics.key))}
        ordered = sorted(self._tiles, key=lambda tile: (math.isnan(tile.metrics.mean_iou), tile.metrics.mean_iou, tile.metrics.key))
        styled = [(tile, tile.style(ranks[tile.metrics.key])) for tile in ordered]
        return [styled[first : first + IMAGES_PER_PAGE] for first in range(0, len(styled), IMAGES_PER_PAGE)]

    def _colours(self, label_map: npt.NDArray[np.uint8]) -> str:
        return as_uri(Prediction(label_map, self.labels).colours())
