"""U-Net's weight map: a higher loss weight on the background between two objects, and background put where objects touch.

::

    objects ──> distance to the nearest (d1) and the second nearest (d2) ──> w0 exp(-(d1 + d2)² / 2σ²)

    ..11..22..      d1 + d2 between the two: 3 3       beside a single object: larger, or infinite

Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, §3, eq. 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from upscore.distances import distances_to
from upscore.errors import DataError, RecipeError
from upscore.types import IGNORE, Sample

__all__ = ["BorderWeighting", "border_weights", "number_components", "separate_touching"]

NEGLIGIBLE = 1e-6
"""Fraction of w0 below which a weight is set to zero; it bounds the distance that is searched."""

MAX_SIGMA = 1e6
"""Pixels: no image is as large."""

_Instances = npt.NDArray[Any]


@dataclass(frozen=True)
class BorderWeighting:
    """U-Net's weight map as a step of loading: ``find_objects`` before a sample is augmented, ``add_weights`` afterwards.

    Objects are found in the image as it was read, so that an object that a crop or an elastic
    deformation divides stays one object; the instance mask is then augmented with the image.
    Weights are computed after augmentation, so that distances are in the network's pixels
    whatever the scale. Objects just outside the crop are not considered.

    Parameters
    ----------
    weight, sigma : float
        w0 and σ of :func:`border_weights`; with a weight of 0 no map is made.
    object_classes : tuple of int
        Classes whose connected components are the objects of a sample that has no instance mask.
    border_class : int, optional
        The class that is put between touching objects, two pixels wide.
    class_weights : (K,) tuple of float, optional
        Weight of each class, w_c; 1 when not given. It is part of the map, since w(x) is the
        sum of both terms.
    """

    weight: float = 10.0
    sigma: float = 5.0
    object_classes: tuple[int, ...] = ()
    border_class: int | None = None
    class_weights: tuple[float, ...] | None = None

    def find_objects(self, sample: Sample) -> Sample:
        """Return ``sample`` with an instance mask: its own, or the connected components of ``object_classes``.

        A DataError is raised where it has none and no class is given.
        """
        if sample.instances is not None:
            return sample
        if not self.object_classes or sample.label is None:
            raise DataError(
                f"{sample.key}: has no instance mask to weight borders by: add one, or name the classes whose connected components are "
                "the objects with loss.border_of"
            )
        return replace(sample, instances=number_components(sample.label, self.object_classes))

    def add_weights(self, sample: Sample) -> Sample:
        """Return ``sample``, which has an instance mask, with its weight map and with touching objects separated.

        Weights it already has multiply the class weights; the border term is added to that.
        """
        assert sample.instances is not None
        if self.border_class is not None and sample.label is not None:
            label, instances = separate_touching(sample.label, sample.instances, self.border_class)
            sample = replace(sample, label=label, instances=instances)
        if not self.weight:
            return sample
        assert sample.instances is not None
        weights = border_weights(sample.instances, weight=self.weight, sigma=self.sigma)
        own = np.float32(1) if sample.weights is None else sample.weights
        if self.class_weights is not None and sample.label is not None:
            table = np.zeros(256, np.float32)
            table[: len(self.class_weights)] = self.class_weights
            own = own * table[sample.label]
        return replace(sample, weights=weights + own)


def border_weights(instances: _Instances, *, weight: float = 10.0, sigma: float = 5.0) -> npt.NDArray[np.float32]:
    """Return ``weight * exp(-(d1 + d2)² / (2 sigma²))`` on the background, d1 and d2 the distances to the two nearest objects.

    This is the second term of U-Net's w(x); the caller adds the first, the class weight, and
    nothing is divided by the sum. The paper gives the term for every pixel; here it is zero
    inside objects, where d1 has no meaning, as its purpose is the background between them.
    A distance is to the centre of the object's nearest pixel: 1 beside it.

    Each object's distances are computed only in the window where they matter, so hundreds of
    objects cost little more than one.

    Parameters
    ----------
    instances : (H, W) integer
        Number of the object each pixel belongs to, 0 for the background.
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
        ``instances`` is not a two-dimensional array of integers.
    RecipeError
        ``weight`` is below 0 or not finite, or ``sigma`` not above 0 or beyond a million pixels.

    Examples
    --------
    >>> border_weights(np.array([[1, 0, 0, 2]])).round(1).tolist()
    [[0.0, 8.399999618530273, 8.399999618530273, 0.0]]
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
    """Yield the number of each object and the rows and columns of its bounding box."""
    highest = int(instances.max(initial=0))
    if instances.min(initial=0) < 0 or highest > instances.size:  # find_objects makes a box for each number up to the highest
        numbers, dense = np.unique(instances, return_inverse=True)
        boxes = find_objects(dense.reshape(instances.shape).astype(np.int32) + 1)
    else:
        numbers, boxes = np.arange(1, highest + 1), find_objects(np.asarray(instances, np.int32))
    yield from ((int(number), box) for number, box in zip(numbers, boxes, strict=True) if box is not None and number != 0)


def number_components(label: npt.NDArray[np.uint8], classes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Number the connected components of each of ``classes``; 0 elsewhere.

    Pixels are connected by their sides (4-connectivity): a diagonal border one pixel wide
    separates two components.

    ``label`` has two axes of integers, or a DataError is raised; the numbers are (H, W) int32, from 1 on.

    >>> number_components(np.array([[1, 0, 1, 1, 2]], np.uint8), [1, 2]).tolist()
    [[1, 0, 2, 2, 3]]
    """
    _check_map(label)
    instances, count = np.zeros(label.shape, np.int32), 0
    for label_class in classes:
        found, components = cv2.connectedComponents((label == label_class).view(np.uint8), connectivity=4)
        instances = np.where(components > 0, components + count, instances)
        count += found - 1
    return instances.astype(np.int32)


def separate_touching(
    label: npt.NDArray[np.uint8], instances: _Instances, background: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Put ``background`` where two objects touch, as in U-Net's ground truth.

    A pixel with a pixel of another object among its eight neighbours becomes background, on
    both sides: a border two pixels wide. Objects with background between them are unchanged.

    Parameters
    ----------
    label : (H, W) uint8
        Class of each pixel, or 255, which is unchanged.
    instances : (H, W) integer
        Number of the object each pixel belongs to, 0 for none; a DataError is raised where its size is another.
    background : int
        Class of the border.

    Examples
    --------
    >>> separate_touching(np.array([[1, 1, 1, 1]], np.uint8), np.array([[5, 5, 6, 6]]), 0)[1].tolist()
    [[5, 0, 0, 6]]
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
    separated = np.where(touching & (label != IGNORE), np.uint8(background), label)
    return separated, np.where(touching, instances.dtype.type(0), instances)


def _check_map(numbers: npt.NDArray[Any]) -> None:
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise DataError(f"found a map of shape {numbers.shape} and type {numbers.dtype}, expected (H, W) integers")
