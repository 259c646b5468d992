"""How well label maps agree: one confusion matrix over all pictures, and the four scores of the FCN paper.

With ``n_ij`` the pixels of class i labelled j and ``t_i`` the pixels of class i (Long,
Shelhamer and Darrell 2015, §5)::

    pixel accuracy      sum_i n_ii / sum_i t_i
    mean accuracy       mean_i n_ii / t_i
    mean IoU            mean_i n_ii / (t_i + sum_j n_ji - n_ii)
    f.w. IoU            sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii) / sum_i t_i

Counts are exact integers, so neither the order of pictures nor their division among
processes can change a score. Scores are never averaged over pictures.

Those scores hardly notice where a border lies: most pixels are far from one. Two others look
at nothing else, and are counted beside them (:class:`BorderCounts`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.errors import DataError, RecipeError
from upscore.types import IGNORE, LabelSpace

__all__ = ["ABSENT_POLICIES", "BorderCounts", "BorderScores", "ConfusionMatrix", "Scores"]

ABSENT_POLICIES = {
    "union": "classes in neither truth nor prediction are left out of the means, classes only predicted count as 0",
    "present": "the means are over the classes that occur in the truth",
    "all": "the means are over all classes, those that occur nowhere count as 0",
}
"""What a mean does with a class that does not occur, by name: the text printed with every score."""


class ConfusionMatrix:
    """Pixels counted by true and predicted class.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.

    Attributes
    ----------
    counts : (K, K) int64
        Row is truth, column is prediction.
    ignored : int
        Pixels whose truth is 255; they are in no other count.

    Raises
    ------
    DataError
        ``num_classes`` is not 1 to 255.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= 255:
            raise DataError(f"found {num_classes} classes, expected 1 to 255: label maps are 8-bit and 255 means ignored")
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)
        self.ignored = 0

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], *, ignored: int = 0) -> ConfusionMatrix:
        """Return the matrix that holds ``counts`` (K, K) integer, row = truth: from a file, or summed over processes.

        Raises
        ------
        DataError
            The counts are not square, or one is negative.
        """
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu" or (counts < 0).any() or ignored < 0:
            raise DataError(f"found {counts.dtype} counts of shape {counts.shape}, expected (K, K) integers, none negative")
        matrix = cls(len(counts))
        matrix.counts += counts.astype(np.int64)
        matrix.ignored = ignored
        return matrix

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.counts)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one picture.

        Parameters
        ----------
        truth : (H, W) uint8
            Class of each pixel, or 255 for a pixel that is not judged. May be empty.
        predicted : (H, W) uint8
            Predicted class of each pixel. Where the truth is 255 any value may stand.

        Raises
        ------
        DataError
            Shapes or types differ, or a value is neither a class nor (in the truth) 255.
            Nothing is counted then.
        """
        rows, columns = _checked_pair(truth, predicted, self.num_classes)
        for start in range(0, rows.size, _BLOCK):
            table = _count_pairs(rows[start : start + _BLOCK], columns[start : start + _BLOCK], self.num_classes)
            self.counts += table[1:]
            self.ignored += int(table[0].sum())

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if other.num_classes != self.num_classes:
            raise DataError(f"found confusion matrices of {self.num_classes} and {other.num_classes} classes, expected the same classes")
        self.counts += other.counts
        self.ignored += other.ignored
        return self

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        result = ConfusionMatrix(self.num_classes)
        result += self
        result += other
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self.ignored == other.ignored and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # it changes as it counts

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {int(self.counts.sum())} pixels, {self.ignored} ignored)"

    def scores(self, absent: str = "union") -> Scores:
        """Return the scores of everything counted so far.

        Parameters
        ----------
        absent : {"union", "present", "all"}
            Which classes the means are over; see :data:`ABSENT_POLICIES`. "union" is what the
            FCN authors' code does, "present" what their SIFT Flow table does, "all" the
            paper's formula as printed and SegNet's script.

        Raises
        ------
        RecipeError
            ``absent`` is none of the three.
        """
        if absent not in ABSENT_POLICIES:
            raise RecipeError(f"found policy '{absent}' for absent classes, expected one of {', '.join(ABSENT_POLICIES)}")
        hits = np.diag(self.counts).astype(np.float64)
        truth = self.counts.sum(axis=1)
        union = truth + self.counts.sum(axis=0) - np.diag(self.counts)
        total = int(truth.sum())
        class_iou = _divide(hits, union)
        class_accuracy = _divide(hits, truth)
        present = truth > 0
        return Scores(
            pixel_accuracy=float(hits.sum() / total) if total else math.nan,
            mean_accuracy=_mean(class_accuracy, np.ones_like(present) if absent == "all" else present),
            mean_iou=_mean(class_iou, _counted(truth, union, absent)),
            frequency_weighted_iou=float((truth[present] * class_iou[present]).sum() / total) if total else math.nan,
            class_iou=class_iou,
            class_accuracy=class_accuracy,
            class_pixels=truth,
            ignored_pixels=self.ignored,
            absent=absent,
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a confusion matrix; nan where there is nothing to divide by.

    Parameters
    ----------
    pixel_accuracy, mean_accuracy, mean_iou, frequency_weighted_iou : float in [0, 1]
        nan when no valid pixel was counted.
    class_iou : (K,) float64
        nan for a class in neither truth nor prediction.
    class_accuracy : (K,) float64
        Recall; nan for a class that is not in the truth.
    class_pixels : (K,) int64
        Pixels of each class in the truth.
    ignored_pixels : int
        Pixels whose truth is 255.
    absent : {"union", "present", "all"}
        Which classes the means are over.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    frequency_weighted_iou: float
    class_iou: npt.NDArray[np.float64]
    class_accuracy: npt.NDArray[np.float64]
    class_pixels: npt.NDArray[np.int64]
    ignored_pixels: int
    absent: str

    @property
    def policy(self) -> str:
        """One sentence on what was left out: print it with the numbers."""
        valid = int(self.class_pixels.sum())
        missing = int((self.class_pixels == 0).sum())
        if valid == 0:
            return f"No valid pixel was counted ({self.ignored_pixels} are ignored), so no score is defined."
        total = valid + self.ignored_pixels
        return (
            f"{self.ignored_pixels} of {total} pixels ({self.ignored_pixels / total:.1%}) are ignored, {missing} of "
            f"{len(self.class_pixels)} classes do not occur in the truth; {ABSENT_POLICIES[self.absent]}."
        )

    def as_dict(self, labels: LabelSpace) -> dict[str, Any]:
        """Return everything as JSON-safe values, classes by name, nan as None.

        Raises
        ------
        DataError
            ``labels`` has another number of classes.
        """
        if len(labels) != len(self.class_pixels):
            raise DataError(f"found {len(labels)} class names for scores of {len(self.class_pixels)} classes, expected one name each")
        classes = {
            name: {"iou": _json(iou), "accuracy": _json(accuracy), "pixels": int(pixels)}
            for name, iou, accuracy, pixels in zip(labels.names, self.class_iou, self.class_accuracy, self.class_pixels, strict=True)
        }
        return {
            "pixel_accuracy": _json(self.pixel_accuracy),
            "mean_accuracy": _json(self.mean_accuracy),
            "mean_iou": _json(self.mean_iou),
            "frequency_weighted_iou": _json(self.frequency_weighted_iou),
            "classes": classes,
            "valid_pixels": int(self.class_pixels.sum()),
            "ignored_pixels": self.ignored_pixels,
            "absent": self.absent,
            "policy": self.policy,
        }


class BorderCounts:
    """Pixels near the borders of classes, counted so that two scores can be taken of them.

    **Boundary IoU** (Cheng, Girshick, Dollár, Berg, Kirillov 2021, "Boundary IoU: Improving
    Object-Centric Image Segmentation Evaluation", eq. 2), for a class with the true pixels G
    and the predicted pixels P, where ``M_d`` are the pixels of M at most d from a pixel that is
    not M's::

        |G_d ∩ P_d| / |G_d ∪ P_d|           d = 2 % of the picture's diagonal, at least 1

    Intersections and unions are summed over the pictures, then divided, then averaged over the
    classes; the paper averages over objects instead.

    **Trimap IoU** (Krähenbühl, Koltun 2011, §5, who show pixel accuracy; Chen and others 2015, §4.3,
    who show this): the mean IoU over the pixels at most ``width`` from a pixel of another class in
    the truth, that is, in a band of twice that width.

    What the papers leave open is decided thus:

    - Distance is the greater of the steps along rows and columns, as in the boundary IoU's own code.
    - The picture's edge is a border for boundary IoU, again as in its code, and none for the trimap.
    - Ignored pixels are in no count, and what is predicted there changes nothing. A class that
      meets them has no border there, since nobody knows where it ends; two classes with a strip of
      them between (VOC's outlines) do have one, if the strip is narrower than the distance.

    Parameters
    ----------
    num_classes : int
        K, 1 to 255.
    share : float in (0, 1]
        d, as a share of the picture's diagonal; rounded to pixels.
    width : int
        Of the trimap to either side of a border, in pixels, at least 1.

    Attributes
    ----------
    shared, either : (K,) int64
        ``|G_d ∩ P_d|`` and ``|G_d ∪ P_d|`` of every class.
    true : (K,) int64
        ``|G_d|``.
    trimap : ConfusionMatrix
        Of the pixels in the trimap; all others of the judged are ignored in it.

    Raises
    ------
    DataError
        ``num_classes`` is not 1 to 255.
    RecipeError
        ``share`` or ``width`` is out of range.
    """

    def __init__(self, num_classes: int, *, share: float = 0.02, width: int = 8) -> None:
        if not 0 < share <= 1 or width < 1:
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
        """Count one picture; arguments and errors are those of :meth:`ConfusionMatrix.add`."""
        _checked_pair(truth, predicted, self.num_classes)
        if truth.size == 0:
            return
        judged = truth != IGNORE
        predicted = np.where(judged, predicted, np.uint8(IGNORE))
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

    def scores(self, absent: str = "union") -> BorderScores:
        """Return the scores of everything counted so far.

        Parameters
        ----------
        absent : {"union", "present", "all"}
            Which classes the means are over, as in :meth:`ConfusionMatrix.scores`; a class occurs
            where it has pixels near a border.

        Raises
        ------
        RecipeError
            ``absent`` is none of the three.
        """
        trimap = self.trimap.scores(absent)
        class_boundary_iou = _divide(self.shared.astype(np.float64), self.either)
        return BorderScores(
            boundary_iou=_mean(class_boundary_iou, _counted(self.true, self.either, absent)),
            trimap_iou=trimap.mean_iou,
            class_boundary_iou=class_boundary_iou,
            class_trimap_iou=trimap.class_iou,
            share=self.share,
            width=self.width,
            absent=absent,
        )


@dataclass(frozen=True, eq=False)
class BorderScores:
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
            f"the picture's edge included; trimap IoU over those at most {self.width} pixels from a border in the truth; "
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
            raise DataError(f"found {len(labels)} class names for scores of {len(self.class_boundary_iou)} classes, expected one name each")
        return {
            "boundary_iou": _json(self.boundary_iou),
            "trimap_iou": _json(self.trimap_iou),
            "classes": {
                name: {"boundary_iou": _json(boundary), "trimap_iou": _json(trimap)}
                for name, boundary, trimap in zip(labels.names, self.class_boundary_iou, self.class_trimap_iou, strict=True)
            },
            "share": self.share,
            "width": self.width,
            "absent": self.absent,
            "policy": self.policy,
        }


def _near_border(labels: npt.NDArray[np.uint8], reach: int, *, edge: bool) -> npt.NDArray[np.bool_]:
    """Return the judged pixels at most ``reach`` from a judged pixel of another label, or with ``edge`` from the outside.

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


def _checked_pair(
    truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return truth + 1 (0 where ignored) and prediction (a class everywhere), flat; see :meth:`ConfusionMatrix.add`."""
    if truth.shape != predicted.shape:
        raise DataError(f"found truth of shape {truth.shape} and prediction of shape {predicted.shape}, expected the same: do not resize")
    if truth.dtype != np.uint8 or predicted.dtype != np.uint8:
        raise DataError(f"found label maps of {truth.dtype} and {predicted.dtype}, expected uint8: convert them")
    rows = truth.ravel() + np.uint8(1)  # the ignored label, 255, comes round to row 0
    columns = predicted.ravel()
    if (most := int(rows.max(initial=0))) > classes:
        raise DataError(f"found label {most - 1} in the truth, expected 0 to {classes - 1} or {IGNORE}: map it to a class or to {IGNORE}")
    if columns.max(initial=0) >= classes:
        if (most := int(columns[rows > 0].max(initial=0))) >= classes:
            raise DataError(f"found label {most} in the prediction, expected 0 to {classes - 1}: the model has other classes")
        columns = np.where(rows > 0, columns, np.uint8(0))
    return rows, columns


def _json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _divide(hits: npt.NDArray[np.float64], totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    quotients = np.full(len(hits), np.nan)
    np.divide(hits, totals, out=quotients, where=totals > 0)
    return quotients


def _counted(truth: npt.NDArray[np.int64], union: npt.NDArray[np.int64], absent: str) -> npt.NDArray[np.bool_]:
    """Return which classes a mean IoU is over; see :data:`ABSENT_POLICIES`."""
    return {"union": union > 0, "present": truth > 0, "all": np.ones(len(truth), bool)}[absent]


def _mean(values: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> float:
    return float(np.nan_to_num(values[chosen]).mean()) if chosen.any() and not np.isnan(values).all() else math.nan


_BLOCK = 1 << 18
"""Pixels counted at a time: what a processor's cache holds."""


def _count_pairs(rows: npt.NDArray[np.uint8], columns: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int64]:
    """Return (K + 1, K): how often each row and column stand at one place.

    Neighbouring pixels mostly repeat, so that it is faster to find the runs of equal pairs
    and add their lengths; in noise every pixel is counted by itself.
    """
    changed = rows[1:] != rows[:-1]
    changed |= columns[1:] != columns[:-1]
    runs = np.count_nonzero(changed) + 1
    if runs * 10 > rows.size:
        # OpenCV counts in float32: exact below 2**24, and a block is smaller.
        table = cv2.calcHist([rows, columns], [0, 1], None, [classes + 1, classes], [0, classes + 1, 0, classes])
        return np.asarray(table, np.int64)
    last = np.empty(runs, np.intp)
    last[:-1], last[-1] = np.flatnonzero(changed), rows.size - 1
    lengths = last.astype(np.float64)  # exact: far below 2**53
    lengths[0] += 1
    lengths[1:] -= last[:-1]
    pairs = rows.take(last).astype(np.uint16) * np.uint16(classes) + columns.take(last)
    return np.bincount(pairs, lengths, (classes + 1) * classes).astype(np.int64).reshape(-1, classes)
