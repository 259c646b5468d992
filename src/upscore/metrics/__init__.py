"""How well label maps agree: over all pixels (``confusion``), and near the borders of classes (``borders``).

Counts are exact integers that add, so neither the order of pictures nor their division among
processes can change a score.
"""

from upscore.metrics.borders import BorderCounts, BorderScores
from upscore.metrics.confusion import ABSENT_POLICIES, ConfusionMatrix, Scores

__all__ = ["ABSENT_POLICIES", "BorderCounts", "BorderScores", "ConfusionMatrix", "Scores"]
