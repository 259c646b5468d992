"""A dense CRF as the last layer of a network, trained with it.

Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr (2015), "Conditional Random Fields
as Recurrent Neural Networks", figure 1 and algorithm 1::

    logits Z ─┬──────────────────────────────────────────────────────┐
              ▼                                                      ▼
           softmax ──► Q ──► filters k_m ──► Σ_m w_m ──► μ ──► refined = Z - E ──► refined logits
                       ▲      (constant)    (M, K) learned   (K, K) learned │
                       └───────────────────── softmax ◄─────────────────────┘    T times

A mean-field step is differentiable, and all T steps share their weights. The filters are built
from the images without gradient; the gradient of a filter is its transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.crf.dense import RANGE_TOLERANCE
from upscore.crf.engines.torch_exact import TorchExactFilter
from upscore.crf.engines.torch_lattice import TorchLattice
from upscore.crf.engines.torch_meanfield import FilterFactory, NormalizedFilter, full_precision
from upscore.crf.kernels import NORMALIZATIONS, Bilateral, Gaussian, Kernel
from upscore.crf.limits import bounded_memory, check_labels, check_size, check_steps
from upscore.crf.pairwise import check_compatibility
from upscore.errors import CRFError

__all__ = ["CRFLayer"]

_FILTERS: dict[str, FilterFactory] = {"torch_lattice": TorchLattice, "torch_exact": TorchExactFilter}


class CRFLayer(nn.Module):
    """Refine a network's logits by the colours of its images, with trainable weights.

    ::

        layer = CRFLayer(21)
        loss = F.cross_entropy(layer(network(images), images), labels)

    Untrained, it equals :class:`upscore.crf.DenseCRF` with the same kernels.

    Parameters
    ----------
    classes : int
        K.
    kernels : sequence of Kernel, optional
        What pixels are compared by; :class:`~upscore.crf.Gaussian` and
        :class:`~upscore.crf.Bilateral` by default. Their compatibilities, numbers or (K,), are the
        initial weights.
    iterations : int
        Mean-field steps, 0 to 1000; may be changed later. Zheng and others train with 5 and infer with 10.
    self_message : bool
        Whether to include each pixel's message to itself; see :class:`~upscore.crf.DenseCRF`.
    engine : {"torch_lattice", "torch_exact"}
        Filter by the permutohedral lattice, or over all pairs.

    Attributes
    ----------
    weights : (M, K) parameter
        Of each kernel (row), for each label whose messages it filters (column).
    compatibility : (K, K) parameter
        Cost of a label (column) for the marginals of the others (rows). Initially the Potts model, a
        diagonal of zeros and ones elsewhere; it need not stay symmetric.

    Raises
    ------
    CRFError
        A setting is invalid, or a kernel's compatibility is a matrix: all kernels share the layer's.

    Examples
    --------
    >>> layer = CRFLayer(3, iterations=2)
    >>> layer(torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 5)).shape
    torch.Size([1, 3, 4, 5])
    """

    def __init__(
        self,
        classes: int,
        kernels: Sequence[Kernel] | None = None,
        *,
        iterations: int = 5,
        self_message: bool = True,
        engine: Literal["torch_lattice", "torch_exact"] = "torch_lattice",
    ) -> None:
        super().__init__()
        check_labels(classes)
        check_steps(iterations)
        if engine not in _FILTERS:
            raise CRFError(f"found engine '{engine}', expected {', '.join(_FILTERS)}")
        self.kernels: tuple[Kernel, ...] = (Gaussian(), Bilateral()) if kernels is None else tuple(kernels)
        self.classes, self.iterations, self.self_message, self.engine = classes, iterations, self_message, engine
        weights = torch.empty(len(self.kernels), classes)
        for row, kernel in zip(weights, self.kernels, strict=True):
            if kernel.normalization not in NORMALIZATIONS:
                raise CRFError(f"found normalization '{kernel.normalization}', expected {', '.join(NORMALIZATIONS)}")
            row.copy_(_initial_weights(kernel, classes))
        self.weights = nn.Parameter(weights)
        self.compatibility = nn.Parameter(1 - torch.eye(classes))

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return refined logits. Images are refined one by one; their features are computed on the CPU.

        Parameters
        ----------
        logits : (N, K, H, W) floating
            Computed in float32, or in float64 if they are float64, under autocast too.
        images : (N, C, H, W) uint8, or floating in [0, 1]
            Before normalisation, on the grid of ``logits``. They get no gradient.

        Returns
        -------
        (N, K, H, W) float32 or float64
            Logits whose softmax is Q, for cross-entropy and argmax as any logits. With 0
            iterations, the logits given.

        Raises
        ------
        CRFError
            Shapes or devices do not fit, or values are not numbers or out of range.
        """
        self._check(logits, images)
        check_steps(self.iterations)
        precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
        with full_precision(), bounded_memory(logits.shape[2] * logits.shape[3]):
            weights, compatibility = self.weights.to(precision), self.compatibility.to(precision)
            shared: dict[int, NormalizedFilter] = {}  # filters that do not depend on the image
            refined = []
            for unary, image in zip(logits.to(precision), images, strict=True):
                filters = self._filters(image, unary, shared)
                pixels = unary.flatten(1).T.contiguous()
                refined.append(self._mean_field(pixels, filters, weights, compatibility).T.reshape(unary.shape))
            return torch.stack(refined) if refined else logits.to(precision)

    def _mean_field(self, unary: Tensor, filters: list[NormalizedFilter], weights: Tensor, compatibility: Tensor) -> Tensor:
        logits = unary
        for _ in range(self.iterations):
            marginals = logits.softmax(1)
            messages = torch.zeros_like(unary)
            for kernel, weight in zip(filters, weights, strict=True):
                messages = messages + kernel(marginals, self_message=self.self_message) * weight
            logits = unary - messages @ compatibility
        return logits

    @torch.no_grad()
    def _filters(self, image: Tensor, logits: Tensor, shared: dict[int, NormalizedFilter]) -> list[NormalizedFilter]:
        pixels, shape = _to_kernel_image(image), tuple(image.shape[1:])
        filters = []
        for m, kernel in enumerate(self.kernels):
            found = shared.get(m)
            if found is None:
                features = torch.from_numpy(np.asarray(kernel.features(shape, pixels), np.float64)).to(logits.device)
                ones = logits.new_ones((len(features), 1))
                found = NormalizedFilter.of(_FILTERS[self.engine](features, logits.dtype), ones, kernel.normalization)
                if type(kernel) is Gaussian:
                    shared[m] = found
            filters.append(found)
        return filters

    def _check(self, logits: Tensor, images: Tensor) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.classes or not logits.is_floating_point():
            raise CRFError(
                f"found logits of shape {tuple(logits.shape)} and type {logits.dtype}, expected floats (N, {self.classes}, H, W)"
            )
        if images.ndim != 4 or len(images) != len(logits) or images.shape[2:] != logits.shape[2:]:
            raise CRFError(
                f"found images of shape {tuple(images.shape)} and logits of {tuple(logits.shape)}, expected (N, C, H, W) on one grid"
            )
        if 0 in logits.shape[2:]:
            raise CRFError(f"found logits of shape {tuple(logits.shape)}: nothing to refine")
        check_size(logits.shape[2] * logits.shape[3])
        devices = {str(tensor.device) for tensor in (logits, images, self.weights, self.compatibility)}
        if len(devices) > 1:
            raise CRFError(f"found logits, images and layer on {', '.join(sorted(devices))}, expected one device: move them with .to()")
        if not bool(torch.isfinite(logits).all()):
            raise CRFError("found logits that are not numbers: the network diverged, or divided by zero")
        if images.dtype == torch.uint8 or not images.numel():
            return
        if not images.is_floating_point():
            raise CRFError(f"found images of type {images.dtype}, expected uint8, or floats in [0, 1]")
        low, high = (float(end) for end in images.detach().aminmax())
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise CRFError(
                f"found images of type {images.dtype} from {low:g} to {high:g}, expected uint8, or floats in [0, 1]: "
                "give them before normalisation"
            )

    def extra_repr(self) -> str:
        """Return the settings for the printed module."""
        kernels = ", ".join(type(kernel).__name__ for kernel in self.kernels)
        return f"{self.classes}, ({kernels}), iterations={self.iterations}, self_message={self.self_message}, engine='{self.engine}'"


def _initial_weights(kernel: Kernel, classes: int) -> Tensor:
    weights = check_compatibility(kernel.compatibility)
    if weights.ndim == 1 and len(weights) == 1:
        weights = weights.reshape(())
    if weights.shape not in ((), (classes,)):
        raise CRFError(
            f"found a compatibility of shape {weights.shape} for a layer of {classes} classes, expected a number or ({classes},): "
            "set the layer's own compatibility, which its kernels share"
        )
    return torch.from_numpy(weights.astype(np.float32))


def _to_kernel_image(image: Tensor) -> npt.NDArray[np.float32 | np.uint8]:
    """Return an image (C, H, W) as kernels take it, (H, W, C) from 0 to 255; bytes divided by 255 become the same bytes again."""
    if image.dtype != torch.uint8:
        image = image.detach().float() * 255
    return np.asarray(image.permute(1, 2, 0).cpu())
