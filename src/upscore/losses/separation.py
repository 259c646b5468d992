"""U-Net's separation of touching objects: weight on the ground between two of them, and ground put there.

::

    objects ──> distance to the nearest (d1) and the second nearest (d2) ──> w0 exp(-(d1 + d2)² / 2σ²)

    ..11..22..      d1 + d2 between the two: 3 3       beside one of them alone: more, or infinite

Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, §3, eq. 2. NumPy in, NumPy out: a map is made for
each image, where images are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from upscore.errors import DataError, RecipeError
from upscore.losses.distances import distances_to

__all__ = ["number_objects", "separate_touching", "separation_weights"]

NEGLIGIBLE = 1e-6
"""Share of the weight below which it is zero: distances are looked for no farther."""

MAX_SIGMA = 1e6
"""Pixels: no image is as large."""

_Instances = npt.NDArray[Any]


def separation_weights(instances: _Instances, *, weight: float = 10.0, sigma: float = 5.0) -> npt.NDArray[np.float32]:
    """Return ``weight * exp(-(d1 + d2)² / (2 sigma²))`` on the ground, d1 and d2 the distances to the two nearest objects.

    The second term of U-Net's w(x); the first, the weight of a pixel's class, is added by
    the caller, and nothing is divided by the sum. The paper gives the term for every pixel;
    here it is zero inside objects, as d1 to an object one is in has no meaning, and its
    purpose is the ground between them. A distance is to the centre of the object's nearest
    pixel, 1 beside it.

    Each object's distances are looked for in a window as far as they matter, so hundreds of
    objects cost little more than one.

    Parameters
    ----------
    instances : (H, W) integer
        Number of the object each pixel belongs to, 0 for the ground.
    weight : float
        w0; the paper's is 10.
    sigma : float, above 0
        In pixels; the paper's is about 5.

    Returns
    -------
    (H, W) float32
        From 0 to ``weight``; values below a millionth of it are 0. Zero where there are fewer
        than two objects.

    Raises
    ------
    DataError
        ``instances`` are no integers of two axes.
    RecipeError
        ``weight`` is below 0 or not finite, or ``sigma`` not above 0 or beyond a million pixels.
    """
    _check_map(instances)
    if not 0 <= weight < math.inf or not 0 < sigma <= MAX_SIGMA:
        raise RecipeError(f"found weight {weight:g} and sigma {sigma:g}, expected a weight of at least 0 and a sigma above 0, both finite")
    reach = math.ceil(sigma * math.sqrt(-2 * math.log(NEGLIGIBLE)))
    nearest, second = (np.full(instances.shape, np.inf, np.float32) for _ in range(2))
    for number, (rows, columns) in _objects(instances):
        window = np.s_[max(0, rows.start - reach) : rows.stop + reach, max(0, columns.start - reach) : columns.stop + reach]
        distance = distances_to(instances[window] == number)
        np.minimum(second[window], np.maximum(nearest[window], distance), out=second[window])
        np.minimum(nearest[window], distance, out=nearest[window])
    term = np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma**2))
    return np.where((instances == 0) & (term >= NEGLIGIBLE), np.float32(weight) * term, np.float32(0))


def _objects(instances: _Instances) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Yield the number of each object and the rows and columns it lies in."""
    top = int(instances.max(initial=0))
    if instances.min(initial=0) < 0 or top > instances.size:  # numbers may be anything, and there is a box for each up to the top
        numbers, dense = np.unique(instances, return_inverse=True)
        boxes = find_objects(dense.reshape(instances.shape).astype(np.int32) + 1)
    else:
        numbers, boxes = np.arange(1, top + 1), find_objects(np.asarray(instances, np.int32))
    yield from ((int(number), box) for number, box in zip(numbers, boxes, strict=True) if box is not None and number != 0)


def number_objects(label: npt.NDArray[np.uint8], classes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Return a number for each connected piece of each of ``classes``, 0 elsewhere.

    Pixels are connected by their sides: a border one pixel wide that runs diagonally parts
    two pieces, as it is meant to.

    Parameters
    ----------
    label : (H, W) uint8
        Class of each pixel, or 255.
    classes : sequence of int
        Those whose pieces are objects.

    Returns
    -------
    (H, W) int32
        From 1 on.

    Raises
    ------
    DataError
        The labels are no integers of two axes.
    """
    _check_map(label)
    instances, count = np.zeros(label.shape, np.int32), 0
    for label_class in classes:
        found, pieces = cv2.connectedComponents((label == label_class).view(np.uint8), connectivity=4)
        instances = np.where(pieces > 0, pieces + count, instances)
        count += found - 1
    return instances.astype(np.int32)


def separate_touching(
    label: npt.NDArray[np.uint8], instances: _Instances, background: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Return label and instances with ``background`` where two objects touch, as U-Net's truth has it.

    A pixel with a pixel of another object among its eight neighbours becomes ground, on both
    sides: a border two pixels wide. Objects with ground between them stay as they are.

    Parameters
    ----------
    label : (H, W) uint8
        Class of each pixel, or 255, which stays.
    instances : (H, W) integer
        Number of the object each pixel belongs to, 0 for none.
    background : int
        Class of the border.

    Returns
    -------
    (H, W) uint8, (H, W) integer
        Copies.

    Raises
    ------
    DataError
        The two are no integers of one size.
    """
    _check_map(label)
    _check_map(instances)
    if label.shape != instances.shape:
        raise DataError(f"found labels {label.shape} and objects {instances.shape}, expected the same size")
    touching = np.zeros(instances.shape, bool)
    height, width = instances.shape
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left, right = max(0, -across), min(width, width - across)
        here, there = np.s_[: height - down, left:right], np.s_[down:, left + across : right + across]
        meet = (instances[here] != instances[there]) & (instances[here] != 0) & (instances[there] != 0)
        touching[here] |= meet
        touching[there] |= meet
    parted = np.where(touching & (label != 255), np.uint8(background), label)
    return parted, np.where(touching, instances.dtype.type(0), instances)


def _check_map(numbers: npt.NDArray[Any]) -> None:
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise DataError(f"found a map of shape {numbers.shape} and type {numbers.dtype}, expected (H, W) integers")
