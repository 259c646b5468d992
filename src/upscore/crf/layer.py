"""A dense CRF as the last layer of a network, trained with it.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr (2015), "Conditional Random Fields
as Recurrent Neural Networks", figure 1 and algorithm 1::

    logits Z ─┬──────────────────────────────────────────────────────┐
              ▼                                                      ▼
           softmax ──► Q ──► filters k_m ──► Σ_m w_m ──► μ ──► scores = Z - costs ──► scores
                       ▲      (constant)    (M, K) learned   (K, K) learned │
                       └───────────────────── softmax ◄─────────────────────┘    T times

The mean field's step is differentiable, and its T copies share their weights. The filters are
made of the pictures without gradient; what goes back through one goes through its transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.crf.dense import OVERSHOOT, bounded_memory, check_labels, check_size, check_steps, checked_costs
from upscore.crf.engines.permutohedral import TensorLattice
from upscore.crf.engines.tensors import FilterOf, NormalizedFilter, full_precision
from upscore.crf.engines.tiles import TiledFilter
from upscore.crf.kernels import NORMALIZATIONS, Bilateral, Gaussian, Kernel
from upscore.errors import CRFError

__all__ = ["CRFLayer"]

_FILTERS: dict[str, FilterOf] = {"torch": TensorLattice, "exact": TiledFilter}


class CRFLayer(nn.Module):
    """Refine a network's logits by what its pictures show, with weights that learn.

    ::

        layer = CRFLayer(21)
        loss = F.cross_entropy(layer(network(images), images), labels)

    Before it has learnt it is :class:`upscore.crf.DenseCRF` with the same kernels.

    Parameters
    ----------
    classes : int
        K.
    kernels : sequence of Kernel, optional
        What pixels compare; :class:`~upscore.crf.Gaussian` and :class:`~upscore.crf.Bilateral`
        when not given. Their compatibilities, numbers or (K,), are where the weights start.
    iterations : int
        Steps of mean field; may be set later. Zheng and others train with 5 and use 10.
    self_message : bool
        Keep each pixel's message to itself; see :class:`~upscore.crf.DenseCRF`.
    engine : {"torch", "exact"}
        Filters by the permutohedral lattice, or over all pairs.

    Attributes
    ----------
    weights : (M, K) parameter
        Of each kernel, for each label that sends.
    compatibility : (K, K) parameter
        What a label (column) pays where others (rows) are believed; starts as Potts', ones beside
        a diagonal of zeros, and need not stay symmetric.

    Raises
    ------
    CRFError
        A setting is impossible, or a kernel's compatibility is a matrix: all kernels share one here.
    """

    def __init__(
        self,
        classes: int,
        kernels: Sequence[Kernel] | None = None,
        *,
        iterations: int = 5,
        self_message: bool = True,
        engine: Literal["torch", "exact"] = "torch",
    ) -> None:
        super().__init__()
        check_labels(classes)
        check_steps(iterations)
        if engine not in _FILTERS:
            raise CRFError(f"found engine '{engine}', expected {', '.join(_FILTERS)}")
        self.kernels: tuple[Kernel, ...] = (Gaussian(), Bilateral()) if kernels is None else tuple(kernels)
        self.classes, self.iterations, self.self_message, self.engine = classes, iterations, self_message, engine
        starts = torch.empty(len(self.kernels), classes)
        for start, kernel in zip(starts, self.kernels, strict=True):
            if kernel.normalization not in NORMALIZATIONS:
                raise CRFError(f"found normalization '{kernel.normalization}', expected {', '.join(NORMALIZATIONS)}")
            start.copy_(_weights_of(kernel, classes))
        self.weights = nn.Parameter(starts)
        self.compatibility = nn.Parameter(1 - torch.eye(classes))

    def forward(self, logits: Tensor, pictures: Tensor) -> Tensor:
        """Return what the network and the pictures say together.

        Parameters
        ----------
        logits : (N, K, H, W) floating
            Of any type; computed in float32, float64 if they are that, under autocast too.
        pictures : (N, C, H, W) uint8, or floating in [0, 1]
            The colours that ``logits`` are of, before any normalisation. They get no gradient.

        Returns
        -------
        (N, K, H, W) float32 or float64
            The scores before the last softmax: their softmax is Q, so that cross-entropy and
            argmax take them as they take any logits. Without iterations, the logits.

        Raises
        ------
        CRFError
            Shapes or devices do not fit, or values are not numbers or out of range.

        Notes
        -----
        Pictures go one by one, and by way of the processor, where kernels take their features.
        """
        self._check(logits, pictures)
        check_steps(self.iterations)
        precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
        with full_precision(), bounded_memory(logits.shape[2] * logits.shape[3]):
            weights, compatibility = self.weights.to(precision), self.compatibility.to(precision)
            still: dict[int, NormalizedFilter] = {}  # filters that are of no picture, the same for all
            refined = []
            for scores, picture in zip(logits.to(precision), pictures, strict=True):
                sending = self._filters(picture, scores, still)
                alone = scores.flatten(1).T.contiguous()
                refined.append(self._mean_field(alone, sending, weights, compatibility).T.reshape(scores.shape))
            return torch.stack(refined) if refined else logits.to(precision)

    def _mean_field(self, alone: Tensor, sending: list[NormalizedFilter], weights: Tensor, compatibility: Tensor) -> Tensor:
        scores = alone
        for _ in range(self.iterations):
            belief = scores.softmax(1)
            received = torch.zeros_like(alone)
            for send, weight in zip(sending, weights, strict=True):
                received = received + send(belief, with_self=self.self_message) * weight
            scores = alone - received @ compatibility
        return scores

    @torch.no_grad()
    def _filters(self, picture: Tensor, scores: Tensor, still: dict[int, NormalizedFilter]) -> list[NormalizedFilter]:
        colours, shape = _colours(picture), tuple(picture.shape[1:])
        filters = []
        for m, kernel in enumerate(self.kernels):
            found = still.get(m)
            if found is None:
                features = torch.from_numpy(np.asarray(kernel.features(shape, colours), np.float64)).to(scores.device)
                ones = scores.new_ones((len(features), 1))
                found = NormalizedFilter.of(_FILTERS[self.engine](features, scores.dtype), ones, kernel.normalization)
                if type(kernel) is Gaussian:
                    still[m] = found
            filters.append(found)
        return filters

    def _check(self, logits: Tensor, pictures: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.classes or not logits.is_floating_point():
            raise CRFError(
                f"found logits of shape {tuple(logits.shape)} and type {logits.dtype}, expected floats (N, {self.classes}, H, W)"
            )
        if pictures.ndim != 4 or len(pictures) != len(logits) or pictures.shape[2:] != logits.shape[2:]:
            raise CRFError(
                f"found pictures of shape {tuple(pictures.shape)} and logits of {tuple(logits.shape)}, expected (N, C, H, W) on one grid"
            )
        if 0 in logits.shape[2:]:
            raise CRFError(f"found logits of shape {tuple(logits.shape)}: nothing to refine")
        check_size(logits.shape[2] * logits.shape[3])
        places = {str(tensor.device) for tensor in (logits, pictures, self.weights, self.compatibility)}
        if len(places) > 1:
            raise CRFError(f"found logits, pictures and layer on {', '.join(sorted(places))}, expected one device: move them with .to()")
        if not bool(torch.isfinite(logits).all()):
            raise CRFError("found logits that are not numbers: the network diverged, or divided by zero")
        if pictures.dtype == torch.uint8 or not pictures.numel():
            return
        if not pictures.is_floating_point():
            raise CRFError(f"found pictures of type {pictures.dtype}, expected uint8, or floats in [0, 1]")
        low, high = (float(end) for end in pictures.detach().aminmax())
        if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
            raise CRFError(
                f"found pictures of type {pictures.dtype} from {low:g} to {high:g}, expected uint8, or floats in [0, 1]: "
                "give them as they are before normalisation"
            )

    def extra_repr(self) -> str:
        """Return the settings for the printed module."""
        kernels = ", ".join(type(kernel).__name__ for kernel in self.kernels)
        return f"{self.classes}, ({kernels}), iterations={self.iterations}, self_message={self.self_message}, engine='{self.engine}'"


def _weights_of(kernel: Kernel, classes: int) -> Tensor:
    weights = checked_costs(kernel.compatibility)
    if weights.ndim == 1 and len(weights) == 1:
        weights = weights.reshape(())
    if weights.shape not in ((), (classes,)):
        raise CRFError(
            f"found a compatibility of shape {weights.shape} for a layer of {classes} classes, expected a number or ({classes},): "
            "set the layer's own compatibility, which its kernels share"
        )
    return torch.from_numpy(weights.astype(np.float32))


def _colours(picture: Tensor) -> npt.NDArray[np.float32 | np.uint8]:
    """Return a picture (C, H, W) as kernels know it, (H, W, C) from 0 to 255; a byte that was divided by 255 is itself again."""
    if picture.dtype != torch.uint8:
        picture = picture.detach().float() * 255
    return np.asarray(picture.permute(1, 2, 0).cpu())
