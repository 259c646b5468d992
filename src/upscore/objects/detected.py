"""An object found in an image, and the objects of a label map: the connected components of each class."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.objects.components import find_components
from upscore.objects.polygons import Polygon, outline
from upscore.objects.rle import encode_rle
from upscore.overlay import is_background
from upscore.types import LabelSpace

__all__ = ["DetectedObject", "connected_objects", "object_classes"]


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """An object: its class, its score, its mask and where that lies."""

    label_class: int  #: its number in the label space
    score: float  #: mean over its pixels of the probability of its class, 0 to 1
    mask: npt.NDArray[np.bool_]  #: (h, w), the part inside the box
    left: int  #: first column of the box in the image
    top: int  #: and first row
    size: tuple[int, int]  #: height and width of the image

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels; right and bottom are exclusive."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    def polygon(self) -> Polygon:
        """Return the outline in the image, as :func:`upscore.objects.polygons.outline`."""
        return outline(self.mask, left=self.left, top=self.top)

    def rle(self) -> str:
        """Return the mask in the image as COCO's compressed run lengths, as :func:`upscore.objects.rle.encode_rle`."""
        return encode_rle(self.mask, left=self.left, top=self.top, size=self.size)


def object_classes(labels: LabelSpace) -> tuple[int, ...]:
    """Return the classes of which there are objects: all but those whose name means background (:func:`upscore.overlay.is_background`).

    >>> object_classes(LabelSpace(("background", "car", "bus")))
    (1, 2)
    """
    return tuple(k for k, name in enumerate(labels.names) if not is_background(name))


def connected_objects(
    label_map: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    *,
    classes: Collection[int],
    min_area: int = 1,
    origin: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> list[DetectedObject]:
    """Return the connected components of each class as objects, best first; of equal scores the lower class, then the upper one.

    Pixels that touch only at a corner are not connected. Two objects of one class that touch are one component, and one object here.

    Parameters
    ----------
    label_map : (H, W) uint8
        Classes.
    confidence : (H, W) float32
        The probability of each pixel's class.
    classes : collection of int
        Of which there are objects.
    min_area : int
        Pixels of the smallest component that is an object.
    origin : (int, int)
        Row and column of the label map in its image.
    size : (int, int), optional
        Height and width of that image; those of the label map when not given.

    Examples
    --------
    >>> found = connected_objects(np.array([[0, 1, 1, 0, 1]], np.uint8), np.full((1, 5), 0.9, np.float32), classes=[1])
    >>> [(each.box, each.area) for each in found]
    [((1, 0, 3, 1), 2), ((4, 0, 5, 1), 1)]
    """
    objects = []
    for found in find_components(label_map, classes, min_area=min_area):
        height, width = found.mask.shape
        inside = confidence[found.top : found.top + height, found.left : found.left + width]
        score = float(inside[found.mask].mean(dtype=np.float64))
        objects.append(
            DetectedObject(found.label, score, found.mask, found.left + origin[1], found.top + origin[0], size or label_map.shape)
        )
    return sorted(objects, key=lambda each: -each.score)
