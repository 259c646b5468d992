"""The connected components of a label map."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Component", "find_components"]


class Component(NamedTuple):
    """Pixels of one class that are connected along their edges."""

    label: int  #: their class, or 255
    left: int  #: first column of the box around them
    top: int  #: and first row
    mask: npt.NDArray[np.bool_]  #: (h, w), the part of the label map inside the box
    area: int  #: in pixels


def find_components(label_map: npt.NDArray[np.uint8], labels: Collection[int], *, min_area: int = 1) -> Iterator[Component]:
    """Yield the connected components of each of the labels, label by label; pixels that touch only at a corner are not connected.

    Parameters
    ----------
    label_map : (H, W) uint8
        Classes, or 255.
    labels : collection of int
        Whose components are found; 255 may be one of them.
    min_area : int
        Pixels of the smallest component that is yielded.

    Examples
    --------
    >>> [(each.label, each.left, each.area) for each in find_components(np.array([[1, 1, 0, 2, 1]], np.uint8), [1, 2])]
    [(1, 0, 2), (1, 4, 1), (2, 3, 1)]
    """
    present = np.flatnonzero(cv2.calcHist([label_map], [0], None, [256], [0, 256]).ravel())
    for label in sorted(set(labels) & set(present.tolist())):
        of_label = (label_map == label).view(np.uint8)
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(of_label, connectivity=4, ltype=cv2.CV_32S)
        for number, (left, top, width, height, area) in enumerate(stats.tolist()):
            if number and area >= min_area:  # 0 is what has another label
                yield Component(label, left, top, numbers[top : top + height, left : left + width] == number, area)
