"""The connected components of a label map, or of the objects in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

__all__ = ["Component", "find_components"]


class Component(NamedTuple):
    """Pixels of one class that are connected along their edges."""

    label: int  #: their class, or 255
    left: int  #: first column of the box around them
    top: int  #: and first row
    mask: npt.NDArray[np.bool_]  #: (h, w), the part of the label map inside the box
    area: int  #: in pixels
    instance: int = 0  #: the number of the object that it is a part of; 0 for none


def find_components(
    label_map: npt.NDArray[np.uint8],
    labels: Collection[int],
    *,
    instances: npt.NDArray[np.integer] | None = None,
    min_area: int = 1,
) -> Iterator[Component]:
    """Yield the connected components of each of the labels, label by label; pixels that touch only at a corner are not connected.

    Parameters
    ----------
    label_map : (H, W) uint8
        Classes, or 255.
    labels : collection of int
        Whose components are found; 255 may be one of them.
    instances : (H, W) integer, optional
        The number of each pixel's object, 0 for none. Pixels of different objects are not connected.
    min_area : int
        Pixels of the smallest component that is yielded.

    Examples
    --------
    >>> [(each.label, each.left, each.area) for each in find_components(np.array([[1, 1, 0, 2, 1]], np.uint8), [1, 2])]
    [(1, 0, 2), (1, 4, 1), (2, 3, 1)]
    """
    present = np.flatnonzero(cv2.calcHist([label_map], [0], None, [256], [0, 256]).ravel())
    for label in sorted(set(labels) & set(present.tolist())):
        of_label = label_map == label
        if instances is not None:
            numbers, dense = np.unique(np.where(of_label, instances, 0), return_inverse=True)
            dense = dense.reshape(label_map.shape).astype(np.int32)
            for index, window in enumerate(find_objects(dense + 1)):
                if numbers[index]:
                    yield from _connected(dense[window] == index, label, window[1].start, window[0].start, min_area, int(numbers[index]))
            of_label &= instances == 0
        yield from _connected(of_label, label, 0, 0, min_area, 0)


def _connected(pixels: npt.NDArray[np.bool_], label: int, left: int, top: int, min_area: int, instance: int) -> Iterator[Component]:
    """Yield the components of pixels whose upper left corner is at ``left`` and ``top``."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(pixels.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    for number, (x, y, width, height, area) in enumerate(stats.tolist()):
        if number and area >= min_area:  # 0 is the pixels outside
            yield Component(label, left + x, top + y, numbers[y : y + height, x : x + width] == number, area, instance)
