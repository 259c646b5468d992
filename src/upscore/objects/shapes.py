"""A label map as shapes: the connected components of its classes and objects, each with its outline.

It is what annotation tools edit: drawn again by the rule of pixel centres, the shapes give the label map back, to the pixel where the
tolerance is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upscore.objects.components import Component, find_components
from upscore.objects.polygons import Polygon, outline
from upscore.objects.simplify import simplify

__all__ = ["TracedShape", "group_ids", "group_parts", "join_holes", "trace_shapes"]


class TracedShape(NamedTuple):
    """One shape of a label map."""

    component: Component  #: its pixels
    polygon: Polygon  #: its outline in the image, within the tolerance; rings are (N, 2) int64

    @property
    def label(self) -> int:
        """Its class, or 255."""
        return self.component.label

    @property
    def instance(self) -> int:
        """The number of the object that it is a part of; 0 where it is one by itself."""
        return self.component.instance


def trace_shapes(
    label_map: npt.NDArray[np.uint8],
    labels: Collection[int],
    *,
    instances: npt.NDArray[np.integer] | None = None,
    tolerance: float = 0.0,
) -> list[TracedShape]:
    """Return the shapes of a label map, larger ones first; of equal ones that of the lower class, then the upper one.

    Parameters
    ----------
    label_map : (H, W) uint8
        Classes, or 255.
    labels : collection of int
        Whose shapes are wanted.
    instances : (H, W) integer, optional
        The number of each pixel's object, 0 for none: objects of a class that touch have shapes of their own.
    tolerance : float
        By which outlines may differ from the edges of pixels (:func:`upscore.objects.simplify.simplify`), in pixels.

    Examples
    --------
    >>> shapes = trace_shapes(np.array([[0, 1, 1], [0, 0, 2]], np.uint8), [1, 2])
    >>> [(shape.label, shape.polygon.outer.tolist()) for shape in shapes]
    [(1, [[1, 0], [3, 0], [3, 1], [1, 1]]), (2, [[2, 1], [3, 1], [3, 2], [2, 2]])]
    """
    found = sorted(find_components(label_map, labels, instances=instances), key=lambda component: -component.area)
    return [TracedShape(each, simplify(outline(each.mask, left=each.left, top=each.top), tolerance)) for each in found]


def group_parts(shapes: Sequence[TracedShape]) -> list[list[TracedShape]]:
    """Return the shapes with those of one object together, in the order of the first of each.

    >>> labels = np.array([[1, 0, 1, 0, 1]], np.uint8)
    >>> [[part.component.left for part in parts] for parts in group_parts(trace_shapes(labels, [1], instances=labels * [5, 0, 6, 0, 5]))]
    [[0, 4], [2]]
    """
    groups: dict[tuple[int, int, int], list[TracedShape]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault((shape.label, shape.instance, -1 if shape.instance else index), []).append(shape)
    return list(groups.values())


def group_ids(shapes: Sequence[TracedShape]) -> list[int | None]:
    """Return the number of each shape's object where that has several parts, which a format may group, otherwise None."""
    parts = Counter((shape.label, shape.instance) for shape in shapes)
    return [shape.instance if shape.instance and parts[shape.label, shape.instance] > 1 else None for shape in shapes]


def join_holes(polygon: Polygon) -> npt.NDArray[np.int64]:
    """Return a polygon as one ring (N, 2), for formats without holes: each hole is joined by a bridge of no width that is passed twice.

    Filled by the even-odd rule, which passes over the bridges, the ring gives the polygon. A bridge joins the nearest two corners.

    >>> square = np.array([[0, 0], [3, 0], [3, 3], [0, 3]])
    >>> join_holes(Polygon(square, (np.array([[1, 1], [1, 2], [2, 2], [2, 1]]),))).tolist()
    [[0, 0], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 0], [3, 0], [3, 3], [0, 3]]
    """
    ring = polygon.outer
    for hole in polygon.holes:
        nearest = [(int(distances.min()), int(distances.argmin()), corner) for corner, distances in _distances(hole, ring)]
        _, position, corner = min(nearest)
        ring = np.concatenate([ring[: position + 1], hole[corner:], hole[: corner + 1], ring[position:]])
    return ring


def _distances(hole: npt.NDArray[np.int64], ring: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    return [(corner, ((ring - point) ** 2).sum(axis=1)) for corner, point in enumerate(hole)]
