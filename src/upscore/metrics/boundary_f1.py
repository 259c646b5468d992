"""SegNet's BF score: how well predicted boundaries match true ones, class by class and image by image.

Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017, §3.3, after Csurka, Larlus, Perronnin, "What is a good evaluation measure for
semantic segmentation?", BMVC 2013. The authors' computeBFmeasure.m matches boundaries with the Berkeley benchmark's ``correspondPixels``:
each pixel of one boundary is matched with at most one of the other, as many as possible. So does this module, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from upscore.errors import DataError, RecipeError
from upscore.metrics.confusion import check_pair, json_safe
from upscore.types import IGNORE, LabelSpace

__all__ = ["BoundaryF1", "BoundaryF1Counts", "boundary_f1", "class_boundary"]


class BoundaryF1Counts:
    """Sums of boundary F1 scores over images of ``num_classes`` classes.

    **F1 of a class in an image.** Its boundary is that of the Berkeley code's ``seg2bdry``: a pixel that differs from its right, lower or
    lower right neighbour in being of the class. Pixels of the true and the predicted boundary match within ``tolerance`` of the image's
    diagonal, each at most once; precision and recall are the fractions that are matched.

    **BF score.** The mean of the F1 over the classes with a boundary in the image's truth, as the paper says, and then over the images with
    such a class. The authors' script also counts a class whose boundary is only predicted, with 0: ``mean_over_either``.

    Ignored pixels have no boundary, and predictions there have no effect. The authors' script takes them as another region.

    Examples
    --------
    >>> truth, predicted = np.zeros((2, 40, 40), np.uint8)
    >>> truth[:, 20:], predicted[:, 25:] = 1, 1
    >>> counts = BoundaryF1Counts(2)
    >>> counts.add(truth, truth)
    >>> counts.add(truth, predicted)  # five pixels away, where 0.42 are tolerated
    >>> counts.metrics().mean
    0.5
    """

    def __init__(self, num_classes: int, *, tolerance: float = 0.0075) -> None:
        if not 0 < tolerance <= 1:
            raise RecipeError(f"found a tolerance of {tolerance:g} of the diagonal, expected above 0 to 1")
        if not 1 <= num_classes <= 255:
            raise DataError(f"found {num_classes} classes, expected 1 to 255")
        self.num_classes, self.tolerance = num_classes, float(tolerance)
        self._scores: list[tuple[float, ...]] = []  # of each image, in the order of their counting

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """Count one image (H, W); arguments and errors are those of :meth:`upscore.metrics.ConfusionMatrix.add`."""
        check_pair(truth, predicted, self.num_classes)
        if truth.ndim != 2:
            raise DataError(f"found label maps of shape {truth.shape}, expected one image, (H, W)")
        valid = truth != IGNORE
        distance = self.tolerance * math.hypot(*truth.shape)
        scores = [math.nan] * (2 * self.num_classes)
        for k in np.union1d(truth[valid], predicted[valid]).tolist():
            true, found = (class_boundary(label_map == k, valid) for label_map in (truth, predicted))
            if true.any():
                scores[k] = boundary_f1(true, found, distance)
            elif found.any():
                scores[self.num_classes + k] = 0.0
        self._scores.append(tuple(scores))

    def __iadd__(self, other: BoundaryF1Counts) -> BoundaryF1Counts:
        if (self.num_classes, self.tolerance) != (other.num_classes, other.tolerance):
            raise DataError(f"found BF scores of {self.num_classes} and {other.num_classes} classes, expected the same settings")
        self._scores += other._scores
        return self

    def metrics(self) -> BoundaryF1:
        """Return the scores of all images counted so far; their order does not change them."""
        table = np.array(sorted(self._scores, key=repr), np.float64).reshape(-1, 2 * self.num_classes)
        of_truth = table[:, : self.num_classes]
        either = np.where(np.isnan(of_truth), table[:, self.num_classes :], of_truth)
        return BoundaryF1(_mean(_row_means(of_truth)), _mean(_row_means(either)), np.array([_mean(c) for c in of_truth.T]), self.tolerance)


@dataclass(frozen=True, eq=False)
class BoundaryF1:
    """BF scores in [0, 1] (see :class:`BoundaryF1Counts`); nan where there is no boundary."""

    mean: float  #: the BF score: over the classes with a boundary in each image's truth, then over the images
    mean_over_either: float  #: as the authors' script: over the classes with one in truth or prediction
    class_f1: npt.NDArray[np.float64]  #: (K,) over the images in which the class has a true boundary
    tolerance: float  #: as a fraction of the image's diagonal

    @property
    def policy(self) -> str:
        """One sentence to print with the score."""
        return (
            f"The BF score matches boundary pixels within {100 * self.tolerance:g} % of the diagonal, each once; it is averaged over the "
            "classes of each image's truth, then over the images."
        )

    def as_dict(self, labels: LabelSpace) -> dict[str, Any]:
        """Return everything as JSON-safe values, classes by name, nan as None."""
        classes = {name: json_safe(float(score)) for name, score in zip(labels.names, self.class_f1, strict=True)}
        means = {"bf_score": json_safe(self.mean), "bf_score_over_either": json_safe(self.mean_over_either)}
        return means | {"classes": classes, "tolerance": self.tolerance, "policy": self.policy}


def class_boundary(region: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
    """Return the boundary (H, W) bool of a region (H, W) bool: where a pixel and its right, lower and lower right neighbours differ.

    Pixels that are not ``valid`` are compared with none. At the last row and column, the neighbours beyond the image are left out.

    >>> class_boundary(np.array([[False, True, True]])).tolist()
    [[True, False, False]]
    """
    valid = np.ones_like(region) if valid is None else valid
    inside = np.pad(region & valid, ((0, 1), (0, 1)))
    outside = np.pad(~region & valid, ((0, 1), (0, 1)))
    height, width = region.shape
    squares = [(slice(y, y + height), slice(x, x + width)) for y in (0, 1) for x in (0, 1)]
    return np.asarray(np.logical_or.reduce([inside[s] for s in squares]) & np.logical_or.reduce([outside[s] for s in squares]))


def boundary_f1(true: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_], distance: float) -> float:
    """Return the F1 score of two boundaries (H, W) bool that match within ``distance`` pixels, each pixel at most once; nan without any."""
    total = int(true.sum()) + int(found.sum())
    return 2 * _count_matches(true, found, distance) / total if total else math.nan


def _count_matches(true: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_], distance: float) -> int:
    """Return the size of a maximum matching of pixels at most ``distance`` apart."""
    if distance < 1:
        return int((true & found).sum())
    number = np.full(found.shape, -1)
    number[found] = np.arange(int(found.sum()))
    rows, columns = np.nonzero(true)
    reach = int(distance)
    pairs = []
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            if down * down + across * across > distance * distance:
                continue
            y, x = rows + down, columns + across
            inside = np.flatnonzero((y >= 0) & (y < found.shape[0]) & (x >= 0) & (x < found.shape[1]))
            partner = number[y[inside], x[inside]]
            pairs.append(np.stack([inside[partner >= 0], partner[partner >= 0]]))
    true_index, found_index = np.concatenate(pairs, axis=1)
    graph = sparse.csr_matrix((np.ones(len(true_index), np.int8), (true_index, found_index)), shape=(len(rows), int(found.sum())))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def _row_means(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([_mean(row) for row in table])


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return math.fsum(known) / len(known) if len(known) else math.nan
