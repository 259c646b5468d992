"""Max pooling with indices, and three kinds of unpooling, from one value for each window to its four pixels.

::

    a b      nearest_unpool      bed_of_nails      max_unpool, with the switches of max_pool
    c d        a a │ b b           a 0 │ b 0           0 a │ 0 0        x:  1 3 │ 0 0
               a a │ b b           0 0 │ 0 0           0 0 │ b 0            2 0 │ 5 1
               ────┼────           ────┼────           ────┼────            ────┼────
               c c │ d d           c 0 │ d 0           0 0 │ 0 d            1 0 │ 2 3
               c c │ d d           0 0 │ 0 0           c 0 │ 0 0            7 4 │ 0 1

Windows are 2×2 with stride 2; at the end of an odd side they are truncated, so that sizes round up.

Zeiler and Fergus (2014) call the position of a maximum a switch (torch: index); DeconvNet (Noh,
Hong and Han 2015) and SegNet (Badrinarayanan, Kendall and Cipolla 2017) put each value back there.
A switch takes two bits, four switches a byte, and they are all that is saved for the backward
pass. The gradient of pooling scatters values to the switches, that of unpooling gathers them:
each is the adjoint of the other.

An exported graph contains torch's own operations instead, with int64 indices into the plane, as
ONNX's ``MaxPool`` returns them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import ModelError
from upscore.ops.switches import gather, packed_shape, pool, scatter

__all__ = ["bed_of_nails", "max_pool", "max_unpool", "nearest_unpool"]


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of 2×2 windows, and their switches.

    Parameters
    ----------
    x : (N, C, H, W) floating
        Any H and W from 1.

    Returns
    -------
    maxima : (N, C, ⌈H/2⌉, ⌈W/2⌉)
        As ``torch.nn.functional.max_pool2d(x, 2, ceil_mode=True)``: of equal values the
        first of a window, of several nan the last.
    switches : (N, C, ⌈H/2⌉, ⌈W/8⌉) uint8
        Two bits for each window, four neighbouring windows in a byte, the first in the lowest bits;
        0, 1, 2, 3 for upper left, upper right, lower left, lower right.

    Raises
    ------
    ModelError
        ``x`` is not such a tensor.

    Examples
    --------
    >>> x = torch.tensor([[[[1.0, 3.0, 0.0, 0.0], [2.0, 0.0, 5.0, 1.0]]]])
    >>> maxima, switches = max_pool(x)
    >>> maxima.tolist(), max_unpool(maxima, switches, (2, 4)).tolist()
    ([[[[3.0, 5.0]]]], [[[[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]]]])
    """
    if torch.compiler.is_exporting():
        return F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    if x.ndim != 4 or not x.is_floating_point() or 0 in x.shape[-2:]:
        raise ModelError(f"found {_shape_of(x)} to pool, expected floats (N, C, H, W) with H and W from 1")
    return cast("tuple[Tensor, Tensor]", _Pool.apply(x))  # type: ignore[no-untyped-call]


def max_unpool(y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Put each value at the position of its window's maximum, and zeros elsewhere.

    Parameters
    ----------
    y : (N, C, ⌈H/2⌉, ⌈W/2⌉) floating
        One value for each window.
    switches : (N, C, ⌈H/2⌉, ⌈W/8⌉) uint8
        From :func:`max_pool`.
    size : (int, int)
        H and W of the pooled map.

    Returns
    -------
    Tensor
        (N, C, H, W), as ``torch.nn.functional.max_unpool2d``, in the memory format of ``y``.

    Raises
    ------
    ModelError
        Sizes or dtypes do not fit together.
    """
    if torch.compiler.is_exporting():
        return F.max_unpool2d(y, switches, [2, 2], output_size=list(size))
    _check(y, size)
    expected = packed_shape(y.shape)
    if switches.shape != expected or switches.dtype != torch.uint8:
        raise ModelError(f"found switches {_shape_of(switches)} for values {_shape_of(y)}, expected torch.uint8 {tuple(expected)}")
    return cast(Tensor, _Scatter.apply(y, switches, size))  # type: ignore[no-untyped-call]


def bed_of_nails(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Put each value (N, C, ⌈H/2⌉, ⌈W/2⌉) at the upper left of its window, and zeros elsewhere: (N, C, H, W), H and W from ``size``.

    It is :func:`max_unpool` with all switches at the upper left; ModelError where ``y`` has another number of windows.
    """
    if torch.compiler.is_exporting():
        corners = torch.arange(0, size[0], 2, device=y.device)[:, None] * size[1] + torch.arange(0, size[1], 2, device=y.device)
        return max_unpool(y, corners.expand(y.shape), size)
    _check(y, size)
    return max_unpool(y, torch.zeros(packed_shape(y.shape), dtype=torch.uint8, device=y.device), size)


def nearest_unpool(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill each window with its value; shapes and errors are those of :func:`bed_of_nails`."""
    if not torch.compiler.is_exporting():
        _check(y, size)
    return F.interpolate(y, scale_factor=2.0, mode="nearest")[..., : size[0], : size[1]]


def _check(y: Tensor, size: tuple[int, int]) -> None:
    windows = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    if y.ndim != 4 or not y.is_floating_point() or y.shape[-2:] != windows:
        raise ModelError(f"found {_shape_of(y)} to unpool to {tuple(size)}, expected floats (N, C, {windows[0]}, {windows[1]})")


def _shape_of(x: Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)}"


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return pool(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.size = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Tensor | None:
        return gradients[0] if gradients[0] is None else _Scatter.apply(gradients[0], *ctx.saved_tensors, ctx.size)  # type: ignore[no-untyped-call]


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
        return scatter(y, switches, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, tuple[int, int]], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        return gradients[0] if gradients[0] is None else _Gather.apply(gradients[0], *ctx.saved_tensors), None, None  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, switches: Tensor) -> Tensor:
        return gather(x, switches)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1])
        ctx.size = inputs[0].shape[-2:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        return gradients[0] if gradients[0] is None else _Scatter.apply(gradients[0], *ctx.saved_tensors, ctx.size), None  # type: ignore[no-untyped-call]
