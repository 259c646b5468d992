"""How well label maps agree: over all pixels (``confusion``), near the borders of classes (``borders``), cell by cell (``rand``).

Counts are exact integers that add, so neither the order of images nor their division among
processes can change a score.
"""

from upscore.metrics.borders import BorderCounts, BorderMetrics
from upscore.metrics.confusion import ABSENT_POLICIES, ConfusionMatrix, SegmentationMetrics
from upscore.metrics.rand import rand_error, segments

__all__ = ["ABSENT_POLICIES", "BorderCounts", "BorderMetrics", "ConfusionMatrix", "SegmentationMetrics", "rand_error", "segments"]
