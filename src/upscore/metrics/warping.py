"""U-Net's warping error: the pixels in which a prediction differs from the truth after boundaries were moved without changing topology.

Jain and others, "Boundary Learning by Optimization with Topological Constraints", CVPR 2010, §2; with the pixel error and the Rand error
(:mod:`upscore.metrics.rand`) it was reported by the ISBI 2012 challenge. A *simple* pixel can change sides without joining, splitting,
creating or filling anything. The truth is warped towards the prediction by flipping simple pixels in which the two differ, until none
is left: what then differs are splits, mergers, and objects and holes that are missing or superfluous.
"""

from __future__ import annotations

from collections import deque
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["pixel_error", "warp", "warping_error"]


def pixel_error(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> float:
    """Return the fraction of pixels in which two masks (H, W) bool differ, in [0, 1]; DataError as :func:`warp`."""
    _check(truth, predicted)
    return float((truth != predicted).mean())


def warping_error(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_], *, max_distance: float | None = None) -> float:
    """Return the fraction of pixels in which ``predicted`` and the warped truth differ, in [0, 1]; arguments as :func:`warp`.

    >>> truth = np.array([[True, True, False, True, True]])
    >>> warping_error(truth, np.array([[True, False, False, True, True]])), warping_error(truth, np.ones((1, 5), bool))
    (0.0, 0.2)
    """
    return pixel_error(warp(truth, predicted, max_distance=max_distance), predicted)


def warp(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_], *, max_distance: float | None = None) -> npt.NDArray[np.bool_]:
    """Return the truth warped towards a prediction: (H, W) bool with the topology of the truth.

    Only pixels that differ are flipped, each at most once, as in the paper: a membrane one pixel wide moves by one pixel. Groups of up to
    twelve adjacent pixels are flipped in the best order of all. Larger ones are flipped greedily: the result is then a minimum that no
    single flip improves, and the time is linear in their number.

    Parameters
    ----------
    truth, predicted : (H, W) bool
        True inside cells, which are connected by sides; membranes are connected by corners too, and so is what lies beyond the image,
        which counts as a membrane.
    max_distance : float, optional
        How far from a boundary of the truth a pixel may lie that is flipped, in pixels; any distance when not given.

    Raises
    ------
    DataError
        A mask is not (H, W) bool, is empty, or the sizes differ.
    """
    _check(truth, predicted)
    height, width = truth.shape
    warped = np.pad(truth, 1)
    differs = np.pad(truth != predicted, 1)
    if max_distance is not None:
        inside, outside = (cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5) for mask in (truth, ~truth))
        differs &= np.where(np.pad(truth, 1), inside, outside) <= max_distance
    # Whether a pixel is simple depends on its eight neighbours alone: groups of pixels that do not touch are warped on their own.
    count, group = cv2.connectedComponents(differs.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(differs)
    order = np.argsort(group[rows, columns], kind="stable")
    starts = np.searchsorted(group[rows, columns][order], np.arange(1, count))
    for members in np.split(order, starts)[1:]:
        pixels = list(zip(rows[members].tolist(), columns[members].tolist(), strict=True))
        for y, x in _search(warped, pixels) if len(pixels) <= MAX_EXACT else _greedy(warped, pixels):
            warped[y, x] = not warped[y, x]
    return np.asarray(warped[1 : height + 1, 1 : width + 1])


def _greedy(mask: npt.NDArray[np.bool_], pixels: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pixels that are flipped one after another while any is simple; each makes at most its neighbours simple."""
    mask = mask.copy()
    remaining, queue, flipped = set(pixels), deque(pixels), []
    while queue:
        y, x = queue.popleft()
        if (y, x) not in remaining or not _simple_at(mask, y, x):
            continue
        mask[y, x] = not mask[y, x]
        remaining.remove((y, x))
        flipped.append((y, x))
        queue.extend(near for near in product(range(y - 1, y + 2), range(x - 1, x + 2)) if near in remaining)
    return flipped


def _search(mask: npt.NDArray[np.bool_], pixels: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the most pixels that any order of flips can flip, by trying every set once."""
    mask = mask.copy()
    best: list[tuple[int, int]] = []
    seen, stack = {frozenset[int]()}, [frozenset[int]()]
    while stack and len(best) < len(pixels):
        done = stack.pop()
        if len(done) > len(best):
            best = [pixels[i] for i in done]
        for i in done:
            mask[pixels[i]] = not mask[pixels[i]]
        for i in set(range(len(pixels))) - done:
            if (after := done | {i}) not in seen and _simple_at(mask, *pixels[i]):
                seen.add(after)
                stack.append(after)
        for i in done:
            mask[pixels[i]] = not mask[pixels[i]]
    return best


MAX_EXACT = 12
"""Groups of no more pixels are warped in the best order of all; each has at most 4096 sets."""

_BITS = 1 << np.arange(9)
"""Of the pixels of a 3×3 neighbourhood, row by row."""


def _is_simple(window: npt.NDArray[np.bool_]) -> bool:
    """Return whether the centre of 3×3 pixels is simple: one part of each side touches it (Bertrand 1994, in two dimensions).

    Cells: parts by sides of the eight neighbours, of which one is beside the centre. Membranes: parts by sides and corners.
    """
    others = window.copy()
    others[1, 1] = False
    cells = cv2.connectedComponents(others.astype(np.uint8), connectivity=4)[1]
    beside = {int(cells[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)) if others[y, x]}
    outside = ~window
    outside[1, 1] = False
    membranes = cv2.connectedComponents(outside.astype(np.uint8), connectivity=8)[0] - 1
    return len(beside) == 1 and membranes == 1


def _simple_at(mask: npt.NDArray[np.bool_], y: int, x: int) -> bool:
    return _SIMPLE[int(mask[y - 1 : y + 2, x - 1 : x + 2].ravel() @ _BITS)]


_SIMPLE = [_is_simple((number & _BITS > 0).reshape(3, 3)) for number in range(512)]


def _check(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> None:
    for mask in (truth, predicted):
        if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
            raise DataError(f"found a mask of shape {mask.shape} and type {mask.dtype}, expected (H, W) bool: threshold it first")
    if truth.shape != predicted.shape:
        raise DataError(f"found masks {truth.shape} and {predicted.shape}, expected the same size")
