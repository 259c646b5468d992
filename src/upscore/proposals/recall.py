"""Recall of proposals: the fraction of objects that the best boxes of each image find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from upscore.proposals.boxes import Boxes, pairwise_iou

__all__ = ["best_ious", "proposal_recall"]


def best_ious(objects: Boxes, proposals: Boxes, counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the highest IoU of each object with the best boxes, (N, C) float64 in [0, 1].

    Of object n with the ``counts[c]`` boxes of highest objectness; 0 where there are none.
    """
    ranked = proposals.best(max(counts, default=0))
    running = np.zeros((len(objects), len(ranked) + 1))
    np.maximum.accumulate(pairwise_iou(objects, ranked), axis=1, out=running[:, 1:])
    return running[:, np.minimum(counts, len(ranked))]


def proposal_recall(
    images: Iterable[tuple[Boxes, Boxes]], counts: Sequence[int], *, min_ious: Sequence[float] = (0.5, 0.7)
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the fraction of objects that are found, (C, T) float64 in [0, 1], by the number of boxes for each image, and their number.

    Parameters
    ----------
    images : iterable of (Boxes, Boxes)
        The objects of each image and its proposals. Without any object the recall is nan.
    counts : sequence of int
        Numbers of boxes, C of them.
    min_ious : sequence of float
        Intersection over union from which an object counts as found, T of them.

    Examples
    --------
    >>> objects, proposals = Boxes([[0, 0, 4, 4]]), Boxes([[8, 8, 9, 9], [0, 0, 4, 3]], [0.9, 0.5])
    >>> proposal_recall([(objects, proposals)], [1, 2])[0].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    ious = np.concatenate([np.empty((0, len(counts))), *(best_ious(objects, proposals, counts) for objects, proposals in images)])
    recall = [[np.mean(ious[:, c] >= min_iou) if len(ious) else np.nan for min_iou in min_ious] for c in range(len(counts))]
    return np.array(recall).reshape(len(counts), len(min_ious)), len(ious)
