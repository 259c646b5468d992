"""Agreement of label maps: of all pixels (``confusion``), near borders of classes (``borders``, ``boundary_f1``), of
instances (``rand``, ``warping``).

Counts are exact integers that add, so neither the order of images nor their division among
processes can change a metric.
"""

from upscore.metrics.borders import BorderCounts, BorderMetrics
from upscore.metrics.boundary_f1 import BoundaryF1, BoundaryF1Counts
from upscore.metrics.confusion import ABSENT_POLICIES, ConfusionMatrix, SegmentationMetrics
from upscore.metrics.rand import connected_components, rand_error
from upscore.metrics.warping import pixel_error, warp, warping_error

__all__ = [
    "ABSENT_POLICIES",
    "BorderCounts",
    "BorderMetrics",
    "BoundaryF1",
    "BoundaryF1Counts",
    "ConfusionMatrix",
    "SegmentationMetrics",
    "connected_components",
    "pixel_error",
    "rand_error",
    "warp",
    "warping_error",
]
