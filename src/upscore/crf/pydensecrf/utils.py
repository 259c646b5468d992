"""pydensecrf.utils: energies and features, in arrays (labels, pixels) and (D, pixels)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from upscore.crf.kernels import as_numbers
from upscore.crf.limits import check_labels, check_size
from upscore.crf.unary import SUM_TOLERANCE, energy_from_labels
from upscore.errors import CRFError

__all__ = [
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]

Matrix = npt.NDArray[np.float32]


def unary_from_softmax(sm: npt.ArrayLike, scale: float | None = None, clip: float | None = 1e-5) -> Matrix:
    """Return the energies of probabilities, (labels, pixels) float32.

    Parameters
    ----------
    sm : (labels, …) floating
        Probabilities.
    scale : float in (0, 1], optional
        Confidence in them: they are mixed with equal probabilities of weight 1 - scale.
    clip : float, optional
        Minimum probability.

    Raises
    ------
    CRFError
        They are not probabilities, or ``scale`` or ``clip`` is out of range.

    Examples
    --------
    >>> unary_from_softmax([[0.75], [0.25]]).astype(float).round(3).tolist()
    [[0.288], [1.386]]
    """
    probs = as_numbers(sm, "probabilities")
    if not probs.size:
        raise CRFError(f"found probabilities of shape {probs.shape}, expected (labels, …) of at least one pixel")
    if probs.ndim < 1 or not np.isfinite(probs).all() or probs.min(initial=0) < 0 or probs.max(initial=0) > 1 + 1e-3:
        raise CRFError("found values that are not probabilities (0 to 1): take the softmax of logits over the first axis before")
    sums = probs.sum(0)
    if sums.size and not (abs(sums.min() - 1) <= SUM_TOLERANCE and abs(sums.max() - 1) <= SUM_TOLERANCE):
        raise CRFError(
            f"found values of shape {probs.shape} whose sums over the first axis go from {sums.min():g} to {sums.max():g}, "
            "expected probabilities, which sum to 1 over the labels: labels come first; of one object stack 1 - p and p"
        )
    if scale is not None:
        if not 0 < scale <= 1:
            raise CRFError(f"found scale {scale:g}, expected above 0 and at most 1")
        probs = scale * probs + (1 - scale) / len(probs)
    if clip is None and probs.size and probs.min() <= 0:
        raise CRFError("found a probability of 0, whose energy is infinite: clip it (clip=1e-5)")
    if clip is not None:
        if not 0 < clip < 1:
            raise CRFError(f"found clip {clip:g}, expected above 0 and below 1")
        probs = np.clip(probs, clip, 1)
    return -np.log(probs).reshape(len(probs), -1).astype(np.float32)


def unary_from_labels(labels: npt.ArrayLike, n_labels: int, gt_prob: float, zero_unsure: bool = True) -> Matrix:
    """Return the energies of a label map, (n_labels, pixels) float32, each label of which is right with probability ``gt_prob``.

    Parameters
    ----------
    labels : integer array
        With ``zero_unsure`` 0 is unknown and labels are 1 to ``n_labels``; without, 0 to ``n_labels - 1``.
    n_labels : int
        Number of labels; an unknown 0 does not count.
    gt_prob : float in (0, 1)
        Probability of the given label; the others have the rest in equal parts.
    zero_unsure : bool
        Whether 0 is unknown.

    Raises
    ------
    CRFError
        A label or the probability is out of range.

    Examples
    --------
    >>> np.exp(-unary_from_labels([[0, 2]], 2, gt_prob=0.75)).T.astype(float).round(2).tolist()
    [[0.5, 0.5], [0.25, 0.75]]
    """
    flat = np.asarray(labels).ravel()
    if flat.dtype.kind not in "iu":
        raise CRFError(f"found labels of type {flat.dtype}, expected whole numbers")
    check_labels(n_labels)
    if not 0 < gt_prob < 1:
        raise CRFError(f"found gt_prob {gt_prob:g}, expected above 0 and below 1")
    first = 1 if zero_unsure else 0
    last = n_labels - 1 + first
    if flat.size and not (flat.min() >= 0 and flat.max() <= last):
        hint = ": 0 is unknown and is not counted in n_labels; if it is a label, pass zero_unsure=False" if zero_unsure else ""
        raise CRFError(f"found labels from {flat.min()} to {flat.max()}, expected 0 to {last}{hint}")
    energy = energy_from_labels(flat.astype(np.int64) - first, int(n_labels), confidence=gt_prob, unknown=-1)
    return np.ascontiguousarray(energy.T)


def create_pairwise_gaussian(sdims: Sequence[float], shape: Sequence[int]) -> Matrix:
    """Return the positions of an image or volume of ``shape`` divided by ``sdims``, a sigma for each axis: (axes, pixels) float32.

    >>> create_pairwise_gaussian((2, 2), (1, 3)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.5, 1.0]]
    """
    if len(sdims) != len(shape):
        raise CRFError(f"found {len(sdims)} sigmas for {len(shape)} axes, expected one for each")
    check_size(math.prod(shape))
    return _positions(sdims, shape).reshape(len(shape), -1)


def create_pairwise_bilateral(sdims: Sequence[float], schan: float | Sequence[float], img: npt.ArrayLike, chdim: int = -1) -> Matrix:
    """Return positions and colours divided by their sigmas: (axes + channels, pixels) float32.

    Parameters
    ----------
    sdims : sequence of float
        A sigma for each axis except the channels, rows first.
    schan : float or sequence of float
        A sigma for all channels, or for each.
    img : array
        The image or volume, of any type.
    chdim : int
        Axis of the channels; -1 if there is none.

    Examples
    --------
    >>> create_pairwise_bilateral((2, 2), 13, np.zeros((4, 5, 3), np.uint8), chdim=2).shape
    (5, 20)
    """
    image = np.asarray(img)
    if not image.size:
        raise CRFError(f"found an image of shape {image.shape}, expected at least one pixel")
    if image.dtype.kind not in "biuf":
        raise CRFError(f"found an image of type {image.dtype}, expected numbers")
    if image.ndim < 1 or not -image.ndim <= chdim < image.ndim:
        raise CRFError(f"found chdim {chdim} for an image of shape {image.shape}, expected one of its axes")
    values = image[None] if chdim == -1 else np.moveaxis(image, chdim, 0)
    if len(sdims) != values.ndim - 1:
        hint = ": chdim=-1 means that the image has no axis of channels; pass chdim=2 for (H, W, 3)" if chdim == -1 else ""
        raise CRFError(f"found {len(sdims)} sigmas for an image of shape {image.shape}, expected {values.ndim - 1}{hint}")
    given = as_numbers(schan, "schan").astype(np.float32).reshape(-1)
    sigmas = np.broadcast_to(given, (len(values),)) if given.size in (1, len(values)) else None
    if sigmas is None:
        raise CRFError(f"found {np.size(schan)} sigmas for {len(values)} channels, expected 1 or {len(values)}")
    check_size(math.prod(values.shape[1:]))
    _check_sigmas(sigmas)
    colours = values.astype(np.float32) / sigmas.reshape(-1, *[1] * (values.ndim - 1))
    features = np.concatenate([_positions(sdims, values.shape[1:]), colours])
    return features.reshape(len(features), -1)


def compute_unary(labels: npt.ArrayLike, M: int, GT_PROB: float = 0.5) -> Matrix:
    """Call :func:`unary_from_labels` by its older name."""
    warnings.warn("compute_unary is deprecated: use unary_from_labels", DeprecationWarning, stacklevel=2)
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: npt.ArrayLike, GT_PROB: float = 1) -> Matrix:
    """Call :func:`unary_from_softmax` by its older name."""
    warnings.warn("softmax_to_unary is deprecated: use unary_from_softmax", DeprecationWarning, stacklevel=2)
    return unary_from_softmax(sm, scale=None if GT_PROB == 1 else GT_PROB, clip=None)


def _positions(sigmas: Sequence[float], shape: Sequence[int]) -> npt.NDArray[Any]:
    _check_sigmas(as_numbers(sigmas, "sdims"))
    positions = np.indices(tuple(shape), np.float32)
    for axis, sigma in zip(positions, sigmas, strict=True):
        axis /= sigma
    return positions


def _check_sigmas(sigmas: npt.NDArray[Any]) -> None:
    if not ((sigmas > 0) & np.isfinite(sigmas)).all():
        raise CRFError(f"found sigmas {sigmas.tolist()}, expected finite numbers above 0")
