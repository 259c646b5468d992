"""How much a class counts, from how often it occurs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.errors import DataError, RecipeError

__all__ = ["CLASS_WEIGHTINGS", "class_weights"]

CLASS_WEIGHTINGS = ("none", "median", "enet", "inverse")
"""The methods :func:`class_weights` knows."""


def class_weights(
    pixels: Tensor | npt.NDArray[np.int64], pixels_where_present: Tensor | npt.NDArray[np.int64], *, method: str = "median"
) -> Tensor:
    """Return one loss weight for each class from how often it occurs in the training set.

    Parameters
    ----------
    pixels : (K,) int64
        Pixels of each class over the training set, ignored ones left out.
    pixels_where_present : (K,) int64
        Valid pixels, of any class, of those images that contain the class.
    method : {"none", "median", "enet", "inverse"}
        - ``none``: 1 for every class.
        - ``median``: ``median(freq) / freq`` with ``freq = pixels / pixels_where_present``, the
          median over the classes that occur: Eigen and Fergus (2015), as SegNet trains.
        - ``enet``: ``1 / ln(1.02 + p)`` with ``p`` the class's share of all pixels: Paszke and
          others (2016), between 1.4 and 50.5.
        - ``inverse``: ``1 / p``, scaled so that the weighted loss has the mean of the unweighted one.

    Returns
    -------
    Tensor
        (K,) float32. A class that never occurs weighs 1: no pixel will use it, and it must
        stay finite. All weigh 1 when nothing occurs.

    Raises
    ------
    RecipeError
        The method is unknown.
    DataError
        The counts do not belong together, or are no whole numbers.
    """
    if method not in CLASS_WEIGHTINGS:
        raise RecipeError(f"found class weighting '{method}', expected one of {', '.join(CLASS_WEIGHTINGS)}")
    pixels, pixels_where_present = _counts(pixels), _counts(pixels_where_present)
    if pixels.ndim != 1 or pixels.shape != pixels_where_present.shape:
        raise DataError(f"found class counts of shapes {tuple(pixels.shape)} and {tuple(pixels_where_present.shape)}, expected both (K,)")
    if bool((pixels < 0).any()) or bool((pixels > pixels_where_present).any()):
        raise DataError("found a class with more pixels than the images that contain it: count both over the same images")
    weights = torch.ones(len(pixels), dtype=torch.float64)
    occurs = pixels > 0
    if method == "none" or not bool(occurs.any()):
        return weights.float()
    share = pixels[occurs].double() / pixels.sum()
    if method == "median":
        frequency = pixels[occurs].double() / pixels_where_present[occurs]
        weights[occurs] = frequency.quantile(0.5) / frequency
    elif method == "enet":
        weights[occurs] = 1 / torch.log(1.02 + share)
    else:
        weights[occurs] = 1 / (share * len(share))
    return weights.float()


def _counts(given: Tensor | npt.NDArray[np.int64]) -> Tensor:
    counts = torch.as_tensor(given)
    if counts.is_complex() or counts.dtype == torch.bool or not bool(counts.isfinite().all()):
        raise DataError(f"found class counts of type {counts.dtype} that are no numbers of pixels, expected whole numbers")
    return counts if counts.is_floating_point() else counts.long()
