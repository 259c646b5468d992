"""A confusion matrix over all images, and the metrics computed from it.

With ``n_ij`` the pixels of class i labelled j and ``t_i`` the pixels of class i (Long,
Shelhamer and Darrell 2015, §5)::

    pixel accuracy      sum_i n_ii / sum_i t_i
    mean accuracy       mean_i n_ii / t_i
    mean IoU            mean_i n_ii / (t_i + sum_j n_ji - n_ii)
    f.w. IoU            sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii) / sum_i t_i

and, of each class, precision ``n_ii / sum_j n_ji``, recall ``n_ii / t_i`` and F1, also called the
Dice coefficient, ``2 n_ii / (t_i + sum_j n_ji)``.

Counts are exact integers, so neither the order of images nor their division among processes can
change a metric. Metrics are never averaged over images.
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

__all__ = [
    "ABSENT_POLICIES",
    "ConfusionMatrix",
    "SegmentationMetrics",
    "averaged_classes",
    "check_pair",
    "divide",
    "json_safe",
    "mean_over",
]

ABSENT_POLICIES = {
    "union": "classes in neither truth nor prediction are left out of the means, classes only predicted count as 0",
    "present": "the means are over the classes that occur in the truth",
    "all": "the means are over all classes, those that occur nowhere count as 0",
}
"""How means treat a class that does not occur, by name: the text printed with every metric."""


MAX_COUNT = 2**45
"""Pixels of one matrix element: sums over 255 × 255 elements then fit into 64 bits, and a float64 holds each exactly."""


class ConfusionMatrix:
    """Pixels counted by true and predicted class; DataError where ``num_classes`` is not 1 to 255.

    Attributes
    ----------
    counts : (K, K) int64
        Row is truth, column is prediction.
    ignored : int
        Pixels whose truth is 255; they are in no other count.

    Examples
    --------
    >>> matrix = ConfusionMatrix(2)
    >>> matrix.add(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    >>> metrics = matrix.metrics()
    >>> metrics.mean_iou, metrics.class_precision.tolist(), metrics.class_recall.tolist()
    (0.5, [1.0, 0.5], [0.5, 1.0])
    """

    def __init__(self, num_classes: int) -> None:
        if not isinstance(num_classes, int | np.integer) or isinstance(num_classes, bool) or not 1 <= num_classes <= 255:
            raise DataError(f"found {num_classes} classes, expected 1 to 255: label maps are 8-bit and 255 means ignored")
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)
        self.ignored = 0

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], *, ignored: int = 0) -> ConfusionMatrix:
        """Return the matrix that holds ``counts`` (K, K) integer, row = truth: from a file, or summed over processes.

        DataError where the counts are not square, or one is negative or too large for sums to fit into 64 bits.
        """
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu" or (counts < 0).any() or ignored < 0:
            raise DataError(f"found {counts.dtype} counts of shape {counts.shape}, expected (K, K) integers, none negative")
        if counts.size and int(counts.max()) > MAX_COUNT:
            raise DataError(f"found a count of {int(counts.max())}, expected at most {MAX_COUNT}, so that sums fit into 64 bits")
        matrix = cls(len(counts))
        matrix.counts += counts.astype(np.int64)
        matrix.ignored = ignored
        return matrix

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.counts)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one image.

        Parameters
        ----------
        truth : (H, W) uint8
            Class of each pixel, or 255 for an ignored pixel. May be empty.
        predicted : (H, W) uint8
            Predicted class of each pixel; any value where the truth is 255.

        Raises
        ------
        DataError
            Shapes or types differ, or a value is neither a class nor (in the truth) 255.
            Nothing is counted then.
        """
        rows, columns = check_pair(truth, predicted, self.num_classes)
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

    def metrics(self, absent: str = "union") -> SegmentationMetrics:
        """Return the metrics of all pixels counted so far.

        Parameters
        ----------
        absent : {"union", "present", "all"}
            Which classes the means are over; see :data:`ABSENT_POLICIES`. Others are a RecipeError. "union" is the FCN
            authors' code, "present" their SIFT Flow table, "all" the paper's formula as printed
            and SegNet's script. Under each, the means of IoU, precision, recall and F1 are over
            the same classes, an undefined precision or recall counting as 0; mean accuracy never
            includes a class that is only predicted, so that under "union" it may exceed mean recall.
        """
        if absent not in ABSENT_POLICIES:
            raise RecipeError(f"found policy '{absent}' for absent classes, expected one of {', '.join(ABSENT_POLICIES)}")
        hits = np.diag(self.counts).astype(np.float64)
        truth = self.counts.sum(axis=1)
        predicted = self.counts.sum(axis=0)
        union = truth + predicted - np.diag(self.counts)
        total = int(truth.sum())
        class_iou = divide(hits, union)
        class_accuracy = divide(hits, truth)
        class_precision, class_f1 = divide(hits, predicted), divide(2 * hits, truth + predicted)
        present, averaged = truth > 0, averaged_classes(truth, union, absent)
        return SegmentationMetrics(
            pixel_accuracy=float(hits.sum() / total) if total else math.nan,
            mean_accuracy=mean_over(class_accuracy, np.ones_like(present) if absent == "all" else present),
            mean_iou=mean_over(class_iou, averaged),
            frequency_weighted_iou=float((truth[present] * class_iou[present]).sum() / total) if total else math.nan,
            mean_precision=mean_over(class_precision, averaged),
            mean_recall=mean_over(class_accuracy, averaged),
            mean_f1=mean_over(class_f1, averaged),
            class_iou=class_iou,
            class_accuracy=class_accuracy,
            class_precision=class_precision,
            class_f1=class_f1,
            class_pixels=truth,
            ignored_pixels=self.ignored,
            absent=absent,
        )


@dataclass(frozen=True, eq=False)
class SegmentationMetrics:
    """The metrics of a confusion matrix, in [0, 1]; nan where the denominator is 0.

    The means are nan when no valid pixel was counted; those of precision, recall and F1 are over the classes of ``mean_iou``.
    F1 is ``2 IoU / (1 + IoU)``.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    frequency_weighted_iou: float
    mean_precision: float
    mean_recall: float
    mean_f1: float
    class_iou: npt.NDArray[np.float64]  #: (K,), as all of a class; nan for a class in neither truth nor prediction
    class_accuracy: npt.NDArray[np.float64]  #: recall; nan for a class that is not in the truth
    class_precision: npt.NDArray[np.float64]  #: nan for a class that is not predicted
    class_f1: npt.NDArray[np.float64]  #: nan for a class in neither truth nor prediction
    class_pixels: npt.NDArray[np.int64]  #: (K,) pixels of each class in the truth
    ignored_pixels: int  #: pixels whose truth is 255
    absent: str  #: "union", "present" or "all": which classes the means are over

    @property
    def class_recall(self) -> npt.NDArray[np.float64]:
        """The FCN paper's class accuracy, by the name that goes with precision."""
        return self.class_accuracy

    @property
    def policy(self) -> str:
        """One sentence on ignored pixels and absent classes, to print with the metrics."""
        valid = int(self.class_pixels.sum())
        missing = int((self.class_pixels == 0).sum())
        if valid == 0:
            return f"No valid pixel was counted ({self.ignored_pixels} are ignored), so no metric is defined."
        total = valid + self.ignored_pixels
        return (
            f"{self.ignored_pixels} of {total} pixels ({100 * self.ignored_pixels / total:.1f} %) are ignored, {missing} of "
            f"{len(self.class_pixels)} classes do not occur in the truth; {ABSENT_POLICIES[self.absent]}."
        )

    def as_dict(self, labels: LabelSpace) -> dict[str, Any]:
        """Return everything as JSON-safe values, classes by name, nan as None; DataError where ``labels`` has another number of classes."""
        if len(labels) != len(self.class_pixels):
            raise DataError(f"found {len(labels)} class names for metrics of {len(self.class_pixels)} classes, expected one name each")
        of_class = ("iou", "accuracy", "precision", "recall", "f1")
        classes = {
            name: {metric: json_safe(getattr(self, f"class_{metric}")[k]) for metric in of_class} | {"pixels": int(self.class_pixels[k])}
            for k, name in enumerate(labels.names)
        }
        means = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou", "mean_precision", "mean_recall", "mean_f1")
        return {metric: json_safe(getattr(self, metric)) for metric in means} | {
            "classes": classes,
            "valid_pixels": int(self.class_pixels.sum()),
            "ignored_pixels": self.ignored_pixels,
            "absent": self.absent,
            "policy": self.policy,
        }


def check_pair(
    truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return truth + 1 (0 where ignored) and prediction (a class everywhere) as (H·W,) arrays; see :meth:`ConfusionMatrix.add`."""
    for name, given in (("truth", truth), ("prediction", predicted)):
        if not isinstance(given, np.ndarray):
            raise DataError(f"found {type(given).__name__} as the {name}, expected a label map in a NumPy array, (H, W) uint8")
    if truth.shape != predicted.shape:
        raise DataError(f"found truth of shape {truth.shape} and prediction of shape {predicted.shape}, expected the same: do not resize")
    if truth.dtype != np.uint8 or predicted.dtype != np.uint8:
        raise DataError(
            f"found label maps of {truth.dtype} and {predicted.dtype}, expected uint8: convert them with .astype(np.uint8), "
            f"once every value is a class or {IGNORE}"
        )
    rows = truth.ravel() + np.uint8(1)  # the ignored label, 255, wraps around to row 0
    columns = predicted.ravel()
    if (highest := int(rows.max(initial=0))) > classes:
        raise DataError(
            f"found label {highest - 1} in the truth, expected 0 to {classes - 1} or {IGNORE}: map it to a class or to {IGNORE}"
        )
    if columns.max(initial=0) >= classes:
        if (highest := int(columns[rows > 0].max(initial=0))) >= classes:
            raise DataError(f"found label {highest} in the prediction, expected 0 to {classes - 1}: the model has other classes")
        columns = np.where(rows > 0, columns, np.uint8(0))
    return rows, columns


def json_safe(value: float) -> float | None:
    """Return a metric, or None for nan."""
    return None if math.isnan(value) else float(value)


def divide(hits: npt.NDArray[np.float64], totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the quotients of each class (K,); nan where the denominator is 0."""
    quotients = np.full(len(hits), np.nan)
    np.divide(hits, totals, out=quotients, where=totals > 0)
    return quotients


def averaged_classes(truth: npt.NDArray[np.int64], union: npt.NDArray[np.int64], absent: str) -> npt.NDArray[np.bool_]:
    """Return which classes a mean IoU is over; see :data:`ABSENT_POLICIES`."""
    return {"union": union > 0, "present": truth > 0, "all": np.ones(len(truth), bool)}[absent]


def mean_over(values: npt.NDArray[np.float64], averaged: npt.NDArray[np.bool_]) -> float:
    """Return the mean over the ``averaged`` classes, nan counting as 0; nan where no class has a value."""
    return float(np.nan_to_num(values[averaged]).mean()) if averaged.any() and not np.isnan(values).all() else math.nan


_BLOCK = 1 << 18
"""Pixels counted at a time, to fit into the CPU's cache."""


def _count_pairs(rows: npt.NDArray[np.uint8], columns: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int64]:
    """Return (K + 1, K): how many pixels have each row and column.

    Neighbouring pixels are mostly equal, so that it is faster to find the runs of equal pairs
    and add their lengths; in noise every pixel is counted individually.
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
