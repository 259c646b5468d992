"""Pooling indices of 2×2 windows ("switches") in two bits each, and the operations that write and read them; without gradients.

::

    x            pool: maxima, switches     scatter: values to pixels     gather: pixels to values
    1 3 │ 0 0          3 5      1 2             0 a │ 0 0                     p q │ t u
    2 0 │ 5 1                          a b ──►  0 0 │ b 0                     r s │ v w   ──►  q v

On the CPU ``native/pool`` reads and writes each value once, in float32 and bfloat16. Other devices
and dtypes, and installations without it, use torch operations with identical results. For
``torch.compile`` each operation is one opaque node.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.ops.compiled import compiled_for, threads

__all__ = ["gather", "packed_shape", "pool", "scatter"]

DTYPES = (torch.float32, torch.bfloat16)
"""Of the compiled kernels."""


def packed_shape(values: tuple[int, ...]) -> tuple[int, ...]:
    """Return (N, C, h, ⌈w/4⌉), the shape of the switches of (N, C, h, w) windows.

    >>> packed_shape((2, 3, 5, 9))
    (2, 3, 5, 3)
    """
    return (*values[:-1], (values[-1] + 3) // 4)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of 2×2 windows (N, C, ⌈H/2⌉, ⌈W/2⌉) and their switches (N, C, ⌈H/2⌉, ⌈W/8⌉) uint8.

    Of equal values the first of a window is taken, of several nan the last, as in torch.
    """
    return _pool_node(x) if torch.compiler.is_compiling() else _pool(x)


def scatter(y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, C, H, W): each value (N, C, h, w) at its window's switch, zeros elsewhere; dropped if the switch points outside."""
    return (_scatter_node if torch.compiler.is_compiling() else _scatter)(y, switches, *size)


def gather(x: Tensor, switches: Tensor) -> Tensor:
    """Return (N, C, h, w): of each window of (N, C, H, W) the value at its switch; zero where the switch points outside."""
    return (_gather_node if torch.compiler.is_compiling() else _gather)(x, switches)


def _pool(x: Tensor) -> tuple[Tensor, Tensor]:
    if native := compiled_for(x, *DTYPES):
        x = x.contiguous(memory_format=_memory_format(x))
        maxima = _empty_like(x, (*x.shape[:2], *_windows(x.shape)))
        switches = _empty_like(x, packed_shape(maxima.shape), torch.uint8)
        native.pool(*_planes(x, maxima, switches), threads=threads())
        return maxima, switches
    upper_left, *others = _window_positions(x, float("-inf"))
    best, codes = upper_left, torch.zeros_like(upper_left, dtype=torch.uint8)
    for code, other in enumerate(others, start=1):
        wins = (other > best) | other.isnan()
        best, codes = torch.where(wins, other, best), codes.masked_fill(wins, code)
    return best.contiguous(memory_format=_memory_format(x)), _pack(codes).contiguous(memory_format=_memory_format(x))


def _scatter(y: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
    if native := compiled_for(y, *DTYPES):
        y, switches = _same_memory_format(y, switches)
        out = _empty_like(y, (*y.shape[:2], height, width))
        native.scatter(*_planes(out, y, switches), threads=threads())
        return out
    codes = _unpack(switches, y.shape[-1])
    rows = [torch.stack([torch.where(codes == 2 * row + column, y, 0) for column in (0, 1)], -1).flatten(-2) for row in (0, 1)]
    pixels = torch.stack(rows, -2).flatten(-3, -2)[..., :height, :width]
    return pixels.contiguous(memory_format=_memory_format(y))


def _gather(x: Tensor, switches: Tensor) -> Tensor:
    if native := compiled_for(x, *DTYPES):
        x, switches = _same_memory_format(x, switches)
        out = _empty_like(x, (*x.shape[:2], *_windows(x.shape)))
        native.gather(*_planes(x, out, switches), threads=threads())
        return out
    upper_left, *others = _window_positions(x, 0.0)
    codes = _unpack(switches, upper_left.shape[-1])
    taken = upper_left
    for code, other in enumerate(others, start=1):
        taken = torch.where(codes == code, other, taken)
    return taken.contiguous(memory_format=_memory_format(x))


# The nodes of torch.compile's graph, and their shapes and memory order.
_pool_node = torch.library.custom_op("upscore::pool", _pool, mutates_args=())
_scatter_node = torch.library.custom_op("upscore::scatter", _scatter, mutates_args=())
_gather_node = torch.library.custom_op("upscore::gather", _gather, mutates_args=())


@_pool_node.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    maxima = _empty_like(x, (*x.shape[:2], *_windows(x.shape)))
    return maxima, _empty_like(x, packed_shape(maxima.shape), torch.uint8)


@_scatter_node.register_fake
def _(y: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
    return _empty_like(y, (*y.shape[:2], height, width))


@_gather_node.register_fake
def _(x: Tensor, switches: Tensor) -> Tensor:
    return _empty_like(x, (*x.shape[:2], *_windows(x.shape)))


def _windows(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[-2] + 1) // 2, (shape[-1] + 1) // 2


def _window_positions(x: Tensor, absent: float) -> list[Tensor]:
    """Return the four positions of the windows, in the order of codes."""
    odd = x.shape[-2] % 2, x.shape[-1] % 2
    padded = F.pad(x, (0, odd[1], 0, odd[0]), value=absent) if any(odd) else x
    return [padded[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _pack(codes: Tensor) -> Tensor:
    """Pack (…, w) codes into (…, ⌈w/4⌉) bytes: four neighbours in one, the first in the lowest bits."""
    groups = F.pad(codes, (0, -codes.shape[-1] % 4)).unflatten(-1, (-1, 4))  # type: ignore[no-untyped-call]
    return cast(Tensor, groups[..., 0] | groups[..., 1] << 2 | groups[..., 2] << 4 | groups[..., 3] << 6)


def _unpack(switches: Tensor, width: int) -> Tensor:
    """Unpack (…, ⌈width/4⌉) bytes into (…, width) codes."""
    return torch.stack([switches >> shift & 3 for shift in (0, 2, 4, 6)], -1).flatten(-2)[..., :width]


def _memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of the result: channels-last if x is, else contiguous."""
    last = 1 != x.shape[1] == x.stride(-1) and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _same_memory_format(x: Tensor, switches: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the memory format of the first."""
    memory_format = _memory_format(x)
    return x.contiguous(memory_format=memory_format), switches.contiguous(memory_format=memory_format)


def _empty_like(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialised tensor in the memory format of x."""
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device, memory_format=_memory_format(x))


def _planes(*maps: Tensor) -> list[Tensor]:
    """Return (N, C, H, W) in either memory order as planes (P, H, W, K) in one: (N·C, H, W, 1) or (N, H, W, C)."""
    if _memory_format(maps[0]) is torch.channels_last:
        return [x.detach().permute(0, 2, 3, 1) for x in maps]
    return [x.detach().flatten(0, 1).unsqueeze(-1) for x in maps]
