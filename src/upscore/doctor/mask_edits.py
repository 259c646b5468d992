"""What a corrected copy does to one mask, by the check that found something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.encoded_image import EncodedImage
from upscore.data.headers import decode, open_header
from upscore.data.mask_files import read_mask
from upscore.doctor.measurements import align, fill_specks, find_between
from upscore.doctor.placement import mirrored_way
from upscore.doctor.scan import Record
from upscore.doctor.turned_masks import turn
from upscore.types import IGNORE, LabelSpace, voc_palette

__all__ = [
    "EDITS",
    "MOVING",
    "READINGS",
    "Reading",
    "SplitPlacement",
    "measure_placements",
    "place",
    "read_colours",
    "read_stored",
    "read_values",
    "threshold",
]

Mask: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SplitPlacement:
    """What is common to the masks of a split."""

    shift: tuple[int, int] = (0, 0)  #: by how many rows and columns all masks have to be moved
    #: for masks that are smaller than their images by (rows, columns), row and column of their first pixel
    placements: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)


Edit: TypeAlias = Callable[[Mask, Record, npt.NDArray[Any], SplitPlacement], tuple[Mask, str]]
"""Stored values (H, W), the sample's record, its image, and what is common to the masks of its split, to the corrected values and what was
done; the mask itself where nothing can be done."""

Values: TypeAlias = Mapping[int, int]
"""The class of each value that masks may store, 255 where it is ignored."""

Reading: TypeAlias = Callable[[Path, LabelSpace, Values], tuple[Mask, str] | None]
"""A mask file that is refused, to its values and how they were read; None where they cannot be known."""


def _turn(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    return turn(mask, record.orientation), f"turned by the image's EXIF orientation {record.orientation}"


def _resize(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    height, width = image.shape[:2]
    resized = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return resized, f"resized from {mask.shape[0]}×{mask.shape[1]} to {height}×{width} with nearest neighbour"


def _fit(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    height, width = image.shape[:2]
    top, left = placement.placements[height - mask.shape[0], width - mask.shape[1]]
    placed = place(mask, (height, width), top, left)
    ignored = int((placed == IGNORE).sum() - (mask == IGNORE).sum())
    return placed, f"placed at row {top}, column {left} of the image" + (
        f"; {ignored} px that it does not cover are ignored" if ignored else ""
    )


def measure_placements(mask: Mask, image: npt.NDArray[Any]) -> dict[tuple[int, int], tuple[float, int]]:
    """Return how strong the edges of an image are at the borders of a mask that is larger or smaller by one or two pixels.

    The mask is placed at every (row, column) at which it covers the image or lies in it; each has the sum of the strengths and the number
    of borders.
    """
    height, width = image.shape[:2]
    rows, columns = height - mask.shape[0], width - mask.shape[1]
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image.mean(axis=2), np.float32)
    found = {}
    for top in range(min(rows, 0), max(rows, 0) + 1):
        for left in range(min(columns, 0), max(columns, 0) + 1):
            compared = align(grey, place(mask, (height, width), top, left), background=False)
            found[top, left] = (0.0, 0) if compared is None else (float(compared.shifts[8, 8]) * compared.borders, compared.borders)
    return found


def place(mask: Mask, size: tuple[int, int], top: int, left: int) -> Mask:
    """Return a mask of ``size`` with another one placed in it, cropped where it does not fit and 255 where it does not cover it."""
    placed = np.full(size, IGNORE, np.uint8)
    rows, columns = mask.shape
    first, begin = max(0, top), max(0, left)
    last, end = min(size[0], top + rows), min(size[1], left + columns)
    placed[first:last, begin:end] = mask[first - top : last - top, begin - left : end - left]
    return placed


def _move(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    rows, columns = placement.shift
    moved = place(mask, (mask.shape[0], mask.shape[1]), rows, columns)
    return moved, f"moved by {rows} rows and {columns} columns; what it no longer covers is ignored"


def _mirror(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    way = mirrored_way(record)
    assert way is not None
    axes = ((1,), (0,), (0, 1))[way]
    return np.ascontiguousarray(np.flip(mask, axes)), "mirrored " + ("left to right", "top to bottom", "in both directions")[way]


def _remove_steps(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    """Give the pixels between two classes the nearest class that is not between others."""
    between = find_between(mask)
    _, numbers = cv2.distanceTransformWithLabels(between.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    certain = np.zeros(int(numbers.max()) + 1, np.uint8)
    certain[numbers[~between]] = mask[~between]
    return np.where(between, certain[numbers], mask).astype(np.uint8), f"{int(between.sum())} px given the nearest other class"


def _remove_specks(mask: Mask, record: Record, image: npt.NDArray[Any], placement: SplitPlacement) -> tuple[Mask, str]:
    filled = fill_specks(mask)
    return filled, f"{int((filled != mask).sum())} px given the class around them"


EDITS: Mapping[str, Edit] = {
    "sizes.turned": _turn,
    "sizes.orientation": _turn,
    "sizes.scaled": _resize,
    "sizes.off-by-one": _fit,
    "geometry.shifted": _move,
    "geometry.mirrored": _mirror,
    "values.interpolated": _remove_steps,
    "geometry.specks": _remove_specks,
    "geometry.holes": _remove_specks,
}
"""What is done to a mask that can be read."""

MOVING = frozenset({"sizes.turned", "sizes.orientation", "sizes.scaled", "sizes.off-by-one", "geometry.shifted", "geometry.mirrored"})
"""Those after which a mask's pixels lie elsewhere."""


def threshold(mask: Mask, low: int, high: int) -> Mask:
    """Return the nearer of two values for each pixel; 255 stays where it is neither.

    >>> threshold(np.array([[0, 3, 200, 255]], np.uint8), 0, 255).tolist()
    [[0, 0, 255, 255]]
    """
    return np.where(mask.astype(np.int16) * 2 >= low + high, high, low).astype(np.uint8)


def _pixels(path: Path) -> npt.NDArray[Any]:
    return np.asarray(decode(open_header(EncodedImage.read(path))))


def read_values(path: Path, labels: LabelSpace, values: Values) -> tuple[Mask, str] | None:
    """Read numbers beyond 255 that are values of masks times 256, 257 or 1000; class times 1000 plus an object's number too."""
    pixels = _pixels(path)
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or int(pixels.min()) < 0:
        return None
    for divisor, exact in ((257, True), (256, True), (1000, False)):
        stored = pixels // divisor
        if np.isin(stored, list(values)).all() and not (exact and (pixels % divisor).any()):
            return stored.astype(np.uint8), f"values divided by {divisor}"
    return None


def read_colours(path: Path, labels: LabelSpace, values: Values) -> tuple[Mask, str] | None:
    """Read colours by the classes' palette, or PASCAL VOC's; None where a colour is in neither."""
    pixels = _pixels(path)
    if pixels.ndim != 3:
        return None
    codes = pixels[..., :3].astype(np.int64) @ np.array([65536, 256, 1])
    of_classes = {value: labels.palette[label] for value, label in sorted(values.items(), reverse=True) if label != IGNORE}
    of_voc = {value: voc_palette(256)[value] for value in values if value != IGNORE}
    for name, palette in (("the classes' palette", of_classes), ("PASCAL VOC's palette", of_voc)):
        table = {(red << 16) + (green << 8) + blue: value for value, (red, green, blue) in palette.items()}
        table.setdefault((224 << 16) + (224 << 8) + 192, IGNORE)
        keys = np.array(sorted(table))
        positions = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        if (keys[positions] == codes).all():
            return np.array([table[int(key)] for key in keys], np.uint8)[positions], f"colours read by {name}"
    return None


def _read_without_alpha(path: Path, labels: LabelSpace, values: Values) -> tuple[Mask, str] | None:
    pixels = _pixels(path)
    if pixels.ndim != 3 or pixels.shape[2] not in (2, 4) or not (pixels[..., 0:1] == pixels[..., :-1]).all():
        return None
    return np.ascontiguousarray(pixels[..., 0], np.uint8), "transparency dropped"


def _read_lossy(path: Path, labels: LabelSpace, values: Values) -> tuple[Mask, str] | None:
    """Read a mask of two classes that lossy compression left far apart."""
    pixels = _pixels(path)
    grey = pixels.astype(np.float32) if pixels.ndim == 2 else pixels[..., :3].mean(axis=2)
    high = float(grey.max())
    if len(labels) != 2 or high < 64:
        return None
    return (2 * grey >= high).astype(np.uint8), f"thresholded at {high / 2:g}"


def read_stored(path: Path, labels: LabelSpace | None = None, values: Values | None = None) -> tuple[Mask, str]:
    """Read a mask file as it is."""
    return read_mask(path).label, ""


READINGS: Mapping[str, Reading] = {
    "values.range": read_values,
    "values.colours": read_colours,
    "values.alpha": _read_without_alpha,
    "values.lossy": _read_lossy,
    "sizes.turned": read_stored,
    "sizes.scaled": read_stored,
    "sizes.off-by-one": read_stored,
}
"""How masks are read that are refused as they are."""
