"""The regions with doubtful labels as a page shows them: the image around each, its mask, and the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from upscore.doctor.figure import Figure, as_rgb, draw_figure

if TYPE_CHECKING:
    from upscore.review.label_review import LabelReview, ReviewedImage
    from upscore.review.regions import DoubtfulRegion

__all__ = ["MAX_SHOWN", "ShownRegion", "show_regions"]

MAX_SHOWN = 12
"""Regions that a page shows."""

OUTLINE = (214, 40, 60)


@dataclass(frozen=True)
class ShownRegion:
    """A region as the page shows it."""

    image: ReviewedImage
    region: DoubtfulRegion
    given: str  #: name of the class that it is labelled as
    predicted: str
    figures: tuple[Figure, ...]


def show_regions(review: LabelReview) -> Iterator[ShownRegion]:
    """Yield the regions with the most evidence; each image is read, and labelled by the network, once more."""
    names, colours = review.predictor.labels.names, review.predictor.labels.colours()
    for image, region in review.regions[:MAX_SHOWN]:
        sample = review.sample(image)
        assert sample.label is not None
        prediction = review.predictor.predict(sample.image, name=sample.key).label_map
        part = _around(region.box, sample.label.shape)
        pixels = as_rgb(sample.image[part]).copy()
        outline = _outline(region, part, pixels.shape[:2])
        pixels[outline] = OUTLINE
        figures = [draw_figure(pixels, f"{image.name[0]} {image.name[1]}: the region outlined", exact=True)]
        for label_map, what in ((sample.label, "mask"), (prediction, "prediction")):
            drawn = colours[label_map[part]]
            drawn[outline] = OUTLINE
            figures.append(draw_figure(drawn, what, exact=True))
        yield ShownRegion(image, region, names[region.given], names[region.predicted], tuple(figures))


def _around(box: tuple[int, int, int, int], size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of a box with as much around it on each side, at least 24 pixels."""
    left, top, right, bottom = box
    margin = max(24, right - left, bottom - top)
    return slice(max(0, top - margin), min(size[0], bottom + margin)), slice(max(0, left - margin), min(size[1], right + margin))


def _outline(region: DoubtfulRegion, part: tuple[slice, slice], size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the pixels around a region in a part of its image."""
    inside = np.zeros(size, np.uint8)
    top, left = region.box[1] - part[0].start, region.box[0] - part[1].start
    inside[top : top + region.mask.shape[0], left : left + region.mask.shape[1]] = region.mask
    return np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside)
