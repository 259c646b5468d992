"""Proposers: find boxes around likely objects, from the image alone.

A *proposer* is any callable that maps an image to :class:`~upscore.proposals.boxes.Boxes`, best
first. Three are here, each a value whose ``repr`` contains everything that its boxes depend on,
as :mod:`upscore.proposals.cache` needs. Any other callable can be passed instead.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError, RecipeError, nearest_name
from upscore.proposals.boxes import Boxes, whole_image
from upscore.proposals.edges import LearnedEdges, check_image, detect_edges

__all__ = ["PROPOSERS", "EdgeBoxes", "ImageArray", "Proposer", "SelectiveSearch", "SlidingWindows", "create_proposer"]

ImageArray: TypeAlias = npt.NDArray[np.uint8]

Proposer: TypeAlias = Callable[[ImageArray], Boxes]
"""Image (H, W, 3) uint8 RGB to boxes within it, best first; there may be none."""

MAX_MIN_AREA = 1e8
"""Pixels, of the smallest box that is looked for."""

MAX_PIXELS = {"EdgeBoxes": 2**24, "SelectiveSearch": 2**22}
"""The largest images that are searched, in pixels: edges need 125 bytes each, selective search three times the time for twice as many."""


@dataclass(frozen=True)
class EdgeBoxes:
    """Boxes that contain whole contours: edges inside that do not cross the box.

    Zitnick and Dollár, "Edge Boxes: Locating Object Proposals from Edges", ECCV 2014.

    Parameters
    ----------
    max_proposals : int
        1 to 100,000; DeconvNet's paper uses about 2,000.
    alpha : float in (0, 1)
        IoU of neighbouring sliding windows: the finer the search, the longer it takes.
    beta : float in (0, 1]
        Largest IoU of a box with a better one. The paper sets 0.75 for evaluation at an IoU of
        0.7. DeconvNet evaluates at 0.5 and uses the best fifty.
    min_area : float
        Smallest area of a box: up to 1 as a fraction of the image's, 0.00001 to 1, and above 1 in pixels, as the authors' 1000.
    model : path, optional
        A structured-edge model (:class:`~upscore.proposals.edges.LearnedEdges`); by default
        edges are those of :func:`~upscore.proposals.edges.detect_edges`.

    Raises
    ------
    RecipeError, DataError
        A number is outside its range; the model cannot be read.
    """

    max_proposals: int = 2000
    alpha: float = 0.65
    beta: float = 0.6
    min_area: float = 0.002
    model: str | Path | None = field(default=None, repr=False)
    edges: str = field(default="computed", init=False)

    def __post_init__(self) -> None:
        _check_count(self.max_proposals)
        _check_fraction("alpha", self.alpha)
        _check_fraction("beta", self.beta)
        if self.alpha == 1 or not 1e-5 <= self.min_area <= MAX_MIN_AREA:
            raise RecipeError(
                f"found alpha {self.alpha:g} and min_area {self.min_area:g}, expected alpha below 1, and an area of 0.00001 to 1 of the "
                f"image, or in pixels up to {MAX_MIN_AREA:g}"
            )
        if self.model is not None:
            _learned(self.model)
            object.__setattr__(self, "edges", hashlib.blake2b(Path(self.model).read_bytes(), digest_size=8).hexdigest())

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; anything else is a ``DataError``."""
        check_image(image)
        _check_size(self, image)
        height, width = image.shape[:2]
        edges = detect_edges(image) if self.model is None else _learned(self.model)(image)
        min_area = self.min_area if self.min_area > 1 else max(1.0, self.min_area * height * width)
        search = cv2.ximgproc.createEdgeBoxes(alpha=self.alpha, beta=self.beta, maxBoxes=self.max_proposals, minBoxArea=min_area)
        found, objectness = search.getBoundingBoxes(edges.strength, edges.normal)
        boxes = _from_sides(found, objectness).clipped(height, width)
        return boxes[boxes.objectness > 0].best(self.max_proposals)  # in tiny images OpenCV also returns boxes without contours


@dataclass(frozen=True)
class SelectiveSearch:
    """Boxes around regions of similar colour and texture, merged step by step.

    Uijlings et al., "Selective Search for Object Recognition", IJCV 2013. The paper ranks a region
    by its level in the hierarchy, the whole image first, times a random number. OpenCV exposes
    neither the level nor a seed, so here the rank by area replaces the level, and the random numbers
    are the same for every image.
    """

    max_proposals: int = 2000  #: 1 to 100,000; others are a RecipeError
    thorough: bool = False  #: OpenCV's "quality" mode: more merging strategies, and slower

    def __post_init__(self) -> None:
        _check_count(self.max_proposals)

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; anything else is a ``DataError``."""
        check_image(image)
        _check_size(self, image)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
        if self.thorough:
            search.switchToSelectiveSearchQuality()
        else:
            search.switchToSelectiveSearchFast()
        sides = np.unique(search.process(), axis=0)
        area_rank = np.argsort(np.argsort(-sides[:, 2].astype(np.int64) * sides[:, 3], kind="stable"))
        ranks = (area_rank + 1) * np.random.Generator(np.random.PCG64(0)).random(len(sides))
        return _from_sides(sides, -ranks).clipped(*image.shape[:2]).best(self.max_proposals)


@dataclass(frozen=True)
class SlidingWindows:
    """The image, and windows of several shapes all over it, from large to small, whatever the image shows."""

    max_proposals: int = 2000  #: 1 to 100,000; the smallest windows are left out
    min_side: int = 16  #: of a square window, in pixels
    aspects: tuple[float, ...] = (0.5, 1.0, 2.0)  #: ratios of width to height, 0.01 to 100
    step: float = 0.5  #: stride of a window, as a fraction of its side, in (0, 1]

    def __post_init__(self) -> None:
        _check_count(self.max_proposals)
        _check_fraction("step", self.step)
        if self.min_side < 1 or not self.aspects or not all(0.01 <= aspect <= 100 for aspect in self.aspects):
            raise RecipeError(
                f"found min_side {self.min_side} and aspects {self.aspects}, expected a side of 1 or more and ratios of 0.01 to 100"
            )

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; anything else is a ``DataError``."""
        check_image(image)
        height, width = image.shape[:2]
        corners = whole_image(height, width).corners
        octaves = math.log2(max(1.0, min(height, width) / self.min_side))
        for step in range(math.floor(2 * octaves + 1e-9) + 1):
            side = min(height, width) / 2 ** (step / 2)
            sizes = [(side / aspect**0.5, side * aspect**0.5) for aspect in self.aspects]
            corners = np.concatenate([corners, *(self._windows(height, width, high, wide) for high, wide in sizes)])
            corners = corners[np.sort(np.unique(corners, axis=0, return_index=True)[1])]
            if len(corners) >= self.max_proposals:
                break
        corners = corners[: self.max_proposals]
        return Boxes(corners, -np.arange(len(corners)))

    def _windows(self, height: int, width: int, high: float, wide: float) -> npt.NDArray[np.int64]:
        """Return windows of one size at equal distances, the outermost at the image's edges."""
        tall, broad = min(height, max(1, round(high))), min(width, max(1, round(wide)))
        columns = self._starts(width, broad)
        # Rows that exceed ``max_proposals`` are left out, however small the steps are.
        rows = self._starts(height, tall)[: -(-self.max_proposals // len(columns))]
        top, left = np.meshgrid(rows, columns, indexing="ij")
        return np.stack([left, top, left + broad, top + tall], axis=-1).reshape(-1, 4)

    def _starts(self, length: int, side: int) -> npt.NDArray[np.int64]:
        count = min(math.ceil((length - side) / (side * self.step)), length - side) + 1  # steps are at least one pixel
        return np.rint(np.linspace(0, length - side, count)).astype(np.int64)


PROPOSERS: dict[str, Callable[..., Proposer]] = {"edge-boxes": EdgeBoxes, "selective-search": SelectiveSearch, "windows": SlidingWindows}
"""Those that :func:`create_proposer` makes, by name."""


def create_proposer(name: str, *, max_proposals: int = 2000, **settings: Any) -> Proposer:
    """Return the proposer of a name in :data:`PROPOSERS`, with ``settings`` of its own.

    RecipeError where there is none of that name, it has no such setting, or one is outside its range.
    """
    if name not in PROPOSERS:
        raise RecipeError(f"no proposer '{name}'{nearest_name(name, list(PROPOSERS))}: expected one of {', '.join(PROPOSERS)}")
    known = [item.name for item in fields(PROPOSERS[name]) if item.init]  # type: ignore[arg-type]  # each is a dataclass
    if unknown := next((setting for setting in settings if setting not in known), None):
        raise RecipeError(f"found '{unknown}' for boxes by {name}, expected one of {', '.join(known)}")
    return PROPOSERS[name](max_proposals=max_proposals, **settings)


@functools.lru_cache(maxsize=1)
def _learned(model: str | Path) -> LearnedEdges:
    """Read a model once; the proposer itself stays a plain value that can be pickled."""
    return LearnedEdges(model)


def _from_sides(found: npt.ArrayLike, objectness: npt.ArrayLike) -> Boxes:
    """Return boxes from OpenCV's x, y, width and height, without the empty boxes, nan and surplus values that it returns in tiny images."""
    sides = np.asarray(found, np.int64).reshape(-1, 4)
    scored = np.asarray(objectness, np.float64).reshape(-1)[: len(sides)]
    valid = (sides[:, 2:] > 0).all(1) & np.isfinite(scored)
    return Boxes(np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])[valid], scored[valid])


def _check_size(proposer: EdgeBoxes | SelectiveSearch, image: ImageArray) -> None:
    (height, width), max_pixels = image.shape[:2], MAX_PIXELS[type(proposer).__name__]
    if height * width > max_pixels:
        raise DataError(
            f"found an image of {height}×{width} pixels, expected at most {max_pixels} for {type(proposer).__name__}: "
            "shrink it, give boxes of your own, or use 'windows'"
        )


def _check_count(max_proposals: int) -> None:
    if not isinstance(max_proposals, int) or isinstance(max_proposals, bool) or not 1 <= max_proposals <= 100_000:
        raise RecipeError(f"found max_proposals {max_proposals}, expected 1 to 100000")


def _check_fraction(name: str, value: float, *, minimum: float = 0.0) -> None:
    if not minimum <= value <= 1 or value == 0:
        expected = f"from {minimum:g}" if minimum else "above 0 and"
        raise RecipeError(f"found {name} {value}, expected a fraction {expected} up to 1")
