"""Class weights for a loss: given, or computed from class frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.errors import DataError, RecipeError
from upscore.text import literal

__all__ = ["CLASS_WEIGHTINGS", "class_weights"]

CLASS_WEIGHTINGS = {
    "none": "1 for every class",
    "median": "median frequency balancing (Eigen and Fergus 2015), as SegNet trains",
    "enet": "1 / ln(1.02 + class frequency) (Paszke and others 2016), between 1.4 and 50.5",
    "inverse": "inverse class frequency, scaled to leave the mean loss unchanged",
}
"""Weightings by class frequency: name and one line for help."""


def class_weights(
    pixels: Tensor | npt.NDArray[np.int64],
    pixels_where_present: Tensor | npt.NDArray[np.int64],
    *,
    weighting: str | Sequence[float] = "median",
) -> Tensor:
    """Return one loss weight for each class.

    Parameters
    ----------
    pixels : (K,) int64
        Pixels of each class over the training set, ignored ones left out.
    pixels_where_present : (K,) int64
        Valid pixels, of any class, of those images that contain the class.
    weighting : {"none", "median", "enet", "inverse"} or (K,) sequence of float
        - ``none``: 1 for every class.
        - ``median``: ``median(freq) / freq`` with ``freq = pixels / pixels_where_present``, the
          median over the classes that occur: Eigen and Fergus (2015), as SegNet trains.
        - ``enet``: ``1 / ln(1.02 + p)`` with ``p`` the class's fraction of all pixels: Paszke and
          others (2016), between 1.4 and 50.5.
        - ``inverse``: ``1 / p``, scaled so that the weighted loss has the mean of the unweighted one.
        - numbers: the weights themselves, finite, at least 0 and not all 0.

    Returns
    -------
    Tensor
        (K,) float32. The computed weight of a class without pixels is 1, which is finite and used
        by no pixel.

    Raises
    ------
    RecipeError
        The weighting is unknown, or there is not one valid number for each class.
    DataError
        The counts do not fit together, or are no whole numbers.

    Examples
    --------
    >>> pixels, present = torch.tensor([90, 10]), torch.tensor([100, 100])
    >>> class_weights(pixels, present, weighting="inverse")
    tensor([0.5556, 5.0000])
    >>> class_weights(pixels, present, weighting=[1, 4])
    tensor([1., 4.])
    """
    if isinstance(weighting, str) and weighting not in CLASS_WEIGHTINGS:
        raise RecipeError(
            f"found class weighting '{weighting}', expected one of {', '.join(CLASS_WEIGHTINGS)}, or one number for each class"
        )
    pixels, pixels_where_present = _counts(pixels), _counts(pixels_where_present)
    if pixels.ndim != 1 or pixels.shape != pixels_where_present.shape:
        raise DataError(f"found class counts of shapes {tuple(pixels.shape)} and {tuple(pixels_where_present.shape)}, expected both (K,)")
    if bool((pixels < 0).any()) or bool((pixels > pixels_where_present).any()):
        raise DataError("found a class with more pixels than the images that contain it: count both over the same images")
    if not isinstance(weighting, str):
        return _given_weights(weighting, len(pixels))
    weights = torch.ones(len(pixels), dtype=torch.float64)
    occurs = pixels > 0
    if weighting == "none" or not bool(occurs.any()):
        return weights.float()
    fraction = pixels[occurs].double() / pixels.sum()
    if weighting == "median":
        frequency = pixels[occurs].double() / pixels_where_present[occurs]
        weights[occurs] = frequency.quantile(0.5) / frequency
    elif weighting == "enet":
        weights[occurs] = 1 / torch.log(1.02 + fraction)
    else:
        weights[occurs] = 1 / (fraction * len(fraction))
    return weights.float()


def _given_weights(numbers: Sequence[float], classes: int) -> Tensor:
    weights = torch.as_tensor(numbers, dtype=torch.float32)
    if weights.shape != (classes,):
        raise RecipeError(f"found {len(numbers)} class weights for {classes} classes, expected one for each")
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool(weights.any()):
        raise RecipeError(f"found class weights {literal(list(numbers))}, expected finite numbers of at least 0, not all 0")
    return weights


def _counts(given: Tensor | npt.NDArray[np.int64]) -> Tensor:
    counts = torch.as_tensor(given)
    if counts.is_complex() or counts.dtype == torch.bool or not bool(counts.isfinite().all()):
        raise DataError(f"found class counts of type {counts.dtype} that are not numbers of pixels, expected whole numbers")
    return counts if counts.is_floating_point() else counts.long()
