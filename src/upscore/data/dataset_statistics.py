"""What a dataset's masks hold, counted: what class weights and the defaults of training are chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from upscore.data.finding import Finding
from upscore.types import LabelSpace

__all__ = ["DatasetStatistics"]


@dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """The counts of a dataset's masks, and what was found wrong with them.

    Parameters
    ----------
    labels : LabelSpace
        The classes.
    images : int
        Number of images.
    class_pixels : (K,) int64
        Pixels of each class.
    pixels_with_class : (K,) int64
        Pixels that are not ignored in the images that show the class: the divisor of median
        frequency balancing.
    images_with_class : (K,) int64
        Images that show the class.
    ignored_pixels : int
        Pixels with label 255.
    sizes : (images, 2) int64
        Height and width of each image; 0 where it could not be read.
    faults : mapping of str to str
        One line for each sample that cannot be used, by its key, in the dataset's order.
    findings : tuple of Finding
        What is wrong with the masks together: a fatal finding, or any number of others.
    """

    labels: LabelSpace
    images: int
    class_pixels: npt.NDArray[np.int64]
    pixels_with_class: npt.NDArray[np.int64]
    images_with_class: npt.NDArray[np.int64]
    ignored_pixels: int
    sizes: npt.NDArray[np.int64]
    faults: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def fatal_finding(self) -> Finding | None:
        """The finding that prevents training on the masks, if there is one."""
        return next((finding for finding in self.findings if finding.fatal), None)

    @property
    def smallest(self) -> tuple[int, int]:
        """Smallest height and smallest width, (0, 0) if nothing could be read."""
        return self._size(np.min)

    @property
    def median(self) -> tuple[int, int]:
        """Median height and median width, rounded down."""
        return self._size(np.median)

    @property
    def largest(self) -> tuple[int, int]:
        """Largest height and largest width."""
        return self._size(np.max)

    def absent(self) -> tuple[str, ...]:
        """Return the names of classes that no mask shows."""
        return tuple(name for name, pixels in zip(self.labels.names, self.class_pixels, strict=True) if pixels == 0)

    def _size(self, reduce: Callable[..., npt.NDArray[np.int64]]) -> tuple[int, int]:
        read = self.sizes[self.sizes[:, 0] > 0]
        if not len(read):
            return 0, 0
        height, width = reduce(read, axis=0)
        return int(height), int(width)
