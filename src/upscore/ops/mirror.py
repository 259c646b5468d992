"""Reflection padding of any width, as U-Net and the sliding window use it.

The edge itself is not repeated, and a small image is reflected as often as needed::

    3 2 1 │ 0 1 2 3 │ 2 1 0 1 2 …
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mirror"]


def mirror(x: Tensor, *, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return an image (..., H, W) padded by reflection, with so many ``rows`` and ``columns`` before and after.

    It is that of ``numpy.pad`` of mode "reflect", for any H and W from 1; a single row or column is repeated.

    >>> mirror(torch.arange(4).view(1, 4), rows=(0, 0), columns=(3, 5)).tolist()
    [[3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]]
    """
    for axis, (before, after) in ((-2, rows), (-1, columns)):
        size = x.shape[axis]
        last = torch.arange(size, device=x.device)[-1]  # a tensor, since an exporter can divide by it
        index = torch.arange(-before, size + after, device=x.device) % (2 * last).clamp(min=1)
        x = x.index_select(axis, torch.minimum(index, (2 * last - index).abs()))
    return x
