"""A network of one image size on images of multiples of it: window by window.

Some transformers (BEiT, CaiT, Hiera, CoAtNet) have an embedding or a bias for every position of one size. A larger image is divided
into windows of that size, which do not see one another::

    (N, C, 2S, 3S) ─► (N·2·3, C, S, S) ─ network ─► (N·2·3, C', S/16, S/16) ─► (N, C', 2S/16, 3S/16)
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["from_windows", "to_windows"]


def to_windows(images: Tensor, side: int) -> Tensor:
    """Return (N·R·Q, C, side, side), row by row, of (N, C, R·side, Q·side)."""
    n, c, height, width = images.shape
    windows = images.reshape(n, c, height // side, side, width // side, side)
    return windows.permute(0, 2, 4, 1, 3, 5).reshape(-1, c, side, side)


def from_windows(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Return (N, C, rows·h, columns·w) of (N·rows·columns, C, h, w): the inverse of :func:`to_windows`.

    >>> import torch
    >>> image = torch.rand(2, 3, 8, 12)
    >>> torch.equal(from_windows(to_windows(image, 4), 2, 3), image)
    True
    """
    _, c, h, w = maps.shape
    return maps.reshape(-1, rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5).reshape(-1, c, rows * h, columns * w)
