"""Several networks that label an image together: the mean of their probabilities, or the product of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from upscore.errors import RecipeError
from upscore.inference.segmenter import Segmenter, SegmenterWrapper

__all__ = ["MeanEnsemble", "ProductEnsemble", "ensemble", "product"]


def ensemble(segmenters: Sequence[Segmenter], *, weights: Sequence[float] | None = None) -> MeanEnsemble:
    """Return a segmenter that averages the probabilities of several over the same classes.

    ``weights`` are the votes of each, positive, divided by their sum; equal when not given. RecipeError where there is no segmenter, or
    the weights do not fit them; when called, where the segmenters disagree about the number of classes.
    """
    votes = [1.0] * len(segmenters) if weights is None else [float(weight) for weight in weights]
    if not segmenters or len(votes) != len(segmenters) or not all(0 < vote < math.inf for vote in votes):
        raise RecipeError(f"found {len(segmenters)} segmenters and weights {votes}, expected at least one and a positive weight for each")
    return MeanEnsemble(segmenters, votes)


def product(segmenters: Sequence[Segmenter]) -> ProductEnsemble:
    """Return a segmenter whose scores are the product of the scores of several over the same classes, none below zero.

    DeconvNet's release combines DeconvNet and FCN-8s so; its paper averages probabilities
    (:func:`ensemble`). A class at which any of the scores is not above zero has the score 0. Errors are those of :func:`ensemble`.
    """
    if not segmenters:
        raise RecipeError("found no scores to multiply, expected those of at least one network")
    return ProductEnsemble(*segmenters)


class MeanEnsemble(SegmenterWrapper):
    """The weighted mean of probabilities; its scores are their logarithms."""

    def __init__(self, segmenters: Sequence[Segmenter], votes: Sequence[float]) -> None:
        super().__init__(*segmenters)
        self.fractions = [vote / sum(votes) for vote in votes]

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, 3, H, W) float32 in [0, 1]."""
        total = self.inner[0](images) * self.fractions[0]
        for segmenter, fraction in zip(self.inner[1:], self.fractions[1:], strict=True):
            total = total + _fitting(segmenter(images) * fraction, total)
        return total

    def scores(self, images: Tensor) -> Tensor:
        """Return the logarithms of the probabilities."""
        return self(images).log()


class ProductEnsemble(SegmenterWrapper):
    """The softmax of the product of scores."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, 3, H, W) float32 in [0, 1]."""
        return self.scores(images).softmax(1)

    def scores(self, images: Tensor) -> Tensor:
        """Return the product of the scores, none below zero."""
        total = self.inner[0].scores(images).clamp_min(0)
        for segmenter in self.inner[1:]:
            total = total * _fitting(segmenter.scores(images).clamp_min(0), total)
        return total


def _fitting(values: Tensor, total: Tensor) -> Tensor:
    """Return ``values`` on the device of ``total``, where both are of the same classes."""
    if total.shape != values.shape:
        raise RecipeError(f"an ensemble's networks give {total.shape[1]} and {values.shape[1]} classes: they must be of the same labels")
    return values.to(total.device)
