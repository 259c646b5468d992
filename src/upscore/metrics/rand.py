"""Separation of cells: the Rand error of the ISBI 2012 challenge, which counts splits and mergers.

The pixel error hardly changes with a gap of one pixel in a membrane, although it merges two cells.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError

__all__ = ["connected_components", "rand_error"]


def connected_components(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number the connected components of a mask (H, W) bool, True inside cells: (H, W) int32 from 1, and 0 outside.

    Pixels that touch only at a corner are not connected, so that a membrane one pixel wide separates two cells. DataError where the
    mask is not (H, W) bool.

    >>> connected_components(np.array([[True, False], [False, True]]))
    array([[1, 0],
           [0, 2]], dtype=int32)
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise DataError(f"found a mask of shape {mask.shape} and type {mask.dtype}, expected (H, W) bool: threshold it first")
    if not mask.size:
        return np.zeros(mask.shape, np.int32)
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1], np.int32)


def rand_error(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> float:
    """Return one minus the F-score of the pairs of pixels in the same segment, in [0, 1]; 0 where neither has a pair.

    Over all pairs of pixels that belong to cells in the truth, *together* meaning in the same
    segment::

        precision = pairs together in both / pairs together in the prediction      decreases with mergers
        recall    = pairs together in both / pairs together in the truth           decreases with splits
        error     = 1 - 2 · precision · recall / (precision + recall)

    Arganda-Carreras and others (2015), "Crowdsourcing the creation of image segmentation
    algorithms for connectomics", the Rand score restricted to the foreground.

    Parameters
    ----------
    truth, predicted : (H, W) integer
        Number of each pixel's segment, 0 for none. Pixels of no true segment are left out;
        pixels of no predicted segment are together with no other pixel.

    Raises
    ------
    DataError
        The sizes differ, or the numbers are negative or no integers.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2, 2]])
    >>> rand_error(truth, truth), round(rand_error(truth, np.array([[1, 1, 1, 1, 1]])), 3)
    (0.0, 0.5)
    """
    if truth.dtype.kind not in "iu" or predicted.dtype.kind not in "iu":
        raise DataError(
            f"found segments of type {truth.dtype} and {predicted.dtype}, expected integers: connected_components() numbers those of a mask"
        )
    if truth.shape != predicted.shape:
        raise DataError(f"found segments {truth.shape} and {predicted.shape}, expected the same size")
    if truth.size and min(truth.min(), predicted.min()) < 0:
        raise DataError("found a negative segment number, expected 0 for none and others from 1")
    inside = truth > 0
    true, found = _renumber(truth[inside]), _renumber(predicted[inside])
    segmented = found > 0
    in_both = _count_pairs(true[segmented] * (int(found.max(initial=0)) + 1) + found[segmented])
    in_truth, in_prediction = _count_pairs(true), _count_pairs(found[segmented])
    return 1 - 2 * in_both / (in_truth + in_prediction) if in_truth + in_prediction else 0.0


def _renumber(numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the segments numbered from 1, and 0 for none: products of two numbers then fit into 64 bits."""
    present, index = np.unique(numbers, return_inverse=True)
    return np.asarray(index.reshape(-1) + int(not present.size or present[0] != 0), np.int64)


def _count_pairs(numbers: npt.NDArray[np.int64]) -> int:
    """Return the number of pairs of pixels with the same segment number."""
    counts = np.unique(numbers, return_counts=True)[1].astype(object)  # unbounded integers, for squares of millions
    return int((counts * (counts - 1) // 2).sum())
