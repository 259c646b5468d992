"""The numbers of objects in an instance map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["numbered_to", "renumbered"]


def numbered_to(instances: npt.NDArray[np.integer], highest: int, *, without: int = 0) -> npt.NDArray[np.integer]:
    """Return object numbers that a file holds: as they are where all are 0 to ``highest`` and none is ``without``, otherwise new ones.

    Parameters
    ----------
    instances : (H, W) integer
        The number of each pixel's object, 0 for none.
    highest : int
        The largest number that is possible.
    without : int
        A number that means no object in the file; 0 where there is no other.

    Raises
    ------
    DataError
        There are more objects than numbers.

    Examples
    --------
    >>> numbered_to(np.array([[0, 70000, 3]]), 65535)
    array([[0, 2, 1]], dtype=int32)
    """
    if instances.min(initial=0) >= 0 and instances.max(initial=0) <= highest and not (without and (instances == without).any()):
        return instances
    found, dense = np.unique(instances, return_inverse=True)
    objects = found[found != 0]
    numbers = np.delete(np.arange(highest + 1), [0, without] if without else [0])
    if len(objects) > len(numbers):
        raise DataError(f"found {len(objects):,} objects in one image, expected at most {len(numbers):,}, which a file can number")
    table = np.zeros(len(found), np.int32)
    table[found != 0] = numbers[: len(objects)]
    numbered: npt.NDArray[np.int32] = table[dense.reshape(instances.shape)]
    return numbered


def renumbered(instances: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return objects numbered from 1 in the order of their first pixels, row by row: equal for maps of the same objects.

    >>> renumbered(np.array([[0, 9, 9], [4, 4, 9]])).tolist()
    [[0, 1, 1], [2, 2, 1]]
    """
    found, first, dense = np.unique(instances, return_index=True, return_inverse=True)
    order = np.argsort(np.where(found == 0, -1, first))
    table = np.empty(len(found), np.int32)
    table[order] = np.arange(len(found)) + (0 not in found)
    numbered: npt.NDArray[np.int32] = table[dense.reshape(instances.shape)]
    return numbered
