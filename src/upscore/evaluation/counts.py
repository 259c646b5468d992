"""The pixels from which the metrics of an evaluation are computed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.metrics import BorderCounts, ConfusionMatrix

__all__ = ["PixelCounts"]


class PixelCounts:
    """A confusion matrix and the counts near borders, over images with K classes, 1 to 255.
    >>> counts = PixelCounts(2)
    >>> image_matrix = counts.add("a", np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8))
    >>> counts.metrics()["mean_iou"]
    0.375
    """

    def __init__(self, num_classes: int) -> None:
        self.matrix, self.borders = ConfusionMatrix(num_classes), BorderCounts(num_classes)

    def add(self, key: str, truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> ConfusionMatrix:
        """Count one image, and return its own matrix.

        Truth and prediction are (H, W) as in :meth:`upscore.metrics.ConfusionMatrix.add`. Raises DataError, which names the image by its
        key, where a label is not a class. Nothing is counted then.
        """
        image = ConfusionMatrix(self.matrix.num_classes)
        try:
            image.add(truth, predicted)
        except DataError as error:
            raise DataError(f"{key}: {error}") from None
        self.matrix += image
        self.borders.add(truth, predicted)
        return image

    def __add__(self, other: PixelCounts) -> PixelCounts:
        result = PixelCounts(self.matrix.num_classes)
        result.matrix, result.borders = self.matrix + other.matrix, self.borders + other.borders
        return result

    def metrics(self) -> dict[str, float]:
        """Return ``mean_iou``, ``boundary_iou`` and ``trimap_iou``, in [0, 1] or nan."""
        borders = self.borders.metrics()
        return {"mean_iou": self.matrix.metrics().mean_iou, "boundary_iou": borders.boundary_iou, "trimap_iou": borders.trimap_iou}
