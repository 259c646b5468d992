"""Masks as COCO's compressed run lengths, which tools for COCO's format read.

A mask is read column by column, from the top; its lengths of runs alternate between pixels outside and inside, and begin outside::

    0 1 1
    1 1 0    column by column: 0 1 | 1 1 | 1 0    runs 1 4 1

From the fourth on, each length is written as its difference to the one two before it, in groups of five bits from the lowest: a
character is 48 plus the group, plus 32 where another group follows (``rleToString`` of cocoapi's maskApi.c).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["encode_rle"]


def encode_rle(mask: npt.NDArray[np.bool_], *, left: int, top: int, size: tuple[int, int]) -> str:
    """Return the run lengths of an image's mask, of which only a part is given, in COCO's compressed form.

    Parameters
    ----------
    mask : (h, w) bool
        The part of the mask outside of which no pixel is in it.
    left, top : int
        Where that part lies in the image, in pixels.
    size : (int, int)
        Height and width of the image.

    Examples
    --------
    >>> encode_rle(np.array([[True, True], [True, False]]), left=1, top=0, size=(2, 3))
    '231'
    """
    height, width = size
    columns = np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8)
    column, change = np.nonzero(np.diff(columns, axis=1))  # inside begins and ends by turns
    changes = (left + column) * height + top + change
    # A run that reaches the end of a column and one at the beginning of the next are one.
    joined = np.zeros(len(changes), bool)
    joined[1:-1:2] = changes[1:-1:2] == changes[2::2]
    joined[2::2] = joined[1:-1:2]
    runs = np.diff(np.concatenate([[0], changes[~joined], [height * width]]))
    return _compressed(runs[:-1] if runs[-1] == 0 else runs)


def _compressed(runs: npt.NDArray[np.int64]) -> str:
    values = runs.copy()
    values[3:] -= runs[1:-2]
    characters = bytearray()
    for value in values.tolist():
        more = True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            characters.append(48 + group + 32 * more)
    return characters.decode("ascii")
