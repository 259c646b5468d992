"""Mean field on tensors, on a processor or a GPU: what :mod:`upscore.crf.engines.arrays` does, in torch.

::

    features ── filter_of ──► TensorFilter ── filtered ──► messages         a constant: features get no gradient
                                   ▲                          │
                            its transpose ◄──── gradient ─────┘             values do

What goes back through a filter is what goes forth through its transpose, so that nothing but
the filter itself is kept for the way back.
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

from upscore.crf.engines.permutohedral import TensorLattice
from upscore.crf.kernels import normalizing_factors
from upscore.crf.unary import Unary
from upscore.errors import CRFError

__all__ = ["FilterOf", "NormalizedFilter", "TensorField", "TensorFilter", "TensorMessage", "TorchEngine", "choose_device", "filtered"]


class TensorFilter(Protocol):
    """Multiplies values by a kernel; each pixel's message to itself is in it."""

    def multiply(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the kernel, or its transpose, times ``values`` (N, C), of the same shape, type and device."""
        ...


FilterOf: TypeAlias = Callable[[Tensor, torch.dtype], TensorFilter]
"""features (N, d) float64, type of the values -> TensorFilter."""


def filtered(kernel: TensorFilter, values: Tensor) -> Tensor:
    """Return ``kernel`` times ``values`` (N, C) floating, differentiable in the values as often as you like."""
    return cast(Tensor, _Filtering.apply(values, kernel, False))  # type: ignore[no-untyped-call]


class _Filtering(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: TensorFilter, transposed: bool) -> Tensor:
        ctx.kernel, ctx.transposed = kernel, transposed
        return kernel.multiply(values, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        back = _Filtering.apply(gradients[0], ctx.kernel, not ctx.transposed)  # type: ignore[no-untyped-call]
        return back, None, None


@dataclass(frozen=True, eq=False)
class NormalizedFilter:
    """A filter between what values are multiplied by before it, and after it.

    Parameters
    ----------
    kernel : TensorFilter
        Of N pixels.
    before, after : (N, 1), optional
        Powers of the kernel's row sums.
    """

    kernel: TensorFilter
    before: Tensor | None
    after: Tensor | None

    @classmethod
    def of(cls, kernel: TensorFilter, ones: Tensor, normalization: str) -> NormalizedFilter:
        """Return ``kernel`` normalised as it is said; ``ones`` (N, 1) are of its type and on its device."""
        with torch.no_grad():
            rows = kernel.multiply(ones) + 1e-20
            return cls(kernel, *normalizing_factors(rows, normalization))

    def __call__(self, belief: Tensor, *, with_self: bool) -> Tensor:
        """Return what each pixel receives (N, K) when all send ``belief`` (N, K); differentiable in it."""
        sent = belief if self.before is None else belief * self.before
        received = filtered(self.kernel, sent)
        if not with_self:
            received = received - sent  # k(f, f) = 1
        return received if self.after is None else received * self.after


@dataclass(frozen=True, eq=False)
class TensorMessage:
    """What one kernel makes pixels pay.

    Parameters
    ----------
    sending : NormalizedFilter
        Of N pixels.
    cost : (K,) or (K, K)
        What messages are multiplied by, elementwise or as matrices.
    """

    sending: NormalizedFilter
    cost: Tensor

    def costs(self, belief: Tensor, *, with_self: bool) -> Tensor:
        """Return what each label costs at each pixel, (N, K)."""
        received = self.sending(belief, with_self=with_self)
        return received * self.cost if self.cost.ndim == 1 else received @ self.cost


@dataclass(frozen=True)
class TorchEngine:
    """An engine whose beliefs are tensors on a device.

    Parameters
    ----------
    device : str or torch.device
        "cpu", "cuda", "cuda:1": anything that computes in double precision, in which lattices
        are built and distances taken.
    filter_of : callable
        The lattice, or :class:`upscore.crf.engines.tiles.TiledFilter` for every pair.
    precision : {torch.float32, torch.float64}
        What messages are summed in.

    Raises
    ------
    CRFError
        There is no such device on this machine.
    """

    device: str | torch.device = "cpu"
    filter_of: FilterOf = TensorLattice
    precision: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", choose_device(self.device))

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What it computes in, by NumPy's name."""
        return np.float64 if self.precision == torch.float64 else np.float32

    def message(self, features: npt.NDArray[Any] | Tensor, cost: npt.NDArray[np.float64], normalization: str) -> TensorMessage:
        """Return the kernel's filter and its row sums; features may be on the device already."""
        with full_precision():
            places = torch.as_tensor(features).detach().to(self.device, torch.float64)
            ones = torch.ones((len(places), 1), dtype=self.precision, device=self.device)
            sending = NormalizedFilter.of(self.filter_of(places, self.precision), ones, normalization)
        return TensorMessage(sending, torch.as_tensor(cost).to(self.device, self.precision))

    def field(self, unary: Unary, messages: Sequence[TensorMessage], *, self_message: bool) -> TensorField:
        """Return the mean field."""
        return TensorField(torch.from_numpy(unary.energy(self.dtype)).to(self.device), messages, self_message=self_message)


class TensorField:
    """Algorithm 1 on tensors (N, K) of one device; keeps no gradients (:class:`upscore.crf.layer.CRFLayer` does)."""

    def __init__(self, energy: Tensor, messages: Sequence[TensorMessage], *, self_message: bool) -> None:
        self.energy, self.messages, self.self_message = energy, messages, self_message

    def advance(self, belief: Tensor | None, steps: int) -> Tensor:
        """Return what is believed ``steps`` later."""
        with torch.no_grad(), full_precision():
            belief = torch.softmax(-self.energy, 1) if belief is None else belief
            for _ in range(steps):
                scores = -self.energy
                for message in self.messages:
                    scores -= message.costs(belief, with_self=self.self_message)
                belief = torch.softmax(scores, 1)
        return belief

    def believe(self, array: npt.NDArray[Any]) -> Tensor:
        """Return it as a tensor on the field's device."""
        return torch.as_tensor(np.ascontiguousarray(array)).to(self.energy.device, self.energy.dtype)

    def array(self, belief: Tensor) -> npt.NDArray[Any]:
        """Return it from the device."""
        return np.asarray(belief.detach().cpu())

    def divergence(self, belief: Tensor) -> tuple[float, float]:
        """Return what the pixels pay by themselves and what all pairs pay."""
        with torch.no_grad(), full_precision():
            wide = belief.double()
            alone = (wide * wide.clamp_min(1e-20).log()).sum() + (wide * self.energy).sum()
            pairs = [float((message.costs(belief, with_self=self.self_message) * wide).sum()) for message in self.messages]
        return float(alone), sum(pairs)


def choose_device(wanted: str | torch.device) -> torch.device:
    """Return a device that is there and computes in double precision.

    Raises
    ------
    CRFError
        It is not, or does not.
    """
    try:
        device = torch.device(wanted)
        torch.zeros(1, dtype=torch.float64, device=device).sum().item()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):  # as many kinds as there are devices
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise CRFError(f"found device '{wanted}', expected one that is here and has double precision: {', '.join(there)}") from None
    return device


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply matrices in the precision of their numbers: no autocast, no TF32 or bfloat16 inside."""
    lowered: list[tuple[Any, str, Any]] = []
    for backend in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)):
        # A torch that has the first name takes the second amiss, once the first was used.
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
