"""Max pooling over 2×2 windows that remembers its switches, and the unpooling that follows them.

Zeiler and Fergus (2014) call the place of each maximum a switch; DeconvNet (Noh, Hong and
Han 2015) and SegNet (Badrinarayanan, Kendall and Cipolla 2017) put each value back there::

    x            switches      max_pool      y        max_unpool
    1 3 │ 0 0      1 │ 0         3 5 ──► … ──► a b ──►  0 a │ b 0
    2 0 │ 5 1        │ 2 …                              0 0 │ 0 0

A switch is one of four places: two bits, four switches to a byte.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import ModelError

__all__ = ["max_pool", "max_unpool"]


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of 2×2 windows, and their switches.

    Parameters
    ----------
    x : (N, C, H, W) floating
        Any H and W from 1; windows at the end of an odd side are cut (sizes round up).

    Returns
    -------
    maxima : (N, C, ⌈H/2⌉, ⌈W/2⌉)
        As ``torch.nn.functional.max_pool2d(x, 2, ceil_mode=True)``.
    switches : (N, C, ⌈H/2⌉, ⌈W/8⌉) uint8
        Two bits a window, four windows side by side in a byte, the first in the lowest bits;
        0, 1, 2, 3 for upper left, upper right, lower left, lower right.
    """
    return cast("tuple[Tensor, Tensor]", _MaxPool.apply(x))  # type: ignore[no-untyped-call]


def max_unpool(y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Put each value where its window's maximum was, and zeros elsewhere.

    Parameters
    ----------
    y : (N, C, h, w) floating
        One value a window.
    switches : uint8
        Of :func:`max_pool`, for as many windows.
    size : (int, int)
        H and W of what was pooled.

    Returns
    -------
    Tensor
        (N, C, H, W), as ``torch.nn.functional.max_unpool2d``.

    Raises
    ------
    ModelError
        The sizes do not belong together.
    """
    windows = (-(-size[0] // 2), -(-size[1] // 2))
    packed = (*y.shape[:2], windows[0], -(-windows[1] // 4))
    if y.shape[-2:] != windows or switches.shape != packed:
        raise ModelError(
            f"found values {tuple(y.shape)} and switches {tuple(switches.shape)} to unpool to {tuple(size)}, "
            f"expected (N, C, {windows[0]}, {windows[1]}) and {packed}"
        )
    return cast(Tensor, _MaxUnpool.apply(y, switches, size))  # type: ignore[no-untyped-call]


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2), value=float("-inf"))
        best, codes = padded[..., 0::2, 0::2], torch.zeros_like(padded[..., 0::2, 0::2], dtype=torch.uint8)
        for code in (1, 2, 3):
            other = padded[..., code // 2 :: 2, code % 2 :: 2]
            wins = (other > best) | other.isnan()  # of equal ones the first, of several NaN the last, as torch chooses
            best, codes = torch.where(wins, other, best), codes.masked_fill(wins, code)
        switches = _pack(codes)
        ctx.save_for_backward(switches)
        ctx.size = (height, width)
        ctx.mark_non_differentiable(switches)
        return best.clone(), switches

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (switches,) = ctx.saved_tensors
        return max_unpool(gradients[0], switches, ctx.size)


class _MaxUnpool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(switches)
        codes = _unpack(switches, y.shape[-1])
        rows = [torch.stack([torch.where(codes == 2 * row + column, y, 0) for column in (0, 1)], -1).flatten(-2) for row in (0, 1)]
        return torch.stack(rows, -2).flatten(-3, -2)[..., : size[0], : size[1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (switches,) = ctx.saved_tensors
        gradient = gradients[0]
        padded = F.pad(gradient, (0, gradient.shape[-1] % 2, 0, gradient.shape[-2] % 2))
        codes = _unpack(switches, padded.shape[-1] // 2)
        taken = padded[..., 0::2, 0::2]
        for code in (1, 2, 3):
            taken = torch.where(codes == code, padded[..., code // 2 :: 2, code % 2 :: 2], taken)
        return taken.clone(), None, None


def _pack(codes: Tensor) -> Tensor:
    """Return (…, ⌈w/4⌉) bytes of (…, w) codes from 0 to 3."""
    places = F.pad(codes, (0, -codes.shape[-1] % 4)).unflatten(-1, (-1, 4))  # type: ignore[no-untyped-call]
    return cast(Tensor, places[..., 0] | places[..., 1] << 2 | places[..., 2] << 4 | places[..., 3] << 6)


def _unpack(switches: Tensor, width: int) -> Tensor:
    """Return (…, width) codes."""
    return torch.stack([switches >> shift & 3 for shift in (0, 2, 4, 6)], -1).flatten(-2)[..., :width]
