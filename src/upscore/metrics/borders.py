"""Accuracy near the borders of classes: boundary IoU and trimap IoU.

The metrics of a confusion matrix hardly depend on where a border lies, since most pixels are far from one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError, RecipeError
from upscore.metrics.confusion import ConfusionMatrix, averaged_classes, check_pair, divide, json_safe, mean_over
from upscore.types import IGNORE, LabelSpace

__all__ = ["BorderCounts", "BorderMetrics"]


class BorderCounts:
    """Counts of pixels near the borders of classes, for two metrics.

    **Boundary IoU** (Cheng, Girshick, Dollár, Berg, Kirillov 2021, "Boundary IoU: Improving
    Object-Centric Image Segmentation Evaluation", eq. 2), for a class with the true pixels G
    and the predicted pixels P, where ``M_d`` are the pixels of M at most d from a pixel outside M::

        |G_d ∩ P_d| / |G_d ∪ P_d|           d = 2 % of the image's diagonal, at least 1

    Intersections and unions are summed over the images, then divided, then averaged over the
    classes; the paper averages over objects instead.

    **Trimap IoU** (Krähenbühl, Koltun 2011, §5, who show pixel accuracy; Chen and others 2015, §4.3,
    who show this): the mean IoU over the pixels at most ``width`` from a pixel of another class in
    the truth, that is, in a band of twice that width.

    What the papers leave open:

    - Distance is the maximum of the row and column offsets, as in the boundary IoU's own code.
    - The image's edge is a border for boundary IoU, as in its code, but not for the trimap.
    - Ignored pixels are in no count, and predictions there have no effect. A class has no border
      towards them, since its extent is unknown there; two classes separated by a strip of ignored
      pixels (VOC's outlines) do have one, if the strip is narrower than the distance.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    diagonal_fraction : float in (0, 1]
        d, as a fraction of the image's diagonal; rounded to pixels.
    trimap_width : int
        To either side of a border, in pixels, at least 1.

    Attributes
    ----------
    intersection, union : (K,) int64
        ``|G_d ∩ P_d|`` and ``|G_d ∪ P_d|`` of every class.
    truth : (K,) int64
        ``|G_d|``.
    trimap : ConfusionMatrix
        Of the pixels in the trimap; all other pixels are ignored in it.

    Raises
    ------
    DataError
        ``num_classes`` is not 1 to 255.
    RecipeError
        ``diagonal_fraction`` or ``trimap_width`` is out of range.

    Examples
    --------
    >>> truth, predicted = np.zeros((2, 40, 40), np.uint8)
    >>> truth[:, 20:], predicted[:, 21:] = 1, 1
    >>> counts = BorderCounts(2)
    >>> counts.add(truth, predicted)
    >>> round(counts.metrics().boundary_iou, 3), round(counts.metrics().trimap_iou, 3)
    (0.497, 0.882)
    """

    def __init__(self, num_classes: int, *, diagonal_fraction: float = 0.02, trimap_width: int = 8) -> None:
        if not 0 < diagonal_fraction <= 1 or not isinstance(trimap_width, int | np.integer) or trimap_width < 1:
            raise RecipeError(
                f"found a boundary of {diagonal_fraction:g} of the diagonal and a trimap of {trimap_width} pixels, "
                "expected above 0 to 1, and 1 or more"
            )
        self.trimap = ConfusionMatrix(num_classes)
        self.diagonal_fraction, self.trimap_width = float(diagonal_fraction), int(trimap_width)
        self.intersection, self.union, self.truth = (np.zeros(num_classes, np.int64) for _ in range(3))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.truth)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one image; arguments and errors are those of :meth:`ConfusionMatrix.add`, and (H, W) is required."""
        check_pair(truth, predicted, self.num_classes)
        if truth.ndim != 2:
            raise DataError(f"found label maps of shape {truth.shape}, expected one image, (H, W)")
        if truth.size == 0:
            return
        evaluated = truth != IGNORE
        predicted = np.where(evaluated, predicted, np.uint8(IGNORE))
        distance = max(1, round(self.diagonal_fraction * math.hypot(*truth.shape)))
        of_truth, of_prediction = (
            np.where(_near_border(label_map, distance, edge=True), label_map, IGNORE) for label_map in (truth, predicted)
        )
        true_pixels, predicted_pixels, intersection = (
            np.bincount(label_map.ravel(), minlength=256)[: self.num_classes]
            for label_map in (of_truth, of_prediction, of_truth[of_truth == of_prediction])
        )
        self.intersection += intersection
        self.truth += true_pixels
        self.union += true_pixels + predicted_pixels - intersection
        self.trimap.add(np.where(_near_border(truth, self.trimap_width, edge=False), truth, np.uint8(IGNORE)), predicted)

    def __iadd__(self, other: BorderCounts) -> BorderCounts:
        if other._settings != self._settings:
            raise DataError(f"found border counts of {self._settings} and {other._settings}, expected the same settings")
        self.intersection += other.intersection
        self.union += other.union
        self.truth += other.truth
        self.trimap += other.trimap
        return self

    def __add__(self, other: BorderCounts) -> BorderCounts:
        result = BorderCounts(self.num_classes, diagonal_fraction=self.diagonal_fraction, trimap_width=self.trimap_width)
        result += self
        result += other
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BorderCounts):
            return NotImplemented
        return (
            (self._settings, self.trimap) == (other._settings, other.trimap)
            and np.array_equal(self.intersection, other.intersection)
            and np.array_equal(self.union, other.union)
            and np.array_equal(self.truth, other.truth)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes as it counts

    def __repr__(self) -> str:
        boundary, trimap = int(self.truth.sum()), int(self.trimap.counts.sum())
        return f"BorderCounts({self.num_classes} classes, {boundary} boundary pixels, {trimap} in the trimap)"

    @property
    def _settings(self) -> str:
        return f"{self.num_classes} classes, {self.diagonal_fraction!r} of the diagonal, a trimap of {self.trimap_width} pixels"

    def metrics(self, absent: str = "union") -> BorderMetrics:
        """Return the metrics of all pixels counted so far.

        ``absent`` is as in :meth:`ConfusionMatrix.metrics`; a class occurs if it has pixels near a border.
        """
        trimap = self.trimap.metrics(absent)
        class_boundary_iou = divide(self.intersection.astype(np.float64), self.union)
        return BorderMetrics(
            boundary_iou=mean_over(class_boundary_iou, averaged_classes(self.truth, self.union, absent)),
            trimap_iou=trimap.mean_iou,
            class_boundary_iou=class_boundary_iou,
            class_trimap_iou=trimap.class_iou,
            diagonal_fraction=self.diagonal_fraction,
            trimap_width=self.trimap_width,
            absent=absent,
        )


@dataclass(frozen=True, eq=False)
class BorderMetrics:
    """The metrics of pixels near borders, in [0, 1] (see :class:`BorderCounts`); nan where there is no border."""

    boundary_iou: float
    trimap_iou: float
    class_boundary_iou: npt.NDArray[np.float64]  #: (K,); nan for a class without pixels near a border in truth and prediction
    class_trimap_iou: npt.NDArray[np.float64]  #: likewise
    diagonal_fraction: float  #: the distance of boundary IoU, as a fraction of the image's diagonal
    trimap_width: int  #: the distance of trimap IoU, in pixels
    absent: str  #: "union", "present" or "all": which classes the means are over

    @property
    def policy(self) -> str:
        """One sentence on what counts as a border, to print with the metrics."""
        return (
            f"Boundary IoU is over the pixels at most {100 * self.diagonal_fraction:g} % of the diagonal from the contours of truth and "
            f"prediction, the image's edge included; trimap IoU over those at most {self.trimap_width} pixels from a border in the truth; "
            "there is no border towards ignored pixels."
        )

    def as_dict(self, labels: LabelSpace) -> dict[str, Any]:
        """Return everything as JSON-safe values, classes by name, nan as None; DataError where ``labels`` has another number of classes."""
        if len(labels) != len(self.class_boundary_iou):
            raise DataError(
                f"found {len(labels)} class names for metrics of {len(self.class_boundary_iou)} classes, expected one name each"
            )
        return {
            "boundary_iou": json_safe(self.boundary_iou),
            "trimap_iou": json_safe(self.trimap_iou),
            "classes": {
                name: {"boundary_iou": json_safe(boundary), "trimap_iou": json_safe(trimap)}
                for name, boundary, trimap in zip(labels.names, self.class_boundary_iou, self.class_trimap_iou, strict=True)
            },
            "diagonal_fraction": self.diagonal_fraction,
            "trimap_width": self.trimap_width,
            "absent": self.absent,
            "policy": self.policy,
        }


def _near_border(label_map: npt.NDArray[np.uint8], distance: int, *, edge: bool) -> npt.NDArray[np.bool_]:
    """Return the valid pixels at most ``distance`` from a valid pixel of another class, or with ``edge`` from the outside.

    Another class is near where the minimum or the maximum label around a pixel differs from its
    own: two filters for any number of classes.
    """
    height, width = label_map.shape
    # The ignored label is the maximum of all, and with 1 added it wraps to the minimum: each filter passes over it.
    kernels = np.ones((2 * min(distance, height - 1) + 1, 1), np.uint8), np.ones((1, 2 * min(distance, width - 1) + 1), np.uint8)
    minimum, maximum = label_map, label_map + np.uint8(1)
    for kernel in kernels:
        minimum, maximum = cv2.erode(minimum, kernel), cv2.dilate(maximum, kernel)
    near = (minimum != label_map) | (maximum != label_map + np.uint8(1))
    if edge:
        near[:distance] = near[max(0, height - distance) :] = True
        near[:, :distance] = near[:, max(0, width - distance) :] = True
    return np.asarray(near & (label_map != IGNORE))
