"""Shapes laid over one another become a label map and a map of objects, and what was covered, clipped or left out is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscore.data.annotations.outlines import Outline
from upscore.data.annotations.region import Region
from upscore.data.headers import EXIF_TRANSPOSE
from upscore.errors import DataError
from upscore.types import IGNORE

__all__ = ["FEWER_PIXELS_ON_TOP", "IN_FILE_ORDER", "SMALL_ON_TOP", "Drawing", "DrawnMask", "Shape", "draw", "draw_for_image"]

IN_FILE_ORDER = "where shapes of different classes overlap, the later one in the file is on top"
SMALL_ON_TOP = "where shapes of different classes overlap, the smaller one is on top"
FEWER_PIXELS_ON_TOP = "where shapes of different classes overlap, the one of fewer pixels is on top"

_MAX_PIXELS = 2**34  # in the rectangles around all shapes of an image: a minute

_TURNED = (
    "images were turned upright by their EXIF orientation tags, and their annotations with them, as the size stated for them is that of "
    "the image as stored"
)
_AMBIGUOUS = (
    "images were turned upright by their EXIF orientation tags, and their annotations taken to match the upright image, which their size "
    "does not show: if they were drawn on the image as stored, remove the tag (exiftool -Orientation= FILE)"
)


class Shape(NamedTuple):
    """One shape of an image."""

    label: int  #: its class, or 255 where its pixels are ignored
    outline: Outline
    counted_as: str = ""  #: what its pixels are counted as, such as "of crowd regions"; empty where they need not be
    group: Hashable = None  #: shapes of a class with the same one are parts of an object; None where the shape is an object by itself
    is_object: bool = True  #: False for a crowd of them


@dataclass(frozen=True)
class Drawing:
    """The shapes of one image, in the order in which they are drawn."""

    shapes: Sequence[Shape]
    size: tuple[int, int] | None = None  #: height and width of the image, as the annotation file states them
    background: int = IGNORE  #: the class of pixels without a shape
    order: str = IN_FILE_ORDER  #: or another that the file states; for SMALL_ON_TOP and FEWER_PIXELS_ON_TOP shapes are sorted here
    label_map: npt.NDArray[np.uint8] | None = None  #: (H, W) classes or 255 in place of shapes, where the file holds the pixels
    instances: npt.NDArray[np.int32] | None = None  #: (H, W) the number of each pixel's object, 0 for none, beside such a label map
    left_out: Mapping[str, int] = field(default_factory=dict)  #: what the file holds beside, such as "boxes were left out": its number


@dataclass(frozen=True, eq=False)
class DrawnMask:
    """A label map, with what a user should know about it."""

    label: npt.NDArray[np.uint8]  #: (H, W) class, or 255
    notes: Mapping[str, int]  #: sentences without the number that they begin with, and the number
    #: (H, W) the number of each pixel's object, from 1 in the order of the file; 0 where pixels are ignored, background, or of no shape
    instances: npt.NDArray[np.int32] | None = None


def draw(drawing: Drawing, height: int, width: int) -> DrawnMask:
    """Draw shapes in an image of a size.

    Raises
    ------
    ValueError
        A shape cannot be drawn, or all together would take minutes, with a reason for the caller to put behind the file's name.

    Examples
    --------
    >>> from upscore.data.annotations.outlines import box
    >>> drawn = draw(Drawing([Shape(1, box(0, 0, 2, 1)), Shape(2, box(1, 0, 3, 1))], background=0), 1, 4)
    >>> drawn.label.tolist()
    [[1, 2, 2, 0]]
    >>> for sentence, number in drawn.notes.items():
    ...     print(number, sentence)
    1 pixels lie under another shape: where shapes of different classes overlap, the later one in the file is on top
    1 pixels that no shape covers are background
    """
    if drawing.label_map is not None:
        return DrawnMask(drawing.label_map, drawing.left_out, drawing.instances)
    order = _order(drawing, height, width)
    # The canvas holds the shape of each pixel, counted from 1, of which classes and objects are looked up in the end.
    canvas = np.zeros((height, width), np.int32)
    class_of = np.array([drawing.background, *(shape.label for shape in drawing.shapes)], np.uint8)
    notes = Counter[str](drawing.left_out)
    budget = _MAX_PIXELS
    for index in order:
        shape = drawing.shapes[index]
        region = shape.outline.region(height, width)
        if region.clipped:
            notes["pixels of shapes lie beyond the image and were clipped"] += region.clipped
        budget = _spend(budget, region, len(drawing.shapes))
        rows, columns = region.mask.shape
        below = canvas[region.top : region.top + rows, region.left : region.left + columns]
        covered = below[region.mask]
        if not covered.size:
            notes["shapes cover no pixel" if not region.clipped else "shapes lie beyond the image"] += 1
            continue
        if hidden := int(np.count_nonzero((covered != 0) & (class_of[covered] != shape.label))):
            notes[f"pixels lie under another shape: {drawing.order}"] += hidden
        below[region.mask] = index + 1
        if shape.counted_as:
            notes[f"pixels {shape.counted_as} are {'ignored' if shape.label == IGNORE else 'of their class'}"] += int(covered.size)
    if without := canvas.size - int(np.count_nonzero(canvas)):
        notes[f"pixels that no shape covers are {'ignored' if drawing.background == IGNORE else 'background'}"] += without
    return DrawnMask(class_of[canvas], notes, _number_objects(drawing)[canvas])


def _number_objects(drawing: Drawing) -> npt.NDArray[np.int32]:
    """Return the number of each shape's object, behind a 0 for pixels without a shape."""
    numbers: dict[Hashable, int] = {}
    found = [0]
    for index, shape in enumerate(drawing.shapes):
        of_none = not shape.is_object or shape.label in (IGNORE, drawing.background)
        parts = ("shape", index) if shape.group is None else (shape.label, shape.group)
        found.append(0 if of_none else numbers.setdefault(parts, len(numbers) + 1))
    return np.array(found, np.int32)


def _order(drawing: Drawing, height: int, width: int) -> Sequence[int]:
    """Return the shapes' indices in the order in which they are drawn; equal ones stay in the order of the file."""
    indices = range(len(drawing.shapes))
    if drawing.order not in (SMALL_ON_TOP, FEWER_PIXELS_ON_TOP) or len(indices) < 2:
        return indices
    if drawing.order == SMALL_ON_TOP:
        areas = [shape.outline.area() for shape in drawing.shapes]
    else:
        areas, budget = [], _MAX_PIXELS
        for shape in drawing.shapes:
            region = shape.outline.region(height, width)
            budget = _spend(budget, region, len(indices))
            areas.append(int(np.count_nonzero(region.mask)))
    return sorted(indices, key=lambda index: -areas[index])


def _spend(budget: int, region: Region, shapes: int) -> int:
    """Return what is left of a budget of pixels after a region was drawn."""
    budget -= region.mask.size + 1000
    if budget < 0:
        raise ValueError(f"its {shapes} shapes cover {_MAX_PIXELS:,} pixels, which would take minutes to draw")
    return budget


def draw_for_image(drawing: Drawing, file: Path, image: Path, size: tuple[int, int], orientation: int) -> DrawnMask:
    """Draw the shapes of an annotation file for an image, upright.

    Parameters
    ----------
    file, image : path
        The annotation file and the image, for errors.
    size : (int, int)
        Height and width of the upright image.
    orientation : int
        The image's EXIF orientation, 1 to 8.

    Raises
    ------
    DataError
        The size that the file states is neither that of the upright image nor that of the image as stored; or a shape cannot be drawn.
    """
    stored = size[::-1] if orientation >= 5 else size
    given = drawing.size or size
    if given not in (size, stored):
        also = f" ({stored[0]}×{stored[1]} before it is turned upright)" if stored != size else ""
        raise DataError(
            f"{file}: states {given[0]}×{given[1]} (height × width) for {image.name}, which is {size[0]}×{size[1]}{also}: "
            "annotate the image as it is now, or use the image that was annotated"
        )
    try:
        drawn = draw(drawing, *given)
    except ValueError as error:
        raise DataError(f"{file}: the shapes of {image.name} cannot be drawn: {error}") from None
    if given != size:
        turn = EXIF_TRANSPOSE[orientation]
        label = np.array(Image.fromarray(drawn.label).transpose(turn))
        instances = None if drawn.instances is None else np.array(Image.fromarray(drawn.instances).transpose(turn))
        return DrawnMask(label, {**drawn.notes, _TURNED: 1}, instances)
    if orientation != 1 and stored == size and drawing.size is not None:
        return replace(drawn, notes={**drawn.notes, _AMBIGUOUS: 1})
    return drawn
