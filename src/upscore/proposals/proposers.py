"""Guesses at where objects are, from the image alone.

A *proposer* is any callable that maps an image to :class:`~upscore.proposals.boxes.Boxes`, best
first. Three are here, each a value whose ``repr`` says everything that its boxes depend on, so
that they can be kept (:mod:`upscore.proposals.cache`); pass one of your own wherever one is taken.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError, RecipeError, nearest_name
from upscore.proposals.boxes import Boxes, whole_image
from upscore.proposals.edges import LearnedEdges, check_image, edges_of

__all__ = ["EdgeBoxes", "ImageArray", "Proposer", "SelectiveSearch", "SlidingWindows", "create_proposer"]

ImageArray: TypeAlias = npt.NDArray[np.uint8]

Proposer: TypeAlias = Callable[[ImageArray], Boxes]
"""image (H, W, 3) uint8 RGB -> boxes within it, best first; none is an answer."""

MOST_PIXELS = {"EdgeBoxes": 2**24, "SelectiveSearch": 2**22}
"""The largest images that are searched, in pixels: edges take 125 bytes for each, selective search thrice the time for twice as many."""


@dataclass(frozen=True)
class EdgeBoxes:
    """Boxes that hold whole contours: many edges inside that none of leads out.

    Parameters
    ----------
    most : int
        Boxes that an image gets at most; DeconvNet's paper makes about 2,000.
    overlap : float
        Boxes do not share more than this with a better one: β of the paper, whose 0.75 serves
        an evaluation at an overlap of 0.7. DeconvNet asks for 0.5, and takes the first fifty.
    least : float
        Smallest area of a box, as a share of the image's, 0.00001 to 1.
    model : path, optional
        A structured-edge model of your own for the edges
        (:class:`~upscore.proposals.edges.LearnedEdges`); without it they are computed.

    Raises
    ------
    RecipeError
        A number is outside its range.
    DataError
        The model cannot be read.

    Notes
    -----
    Zitnick and Dollár, "Edge Boxes: Locating Object Proposals from Edges", ECCV 2014.
    """

    most: int = 2000
    overlap: float = 0.6
    least: float = 0.002
    model: str | Path | None = field(default=None, repr=False)
    edges: str = field(default="computed", init=False)

    def __post_init__(self) -> None:
        _check_count(self.most)
        _check_share("overlap", self.overlap)
        _check_share("least", self.least, above=1e-5)
        if self.model is not None:
            _learned(self.model)
            object.__setattr__(self, "edges", hashlib.blake2b(Path(self.model).read_bytes(), digest_size=8).hexdigest())

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; what is none is a ``DataError``."""
        check_image(image)
        _check_size(self, image)
        height, width = image.shape[:2]
        edges = edges_of(image) if self.model is None else _learned(self.model)(image)
        search = cv2.ximgproc.createEdgeBoxes(beta=self.overlap, maxBoxes=self.most, minBoxArea=max(1.0, self.least * height * width))
        found, scores = search.getBoundingBoxes(edges.strength, edges.normal)
        boxes = _from_sides(found, scores).clipped(height, width)
        return boxes[boxes.scores > 0].best(self.most)  # in images of few pixels it also gives boxes that hold no contour


@dataclass(frozen=True)
class SelectiveSearch:
    """Boxes around regions of like colour and texture, merged step by step.

    Parameters
    ----------
    most : int
        Boxes that an image gets at most.
    thorough : bool
        OpenCV's "quality" mode: more ways of merging, which takes longer.

    Notes
    -----
    Uijlings et al., "Selective Search for Object Recognition", IJCV 2013. The paper ranks a region
    by its place in the hierarchy, the whole image first, times a random number. OpenCV gives
    neither the place nor a way to seed, so that here the area stands for the place, and the same
    numbers are drawn for every image.
    """

    most: int = 2000
    thorough: bool = False

    def __post_init__(self) -> None:
        _check_count(self.most)

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; what is none is a ``DataError``."""
        check_image(image)
        _check_size(self, image)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
        if self.thorough:
            search.switchToSelectiveSearchQuality()
        else:
            search.switchToSelectiveSearchFast()
        sides = np.unique(search.process(), axis=0)
        larger = np.argsort(np.argsort(-sides[:, 2].astype(np.int64) * sides[:, 3], kind="stable"))
        ranks = (larger + 1) * np.random.Generator(np.random.PCG64(0)).random(len(sides))
        return _from_sides(sides, -ranks).clipped(*image.shape[:2]).best(self.most)


@dataclass(frozen=True)
class SlidingWindows:
    """The image, and windows of a few shapes all over it, from large to small: the simplest, and blind.

    Parameters
    ----------
    most : int
        Boxes that an image gets at most; the smallest are left out.
    least : int
        Smallest side of a square one, in pixels.
    aspects : tuple of float
        Width over height of the shapes.
    step : float
        How far a window moves, as a share of its side.
    """

    most: int = 2000
    least: int = 16
    aspects: tuple[float, ...] = (0.5, 1.0, 2.0)
    step: float = 0.5

    def __post_init__(self) -> None:
        _check_count(self.most)
        _check_share("step", self.step)
        if self.least < 1 or not self.aspects or not all(0.01 <= aspect <= 100 for aspect in self.aspects):
            raise RecipeError(
                f"found least {self.least} and aspects {self.aspects}, expected a side of 1 or more and ratios of 0.01 to 100"
            )

    def __call__(self, image: ImageArray) -> Boxes:
        """Return the boxes of an image (H, W, 3) uint8 RGB; what is none is a ``DataError``."""
        check_image(image)
        height, width = image.shape[:2]
        corners = whole_image(height, width).corners
        octaves = math.log2(max(1.0, min(height, width) / self.least))
        for step in range(math.floor(2 * octaves + 1e-9) + 1):
            side = min(height, width) / 2 ** (step / 2)
            sizes = [(side / aspect**0.5, side * aspect**0.5) for aspect in self.aspects]
            corners = np.concatenate([corners, *(self._placed(height, width, high, wide) for high, wide in sizes)])
            corners = corners[np.sort(np.unique(corners, axis=0, return_index=True)[1])]
            if len(corners) >= self.most:
                break
        corners = corners[: self.most]
        return Boxes(corners, -np.arange(len(corners)))

    def _placed(self, height: int, width: int, high: float, wide: float) -> npt.NDArray[np.int64]:
        """Return windows of one size at even distances, the outermost at the image's edges."""
        tall, broad = min(height, max(1, round(high))), min(width, max(1, round(wide)))
        columns = self._starts(width, broad)
        # Row by row the first ``most`` are enough, however small the steps are.
        rows = self._starts(height, tall)[: -(-self.most // len(columns))]
        top, left = np.meshgrid(rows, columns, indexing="ij")
        return np.stack([left, top, left + broad, top + tall], axis=-1).reshape(-1, 4)

    def _starts(self, whole: int, part: int) -> npt.NDArray[np.int64]:
        count = min(math.ceil((whole - part) / (part * self.step)), whole - part) + 1  # a pixel is the least step
        return np.rint(np.linspace(0, whole - part, count)).astype(np.int64)


def create_proposer(name: str, *, most: int = 2000) -> Proposer:
    """Return the proposer of a name: ``"edge-boxes"``, ``"selective-search"`` or ``"windows"``.

    Raises
    ------
    RecipeError
        There is none of that name, or ``most`` is outside 1 to 100000.
    """
    known: dict[str, Callable[..., Proposer]] = {
        "edge-boxes": EdgeBoxes,
        "selective-search": SelectiveSearch,
        "windows": SlidingWindows,
    }
    if name not in known:
        raise RecipeError(f"no proposer '{name}'{nearest_name(name, list(known))}: expected one of {', '.join(known)}")
    return known[name](most=most)


@functools.lru_cache(maxsize=1)
def _learned(model: str | Path) -> LearnedEdges:
    """Read a model once; a proposer itself stays a plain value, which processes can hand to one another."""
    return LearnedEdges(model)


def _from_sides(found: npt.ArrayLike, scores: npt.ArrayLike) -> Boxes:
    """Return boxes of OpenCV's x, y, width and height.

    In tiny images it finds empty boxes and scores that are no numbers, and where it finds no
    boxes there may still be a score.
    """
    sides = np.asarray(found, np.int64).reshape(-1, 4)
    marks = np.asarray(scores, np.float64).reshape(-1)[: len(sides)]
    good = (sides[:, 2:] > 0).all(1) & np.isfinite(marks)
    return Boxes(np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])[good], marks[good])


def _check_size(proposer: EdgeBoxes | SelectiveSearch, image: ImageArray) -> None:
    (height, width), most = image.shape[:2], MOST_PIXELS[type(proposer).__name__]
    if height * width > most:
        raise DataError(
            f"found an image of {height}×{width} pixels, expected at most {most} where {type(proposer).__name__} looks for boxes: "
            "shrink it, give boxes of your own, or find them by 'windows'"
        )


def _check_count(most: int) -> None:
    if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= 100_000:
        raise RecipeError(f"found {most} boxes an image, expected 1 to 100000")


def _check_share(name: str, value: float, *, above: float = 0.0) -> None:
    if not above <= value <= 1 or value == 0:
        expected = f"from {above:g}" if above else "above 0 and"
        raise RecipeError(f"found {name} {value}, expected a share {expected} up to 1")
