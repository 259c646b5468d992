"""What metrics are taken of: pixels by truth and prediction, over whole images and near borders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.metrics import BorderCounts, ConfusionMatrix

__all__ = ["Counts"]


class Counts:
    """A confusion matrix and border counts of the same images; they add up.

    Parameters
    ----------
    classes : int
        K.

    Attributes
    ----------
    matrix : ConfusionMatrix
    borders : BorderCounts
    """

    def __init__(self, classes: int) -> None:
        self.matrix, self.borders = ConfusionMatrix(classes), BorderCounts(classes)

    def add(self, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], *, key: str) -> ConfusionMatrix:
        """Count one image, (H, W) uint8 both; return its own confusion matrix.

        Raises
        ------
        DataError
            A label is no class; the message begins with ``key``, the image's.
        """
        own = ConfusionMatrix(self.matrix.num_classes)
        try:
            own.add(truth, predicted)
        except DataError as error:
            raise DataError(f"{key}: {error}") from None
        self.matrix += own
        self.borders.add(truth, predicted)
        return own

    def __add__(self, other: Counts) -> Counts:
        result = Counts(self.matrix.num_classes)
        result.matrix, result.borders = self.matrix + other.matrix, self.borders + other.borders
        return result

    def metrics(self) -> dict[str, float]:
        """Return ``mean_iou``, ``boundary_iou`` and ``trimap_iou``, in [0, 1] or nan."""
        borders = self.borders.metrics()
        return {"mean_iou": self.matrix.metrics().mean_iou, "boundary_iou": borders.boundary_iou, "trimap_iou": borders.trimap_iou}
