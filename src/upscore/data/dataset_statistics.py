"""What a dataset's masks hold, counted: what class weights and the defaults of training are chosen from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from upscore.data.finding import Finding
from upscore.types import LabelSpace

__all__ = ["DatasetStatistics"]


@dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """The counts of a dataset's masks, and what was found wrong with them."""

    labels: LabelSpace
    images: int
    class_pixels: npt.NDArray[np.int64]  #: (K,) pixels of each class
    #: (K,) pixels that are not ignored in the images that show the class: the divisor of median frequency balancing
    pixels_with_class: npt.NDArray[np.int64]
    images_with_class: npt.NDArray[np.int64]  #: (K,) images that show the class
    ignored_pixels: int  #: pixels with label 255
    sizes: npt.NDArray[np.int64]  #: (images, 2) height and width of each image; 0 where it could not be read
    #: one line for each sample that cannot be used, by its key, in the dataset's order
    faults: Mapping[str, str] = field(default_factory=dict)
    #: digests by key (upscore.data.pixel_digests) of the images that were decoded, as where masks cannot be read alone
    digests: Mapping[str, bytes] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()  #: a fatal finding, or any number of others

    @property
    def fatal_finding(self) -> Finding | None:
        """The finding that prevents training on the masks, if there is one."""
        return next((finding for finding in self.findings if finding.fatal), None)

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the image with the most pixels; (0, 0) if nothing could be read."""
        height, width = max(self.sizes.tolist(), key=lambda size: size[0] * size[1], default=(0, 0))
        return height, width

    @property
    def median(self) -> tuple[int, int]:
        """Median height and median width, rounded down; (0, 0) if nothing could be read."""
        read = self.sizes[self.sizes[:, 0] > 0]
        height, width = np.median(read, axis=0) if len(read) else (0, 0)
        return int(height), int(width)
