"""Mean field on tensors, on a CPU or a GPU: :mod:`upscore.crf.engines.numpy_meanfield` in PyTorch.

::

    features ── filter_factory ──► TorchFilter ── apply_filter ──► messages     constant: features get no gradient
                                       ▲                             │
                                 its transpose ◄──── gradient ───────┘          values do

The gradient of a filter is its transpose, so that nothing but the filter itself is saved for
the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.crf.engines.torch_lattice import TorchLattice
from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary
from upscore.errors import CRFError

__all__ = [
    "FilterFactory",
    "NormalizedFilter",
    "TorchEngine",
    "TorchFilter",
    "TorchMeanField",
    "TorchPairwise",
    "apply_filter",
    "full_precision",
    "require_device",
]


class TorchFilter(Protocol):
    """Multiplies values by a kernel matrix, diagonal included."""

    def multiply(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the kernel, or its transpose, times ``values`` (N, C), of the same shape, type and device."""


FilterFactory: TypeAlias = Callable[[Tensor, torch.dtype], TorchFilter]
"""features (N, d) float64, dtype of the values -> TorchFilter."""


def apply_filter(kernel: TorchFilter, values: Tensor) -> Tensor:
    """Return ``kernel`` times ``values`` (N, C) floating, differentiable in the values any number of times.

    >>> from upscore.crf.engines.torch_exact import TorchExactFilter
    >>> kernel = TorchExactFilter(torch.tensor([[0.0], [9.0]]).double())
    >>> values = torch.ones(2, 1, requires_grad=True)
    >>> apply_filter(kernel, values).sum().backward()
    >>> values.grad.tolist()
    [[1.0], [1.0]]
    """
    return cast(Tensor, _ApplyFilter.apply(values, kernel, False))  # type: ignore[no-untyped-call]


class _ApplyFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: TorchFilter, transposed: bool) -> Tensor:
        ctx.kernel, ctx.transposed = kernel, transposed
        return kernel.multiply(values, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        back = _ApplyFilter.apply(gradients[0], ctx.kernel, not ctx.transposed)  # type: ignore[no-untyped-call]
        return back, None, None


@dataclass(frozen=True, eq=False)
class NormalizedFilter:
    """A filter with normalisation factors before and after it."""

    kernel: TorchFilter  #: of N pixels
    before: Tensor | None  #: (N, 1), a power of the kernel's row sums
    after: Tensor | None  #: likewise

    @classmethod
    def of(cls, kernel: TorchFilter, ones: Tensor, normalization: str) -> NormalizedFilter:
        """Return ``kernel`` with this normalisation; ``ones`` (N, 1) have its dtype and device."""
        with torch.no_grad():
            rows = kernel.multiply(ones) + 1e-20
            return cls(kernel, *normalizing_factors(rows, normalization))

    def __call__(self, marginals: Tensor, *, self_message: bool) -> Tensor:
        """Return the messages (N, K) from ``marginals`` (N, K); differentiable in them."""
        scaled = marginals if self.before is None else marginals * self.before
        messages = apply_filter(self.kernel, scaled)
        if not self_message:
            messages = messages - scaled  # k(f, f) = 1
        return messages if self.after is None else messages * self.after


@dataclass(frozen=True, eq=False)
class TorchPairwise:
    """One kernel: its filter, and the compatibility (K,) or (K, K)."""

    kernel: NormalizedFilter
    compatibility: Tensor

    def energy(self, marginals: Tensor, *, self_message: bool) -> Tensor:
        """Return the expected pairwise energy of each label at each pixel, (N, K)."""
        messages = self.kernel(marginals, self_message=self_message)
        return messages * self.compatibility if self.compatibility.ndim == 1 else messages @ self.compatibility


@dataclass(frozen=True)
class TorchEngine:
    """The engine whose marginals are tensors on a device.

    Parameters
    ----------
    device : str or torch.device
        "cpu", "cuda", "cuda:1": any device with double precision, in which lattices are built
        and distances computed.
    filter_factory : callable
        The lattice, or :class:`upscore.crf.engines.torch_exact.TorchExactFilter` for all pairs.
    precision : {torch.float32, torch.float64}
        What messages are summed in.

    Raises
    ------
    CRFError
        This machine has no such device.
    """

    device: str | torch.device = "cpu"
    filter_factory: FilterFactory = TorchLattice
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", require_device(self.device))

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What it computes in, as a NumPy type."""
        return np.float64 if self.precision == torch.float64 else np.float32

    def pairwise(self, features: npt.NDArray[Any] | Tensor, compatibility: npt.NDArray[np.float64], normalization: str) -> TorchPairwise:
        """Build the kernel's filter and its row sums; features may be on the device already."""
        with full_precision():
            points = torch.as_tensor(features).detach().to(self.device, torch.float64)
            ones = torch.ones((len(points), 1), dtype=self.precision, device=self.device)
            kernel = NormalizedFilter.of(self.filter_factory(points, self.precision), ones, normalization)
        return TorchPairwise(kernel, torch.as_tensor(compatibility).to(self.device, self.precision))

    def mean_field(self, unary: Unary, pairwise: Sequence[TorchPairwise], *, self_message: bool) -> TorchMeanField:
        """Return the mean field."""
        return TorchMeanField(torch.from_numpy(unary.energy(self.dtype)).to(self.device), pairwise, self_message=self_message)


class TorchMeanField:
    """Algorithm 1 on tensors (N, K) of one device, without gradients; :class:`upscore.crf.layer.CRFLayer` has them."""

    def __init__(self, energy: Tensor, pairwise: Sequence[TorchPairwise], *, self_message: bool) -> None:
        self.energy, self.pairwise, self.self_message = energy, pairwise, self_message

    def advance(self, marginals: Tensor | None, steps: int) -> Tensor:
        """Return the marginals after ``steps`` more steps."""
        with torch.no_grad(), full_precision():
            marginals = torch.softmax(-self.energy, 1) if marginals is None else marginals
            for _ in range(steps):
                logits = -self.energy
                for term in self.pairwise:
                    logits -= term.energy(marginals, self_message=self.self_message)
                marginals = torch.softmax(logits, 1)
        return marginals

    def from_array(self, array: npt.NDArray[Any]) -> Tensor:
        """Return the array as a tensor on the engine's device."""
        return torch.as_tensor(np.ascontiguousarray(array)).to(self.energy.device, self.energy.dtype)

    def to_array(self, marginals: Tensor) -> npt.NDArray[Any]:
        """Return the marginals as an array in the CPU's memory."""
        return np.asarray(marginals.detach().cpu())

    def divergence(self, marginals: Tensor) -> tuple[float, float]:
        """Return the unary and the pairwise part of the divergence."""
        with torch.no_grad(), full_precision():
            q = marginals.double()
            unary = (q * q.clamp_min(1e-20).log()).sum() + (q * self.energy).sum()
            pairwise = [float((term.energy(marginals, self_message=self.self_message) * q).sum()) for term in self.pairwise]
        return float(unary), sum(pairwise)


def require_device(wanted: str | torch.device) -> torch.device:
    """Return a device after a computation in double precision on it; CRFError where it does not exist or has none."""
    try:
        device = torch.device(wanted)
        torch.zeros(1, dtype=torch.float64, device=device).sum().item()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):  # each kind of device has its own
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise CRFError(
            f"found device '{wanted}', expected one that is available and has double precision: {', '.join(available)}"
        ) from None
    return device


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply matrices in their own precision inside the block: no autocast, no TF32, no bfloat16.

    >>> with torch.autocast("cpu", torch.bfloat16), full_precision():
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    lowered: list[tuple[Any, str, Any]] = []
    for backend in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)):
        # A torch that has the first name raises on the second once the first was used.
        name = next((name for name in ("fp32_precision", "allow_tf32") if hasattr(backend, name)), None)
        if name is not None and getattr(backend, name) in (True, "tf32", "bf16"):
            lowered.append((backend, name, getattr(backend, name)))
            setattr(backend, name, "ieee" if name == "fp32_precision" else False)
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        for backend, name, value in lowered:
            setattr(backend, name, value)
