"""What is measured on one image and its mask while both are in memory: a few numbers each, whatever their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.pixel_digests import digest_pixels
from upscore.types import IGNORE

__all__ = [
    "MAX_SHIFT", "SPECK", "Alignment", "ImageMeasures", "MaskMeasures", "align", "difference_hash", "fill_specks", "find_between",
    "find_borders", "find_specks", "measure_image", "measure_mask",
]  # fmt: skip

MAX_SHIFT = 8
"""The largest shift between an image and its mask that is measured, in pixels along rows and columns."""

SPECK = 4
"""The largest area of a connected component, in pixels, that is a speck or a hole."""

_MAX_BORDERS = 4000  # pairs of pixels at which an image and its mask are compared
_PROFILE = 4  # pixels on both sides of a border
_MIN_BORDERS = 50

Classes = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class ImageMeasures:
    """One image; brightness is of luminance in [0, 1]."""

    digest: bytes  #: of the decoded pixels
    hash: int  #: :func:`difference_hash`
    brightness: float  #: mean
    contrast: float  #: standard deviation
    sharpness: float  #: standard deviation of the Laplacian divided by the contrast; 0 where the image is constant
    saturation: float  #: mean difference between the largest and the smallest of red, green and blue; 0 is grey
    colour: tuple[float, ...]  #: mean of each band, in [0, 1]


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """How well the borders of a mask lie on the edges of its image."""

    shifts: npt.NDArray[np.float32]  #: (17, 17) strength of edges at the borders, moved by -8 to 8 rows and columns
    mirrored: tuple[float, float, float]  #: strength where the mask is mirrored left to right, top to bottom, or both
    outside: npt.NDArray[
        np.float32
    ]  #: (9,) strength at -4 to 4 pixels from the borders of objects, positive outside; NaN without a background
    borders: int  #: how many pairs of pixels were compared


@dataclass(frozen=True, eq=False, slots=True)
class MaskMeasures:
    """One mask of classes."""

    digest: bytes  #: of the stored values
    objects: dict[int, int]  #: connected components of more than :data:`SPECK` pixels of each class
    specks: int  #: components of at most :data:`SPECK` pixels, surrounded by one other class; holes are not counted
    holes: int  #: such components of the background in an object
    between: int  #: pixels whose class lies strictly between those of two opposite neighbours
    jumps: int  #: neighbours whose classes differ by more than 1
    straight: float  #: the largest fraction of a whole row or column along which the class changes


def measure_image(image: npt.NDArray[Any], unit: float) -> tuple[ImageMeasures, Grey]:
    """Measure an image (H, W, C) whose values divided by ``unit`` are in [0, 1]; also return its luminance (H, W)."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(unit)
        colour = tuple(value / unit for value in cv2.mean(image)[:3])
        red, green, blue = cv2.split(image)
        spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
        saturation = cv2.mean(spread)[0] / unit
    else:
        scaled = np.nan_to_num(image.astype(np.float32)) / np.float32(unit)
        grey, colour = scaled.mean(axis=2), tuple(float(value) for value in scaled.mean(axis=(0, 1)))
        saturation = float((scaled.max(axis=2) - scaled.min(axis=2)).mean()) if image.shape[2] == 3 else 0.0
    brightness, contrast = float(grey.mean()), float(grey.std())
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).std()) if min(grey.shape) > 2 else 0.0
    measures = ImageMeasures(
        digest_pixels(image), difference_hash(grey), brightness, contrast, edges / contrast if contrast > 1e-4 else 0.0, saturation,
        colour,
    )  # fmt: skip
    return measures, grey


def difference_hash(grey: Grey) -> int:
    """Return 64 bits: whether each of 8×8 pixels of the shrunk image is darker than its right neighbour.

    Images that differ little, such as neighbouring frames of a video, differ in few bits.
    """
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def measure_mask(stored: npt.NDArray[np.uint8], classes: Classes, *, background: bool) -> MaskMeasures:
    """Measure a mask (H, W): its stored values, and its classes or 255; ``background`` tells whether class 0 is one."""
    objects: dict[int, int] = {}
    specks = holes = 0
    for label in _labels_in(classes):
        _, small, objects[label] = _components(classes, label)
        if background and label == 0:
            holes += small
        else:
            specks += small
    between, jumps = _count_between(classes)
    return MaskMeasures(digest_pixels(stored[..., None]), objects, specks, holes, between, jumps, _straightest(classes))


def find_specks(classes: Classes, *, background: bool, holes: bool) -> npt.NDArray[np.bool_]:
    """Return where the specks of a mask of classes are, or its ``holes``, (H, W) bool."""
    marks = np.zeros(classes.shape, bool)
    for label in _labels_in(classes):
        if (background and label == 0) == holes:
            marks |= _components(classes, label)[0]
    return marks


def find_borders(classes: Classes) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask of classes (H, W) beside one of another class, (H, W) bool."""
    window = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(classes, window) != cv2.erode(classes, window))


def _labels_in(classes: Classes) -> list[int]:
    """Return the classes that a mask shows, without 255."""
    counts = np.bincount(classes.ravel(), minlength=256)
    counts[IGNORE] = 0
    return [int(label) for label in np.flatnonzero(counts)]


def _components(classes: Classes, label: int) -> tuple[npt.NDArray[np.bool_], int, int]:
    """Return where the small components of a class are that lie within one other class, their number, and that of the large ones."""
    of_class = (classes == label).astype(np.uint8)
    count, numbers, facts, _ = cv2.connectedComponentsWithStats(of_class, connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA]
    small = np.flatnonzero(areas <= SPECK)
    small = small[small > 0]
    marks = np.zeros(classes.shape, bool)
    alone = 0
    height, width = classes.shape
    for number in small[:5000].tolist():
        left, top, wide, high = (int(value) for value in facts[number, :4])
        if left == 0 or top == 0 or left + wide == width or top + high == height:
            continue
        box = np.s_[top - 1 : top + high + 1, left - 1 : left + wide + 1]
        inside = numbers[box] == number
        around = classes[box][~inside]
        if (around == around[0]).all():
            marks[box] |= inside
            alone += 1
    return marks, alone, int(count - 1 - len(small))


def find_between(classes: Classes) -> npt.NDArray[np.bool_]:
    """Return the pixels whose class lies strictly between those of two opposite neighbours, (H, W) bool."""
    marks = np.zeros(classes.shape, bool)
    for labels, found in ((classes, marks), (classes.T, marks.T)):
        found[:, 1:-1] |= _steps(labels)[0]
    return marks


def _count_between(classes: Classes) -> tuple[int, int]:
    """Return how many pixels have a class strictly between those on both sides, and how many neighbours differ by more than 1."""
    between = jumps = 0
    for labels in (classes, classes.T):
        found, far = _steps(labels)
        between, jumps = between + int(found.sum()), jumps + int(far.sum())
    return between, jumps


def _steps(labels: Classes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return where, along rows, a class lies strictly between its neighbours, (H, W-2), and where two differ by more than 1, (H, W-1)."""
    numbers, known = labels.astype(np.int16), labels != IGNORE
    steps: npt.NDArray[np.int16] = numbers[:, 1:] - numbers[:, :-1]
    both = known[:, 1:] & known[:, :-1]
    return (steps[:, 1:] * steps[:, :-1] > 0) & both[:, 1:] & both[:, :-1], (np.abs(steps) > 1) & both


def _straightest(classes: Classes) -> float:
    """Return the largest fraction of a row or column along which the class changes between two pixels."""
    found = 0.0
    for values in (classes, classes.T):
        if values.shape[1] > 8:
            changes = np.ascontiguousarray(values[:, 1:] != values[:, :-1]).view(np.uint8)
            found = max(found, float(cv2.reduce(changes, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0, 2:-2].max()))
    return found


def align(grey: Grey, classes: Classes, *, background: bool) -> Alignment | None:
    """Compare the borders of a mask of classes (H, W) with the edges of its image's luminance (H, W).

    A border lies between two neighbouring pixels of different classes, neither of them ignored, and so does an edge: the difference of
    their luminances. None where there are too few borders to compare.
    """
    total = np.zeros((2 * MAX_SHIFT + 1, 2 * MAX_SHIFT + 1), np.float64)
    mirrored, outside, compared = np.zeros(3), np.zeros(2 * _PROFILE + 1), 0
    profiles = 0
    for image, labels, turned in ((grey, classes, False), (grey.T, classes.T, True)):
        edges = np.abs(np.diff(image, axis=1))
        if edges.size == 0:
            continue
        edges = np.minimum(edges / (4 * float(edges.mean()) + 1e-6), 1)
        first, second = labels[:, :-1], labels[:, 1:]
        rows, columns = np.nonzero((first != second) & (first != IGNORE) & (second != IGNORE))
        height, width = edges.shape
        inside = (rows >= MAX_SHIFT) & (rows < height - MAX_SHIFT) & (columns >= MAX_SHIFT) & (columns < width - MAX_SHIFT)
        rows, columns = rows[inside], columns[inside]
        if len(rows) == 0:
            continue
        step = -(-len(rows) // (_MAX_BORDERS // 2))
        rows, columns = rows[::step], columns[::step]
        flat, index = edges.ravel(), rows * width + columns
        moves = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
        for i, dy in enumerate(moves):
            for j, dx in enumerate(moves):
                strength = float(flat[index + int(dy) * width + int(dx)].sum())
                total[(j, i) if turned else (i, j)] += strength
        up, across = (height - 1 - rows) * width + columns, rows * width + (width - 1 - columns)
        left_right, top_bottom = (up, across) if turned else (across, up)
        both = (height - 1 - rows) * width + (width - 1 - columns)
        mirrored += [float(flat[positions].sum()) for positions in (left_right, top_bottom, both)]
        compared += len(rows)
        if background:
            before, after = labels[rows, columns], labels[rows, columns + 1]
            side = np.where(after == 0, 1, np.where(before == 0, -1, 0))  # towards the background
            chosen = side != 0
            profiles += int(chosen.sum())
            for k, distance in enumerate(range(-_PROFILE, _PROFILE + 1)):
                outside[k] += float(flat[index[chosen] + distance * side[chosen]].sum())
    if compared < _MIN_BORDERS:
        return None
    profile = outside / profiles if profiles >= _MIN_BORDERS else np.full(2 * _PROFILE + 1, np.nan)
    left_right, top_bottom, both = (float(value) for value in mirrored / compared)
    return Alignment((total / compared).astype(np.float32), (left_right, top_bottom, both), profile.astype(np.float32), compared)


def fill_specks(classes: Classes) -> Classes:
    """Return a mask of classes in which each speck or hole, of any class, has the class around it."""
    filled = classes.copy()
    marks = find_specks(classes, background=False, holes=False)
    _, numbers, facts, _ = cv2.connectedComponentsWithStats(marks.view(np.uint8), connectivity=8)
    for number in range(1, len(facts)):
        left, top, wide, high = (int(value) for value in facts[number, :4])
        box = np.s_[top - 1 : top + high + 1, left - 1 : left + wide + 1]
        inside = numbers[box] == number
        filled[box][inside] = classes[box][~inside & ~marks[box]][0]
    return filled
