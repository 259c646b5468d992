"""Agreement of label maps: of all pixels (``confusion``), near borders of classes (``borders``), of instances (``rand``).

Counts are exact integers that add, so neither the order of images nor their division among
processes can change a metric.
"""

from upscore.metrics.borders import BorderCounts, BorderMetrics
from upscore.metrics.confusion import ABSENT_POLICIES, ConfusionMatrix, SegmentationMetrics
from upscore.metrics.rand import connected_components, rand_error

__all__ = [
    "ABSENT_POLICIES",
    "BorderCounts",
    "BorderMetrics",
    "ConfusionMatrix",
    "SegmentationMetrics",
    "connected_components",
    "rand_error",
]
