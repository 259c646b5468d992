"""Context beyond an image's edges, mirrored: what U-Net and sliding windows see where there is nothing.

The edge itself is not repeated, and an image smaller than its context is mirrored again
and again::

    3 2 1 │ 0 1 2 3 │ 2 1 0 1 2 …
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mirror"]


def mirror(x: Tensor, *, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return an image with mirrored context.

    Parameters
    ----------
    x : (..., H, W)
        Any H and W from 1; a single row or column is repeated.
    rows, columns : (int, int)
        How many to add before and after, any number from 0.

    Returns
    -------
    Tensor
        (..., rows[0] + H + rows[1], columns[0] + W + columns[1]), as ``numpy.pad`` of mode "reflect".
    """
    for axis, (before, after) in ((-2, rows), (-1, columns)):
        size = x.shape[axis]
        last = torch.arange(size, device=x.device)[-1]  # a tensor, which an exporter can divide by
        places = torch.arange(-before, size + after, device=x.device) % (2 * last).clamp(min=1)
        x = x.index_select(axis, torch.minimum(places, (2 * last - places).abs()))
    return x
