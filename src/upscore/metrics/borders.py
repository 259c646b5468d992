"""How well the borders of classes are met: boundary IoU and trimap IoU, which look at nothing else.

The metrics of a confusion matrix hardly notice where a border lies: most pixels are far from one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError, RecipeError
from upscore.metrics.confusion import ConfusionMatrix, checked_pair, counted, divide, json_safe, mean_over
from upscore.types import IGNORE, LabelSpace

__all__ = ["BorderCounts", "BorderMetrics"]


class BorderCounts:
    """Pixels near the borders of classes, counted so that two metrics can be taken of them.

    **Boundary IoU** (Cheng, Girshick, Dollár, Berg, Kirillov 2021, "Boundary IoU: Improving
    Object-Centric Image Segmentation Evaluation", eq. 2), for a class with the true pixels G
    and the predicted pixels P, where ``M_d`` are the pixels of M at most d from a pixel that is
    not M's::

        |G_d ∩ P_d| / |G_d ∪ P_d|           d = 2 % of the image's diagonal, at least 1

    Intersections and unions are summed over the images, then divided, then averaged over the
    classes; the paper averages over objects instead.

    **Trimap IoU** (Krähenbühl, Koltun 2011, §5, who show pixel accuracy; Chen and others 2015, §4.3,
    who show this): the mean IoU over the pixels at most ``width`` from a pixel of another class in
    the truth, that is, in a band of twice that width.

    What the papers leave open is decided thus:

    - Distance is the greater of the steps along rows and columns, as in the boundary IoU's own code.
    - The image's edge is a border for boundary IoU, again as in its code, and none for the trimap.
    - Ignored pixels are in no count, and what is predicted there changes nothing. A class that
      meets them has no border there, since nobody knows where it ends; two classes with a strip of
      them between (VOC's outlines) do have one, if the strip is narrower than the distance.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    share : float in (0, 1]
        d, as a share of the image's diagonal; rounded to pixels.
    width : int
        Of the trimap to either side of a border, in pixels, at least 1.

    Attributes
    ----------
    shared, either : (K,) int64
        ``|G_d ∩ P_d|`` and ``|G_d ∪ P_d|`` of every class.
    true : (K,) int64
        ``|G_d|``.
    trimap : ConfusionMatrix
        Of the pixels in the trimap; all others of the evaluated are ignored in it.

    Raises
    ------
    DataError
        ``num_classes`` is not 1 to 255.
    RecipeError
        ``share`` or ``width`` is out of range.
    """

    def __init__(self, num_classes: int, *, share: float = 0.02, width: int = 8) -> None:
        if not 0 < share <= 1 or not isinstance(width, int | np.integer) or width < 1:
            raise RecipeError(
                f"found a boundary of {share:g} of the diagonal and a trimap of {width} pixels, expected above 0 to 1, and 1 or more"
            )
        self.trimap = ConfusionMatrix(num_classes)
        self.share, self.width = float(share), int(width)
        self.shared, self.either, self.true = (np.zeros(num_classes, np.int64) for _ in range(3))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.shared)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one image; arguments and errors are those of :meth:`ConfusionMatrix.add`, and there must be two axes."""
        checked_pair(truth, predicted, self.num_classes)
        if truth.ndim != 2:
            raise DataError(f"found label maps of shape {truth.shape}, expected one image, (H, W)")
        if truth.size == 0:
            return
        evaluated = truth != IGNORE
        predicted = np.where(evaluated, predicted, np.uint8(IGNORE))
        reach = max(1, round(self.share * math.hypot(*truth.shape)))
        # A truth and a prediction that are near a border each count for their own class.
        true, said = (np.where(_near_border(labels, reach, edge=True), labels, IGNORE) for labels in (truth, predicted))
        true_pixels, said_pixels = (np.bincount(labels.ravel(), minlength=256)[: self.num_classes] for labels in (true, said))
        shared = np.bincount(true[true == said], minlength=256)[: self.num_classes]
        self.shared += shared
        self.true += true_pixels
        self.either += true_pixels + said_pixels - shared
        self.trimap.add(np.where(_near_border(truth, self.width, edge=False), truth, np.uint8(IGNORE)), predicted)

    def __iadd__(self, other: BorderCounts) -> BorderCounts:
        if (other.num_classes, other.share, other.width) != (self.num_classes, self.share, self.width):
            raise DataError(
                f"found borders of {self.num_classes} and {other.num_classes} classes, {self.share:g} and {other.share:g} of the "
                f"diagonal, {self.width} and {other.width} pixels wide: expected the same"
            )
        self.shared += other.shared
        self.either += other.either
        self.true += other.true
        self.trimap += other.trimap
        return self

    def __add__(self, other: BorderCounts) -> BorderCounts:
        result = BorderCounts(self.num_classes, share=self.share, width=self.width)
        result += self
        result += other
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BorderCounts):
            return NotImplemented
        return (
            (self.share, self.width, self.trimap) == (other.share, other.width, other.trimap)
            and np.array_equal(self.shared, other.shared)
            and np.array_equal(self.either, other.either)
            and np.array_equal(self.true, other.true)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes as it counts

    def __repr__(self) -> str:
        near, band = int(self.true.sum()), int(self.trimap.counts.sum())
        return f"BorderCounts({self.num_classes} classes, {near} boundary pixels, {band} in the trimap)"

    def metrics(self, absent: str = "union") -> BorderMetrics:
        """Return the metrics of everything counted so far.

        Parameters
        ----------
        absent : {"union", "present", "all"}
            Which classes the means are over, as in :meth:`ConfusionMatrix.metrics`; a class occurs
            where it has pixels near a border.

        Raises
        ------
        RecipeError
            ``absent`` is none of the three.
        """
        trimap = self.trimap.metrics(absent)
        class_boundary_iou = divide(self.shared.astype(np.float64), self.either)
        return BorderMetrics(
            boundary_iou=mean_over(class_boundary_iou, counted(self.true, self.either, absent)),
            trimap_iou=trimap.mean_iou,
            class_boundary_iou=class_boundary_iou,
            class_trimap_iou=trimap.class_iou,
            share=self.share,
            width=self.width,
            absent=absent,
        )


@dataclass(frozen=True, eq=False)
class BorderMetrics:
    """How well borders are met; nan where there is no border.

    Parameters
    ----------
    boundary_iou, trimap_iou : float in [0, 1]
        See :class:`BorderCounts`.
    class_boundary_iou, class_trimap_iou : (K,) float64
        nan for a class that is near no border in truth and prediction.
    share, width : float, int
        The distances: share of the diagonal, and pixels.
    absent : {"union", "present", "all"}
        Which classes the means are over.
    """

    boundary_iou: float
    trimap_iou: float
    class_boundary_iou: npt.NDArray[np.float64]
    class_trimap_iou: npt.NDArray[np.float64]
    share: float
    width: int
    absent: str

    @property
    def policy(self) -> str:
        """One sentence on what counts as a border: print it with the numbers."""
        return (
            f"Boundary IoU is over the pixels at most {100 * self.share:g}% of the diagonal from the contours of truth and prediction, "
            f"the image's edge included; trimap IoU over those at most {self.width} pixels from a border in the truth; "
            "where a class meets ignored pixels there is no border."
        )

    def as_dict(self, labels: LabelSpace) -> dict[str, Any]:
        """Return everything as JSON-safe values, classes by name, nan as None.

        Raises
        ------
        DataError
            ``labels`` has another number of classes.
        """
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
            "share": self.share,
            "width": self.width,
            "absent": self.absent,
            "policy": self.policy,
        }


def _near_border(labels: npt.NDArray[np.uint8], reach: int, *, edge: bool) -> npt.NDArray[np.bool_]:
    """Return the evaluated pixels at most ``reach`` from an evaluated pixel of another label, or with ``edge`` from the outside.

    Another label is near where the least or the greatest label around is not the pixel's own:
    two filters, whatever the number of classes.
    """
    height, width = labels.shape
    # The ignored label is the greatest of all, and with 1 added the least: either filter overlooks it.
    box = np.ones((2 * min(reach, height - 1) + 1, 1), np.uint8), np.ones((1, 2 * min(reach, width - 1) + 1), np.uint8)
    least, greatest = labels, labels + np.uint8(1)
    for line in box:
        least, greatest = cv2.erode(least, line), cv2.dilate(greatest, line)
    near = (least != labels) | (greatest != labels + np.uint8(1))
    if edge:
        near[:reach] = near[max(0, height - reach) :] = True
        near[:, :reach] = near[:, max(0, width - reach) :] = True
    return np.asarray(near & (labels != IGNORE))
