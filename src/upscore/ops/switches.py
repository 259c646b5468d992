"""Where the maximum of each 2×2 window lies, in two bits, and the three steps that need to know; without gradients.

::

    x            pool: maxima, switches     scatter: values to pixels     gather: pixels to values
    1 3 │ 0 0          3 5      1 2             0 a │ 0 0                     p q │ t u
    2 0 │ 5 1                          a b ──►  0 0 │ b 0                     r s │ v w   ──►  q v

On a processor ``native/pool`` reads and writes everything once, float32 and bfloat16. Where
nobody compiled it, on other devices and for other dtypes the same bits come from torch
operations. For ``torch.compile`` each step is one node that it does not look into.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.ops.compiled import compiled_for, threads

__all__ = ["gather", "packed_shape", "pool", "scatter"]

DTYPES = (torch.float32, torch.bfloat16)
"""What the compiled steps read and write."""


def packed_shape(values: tuple[int, ...]) -> tuple[int, ...]:
    """Return (N, C, h, ⌈w/4⌉), the shape of the switches of (N, C, h, w) windows."""
    return (*values[:-1], (values[-1] + 3) // 4)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of 2×2 windows (N, C, ⌈H/2⌉, ⌈W/2⌉) and their switches (N, C, ⌈H/2⌉, ⌈W/8⌉) uint8.

    Of equal values the first of a window wins, of several NaN the last, as torch chooses.
    """
    return _pool_node(x) if torch.compiler.is_compiling() else _pool(x)


def scatter(y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, C, H, W): each value (N, C, h, w) at its window's switch, zeros elsewhere; where the switch points outside, nowhere."""
    return (_scatter_node if torch.compiler.is_compiling() else _scatter)(y, switches, *size)


def gather(x: Tensor, switches: Tensor) -> Tensor:
    """Return (N, C, h, w): of each window of (N, C, H, W) the value at its switch; zero where the switch points outside."""
    return (_gather_node if torch.compiler.is_compiling() else _gather)(x, switches)


def _pool(x: Tensor) -> tuple[Tensor, Tensor]:
    if native := compiled_for(x, *DTYPES):
        x = x.contiguous(memory_format=_layout(x))
        maxima = _like(x, (*x.shape[:2], *_windows(x.shape)))
        switches = _like(x, packed_shape(maxima.shape), torch.uint8)
        native.pool(*_planes(x, maxima, switches), threads=threads())
        return maxima, switches
    upper_left, *others = _places(x, float("-inf"))
    best, codes = upper_left, torch.zeros_like(upper_left, dtype=torch.uint8)
    for code, other in enumerate(others, start=1):
        wins = (other > best) | other.isnan()
        best, codes = torch.where(wins, other, best), codes.masked_fill(wins, code)
    return best.contiguous(memory_format=_layout(x)), _pack(codes).contiguous(memory_format=_layout(x))


def _scatter(y: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
    if native := compiled_for(y, *DTYPES):
        y, switches = _alike(y, switches)
        out = _like(y, (*y.shape[:2], height, width))
        native.scatter(*_planes(out, y, switches), threads=threads())
        return out
    codes = _unpack(switches, y.shape[-1])
    rows = [torch.stack([torch.where(codes == 2 * row + column, y, 0) for column in (0, 1)], -1).flatten(-2) for row in (0, 1)]
    whole = torch.stack(rows, -2).flatten(-3, -2)[..., :height, :width]
    return whole.contiguous(memory_format=_layout(y))


def _gather(x: Tensor, switches: Tensor) -> Tensor:
    if native := compiled_for(x, *DTYPES):
        x, switches = _alike(x, switches)
        out = _like(x, (*x.shape[:2], *_windows(x.shape)))
        native.gather(*_planes(x, out, switches), threads=threads())
        return out
    upper_left, *others = _places(x, 0.0)
    codes = _unpack(switches, upper_left.shape[-1])
    taken = upper_left
    for code, other in enumerate(others, start=1):
        taken = torch.where(codes == code, other, taken)
    return taken.contiguous(memory_format=_layout(x))


# What torch.compile puts into its graph, and what it is told of shapes and memory order.
_pool_node = torch.library.custom_op("upscore::pool", _pool, mutates_args=())
_scatter_node = torch.library.custom_op("upscore::scatter", _scatter, mutates_args=())
_gather_node = torch.library.custom_op("upscore::gather", _gather, mutates_args=())


@_pool_node.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    maxima = _like(x, (*x.shape[:2], *_windows(x.shape)))
    return maxima, _like(x, packed_shape(maxima.shape), torch.uint8)


@_scatter_node.register_fake
def _(y: Tensor, switches: Tensor, height: int, width: int) -> Tensor:
    return _like(y, (*y.shape[:2], height, width))


@_gather_node.register_fake
def _(x: Tensor, switches: Tensor) -> Tensor:
    return _like(x, (*x.shape[:2], *_windows(x.shape)))


def _windows(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[-2] + 1) // 2, (shape[-1] + 1) // 2


def _places(x: Tensor, absent: float) -> list[Tensor]:
    """Return the four places of the windows, in the order of codes."""
    odd = x.shape[-2] % 2, x.shape[-1] % 2
    whole = F.pad(x, (0, odd[1], 0, odd[0]), value=absent) if any(odd) else x
    return [whole[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _pack(codes: Tensor) -> Tensor:
    """Return (…, ⌈w/4⌉) bytes of (…, w) codes: four side by side in one, the first in the lowest bits."""
    places = F.pad(codes, (0, -codes.shape[-1] % 4)).unflatten(-1, (-1, 4))  # type: ignore[no-untyped-call]
    return cast(Tensor, places[..., 0] | places[..., 1] << 2 | places[..., 2] << 4 | places[..., 3] << 6)


def _unpack(switches: Tensor, width: int) -> Tensor:
    """Return (…, width) codes."""
    return torch.stack([switches >> shift & 3 for shift in (0, 2, 4, 6)], -1).flatten(-2)[..., :width]


def _layout(x: Tensor) -> torch.memory_format:
    """Return the order in memory that is kept: channels-last where x is that, else N, C, H, W."""
    last = 1 != x.shape[1] == x.stride(-1) and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _alike(x: Tensor, switches: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the memory order of the first."""
    layout = _layout(x)
    return x.contiguous(memory_format=layout), switches.contiguous(memory_format=layout)


def _like(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Return room in the memory order of x."""
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device, memory_format=_layout(x))


def _planes(*maps: Tensor) -> list[Tensor]:
    """Return (N, C, H, W) in either memory order as planes (P, H, W, K) in one: (N·C, H, W, 1) or (N, H, W, C)."""
    if _layout(maps[0]) is torch.channels_last:
        return [x.detach().permute(0, 2, 3, 1) for x in maps]
    return [x.detach().flatten(0, 1).unsqueeze(-1) for x in maps]
