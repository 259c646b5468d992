"""Theoretical and effective receptive fields: which pixels can change a score, and which do.

Wenjie Luo, Yujia Li, Raquel Urtasun, Richard Zemel, "Understanding the Effective Receptive
Field in Deep Convolutional Neural Networks", NIPS 2016 (arXiv 1701.04128). The theoretical
receptive field of a score is a rectangle that follows from kernels and strides, whatever the
weights are. The effective one is how strongly each pixel of the image changes the score: the
absolute derivative, which depends on weights and image and is usually largest near the middle::

    score      s = logits[k, row, column]          k the class predicted there, before the softmax
    effective  |∂s / ∂image| summed over R, G, B   (H, W)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.errors import DataError
from upscore.html.drawing import shrink
from upscore.inference.tile_grid import Window
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.ops.geometry import Geometry

__all__ = [
    "ReceptiveField",
    "effective_receptive_fields",
    "enclosing_side",
    "measure_receptive_fields",
    "theoretical_receptive_field",
    "theoretical_side",
]

ENCLOSED = 0.95
"""The fraction of the effective receptive field that its square encloses."""

SIDE = 220
"""Longer side, in cells, of an effective receptive field that is stored; larger ones are averaged down to it."""


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of the score of the class predicted at one pixel."""

    pixel: tuple[int, int]  #: row and column
    theoretical: Window  #: the part of the image that can change the score
    theoretical_side: int | float  #: of the square of which ``theoretical`` is the part inside the image; may be infinite
    effective: npt.NDArray[np.float32]  #: (h, w), averaged down where a side was above 220 pixels
    effective_side: int
    """Side of the smallest square around the pixel that encloses 95 % of the effective receptive field; 0 where the score is a constant."""


def theoretical_side(model: nn.Module) -> int | float:
    """Return the side in pixels of the square around a pixel outside which nothing can change its scores.

    That is the receptive field of a cell of the coarsest grid plus one stride on either side: a pixel's score
    interpolates the cells around it, and the pixel need not lie in the middle of one. It follows from the model's ``geometry``, is
    odd, and infinite where a layer depends on the whole image, or the network has no geometry.

    >>> from upscore.models.factory import create_model
    >>> theoretical_side(create_model("segnet-basic", num_classes=2, width=1 / 64))
    227
    """
    geometry: Geometry | None = getattr(model, "geometry", None)
    if geometry is None or geometry.receptive_field == math.inf:
        return math.inf
    reach = math.floor((geometry.receptive_field - 1) / 2 + geometry.stride)
    return 2 * reach + 1


def theoretical_receptive_field(model: nn.Module, pixel: tuple[int, int], size: tuple[int, int]) -> Window:
    """Return the part of an image of ``size``, H and W, that can change the scores of a pixel, row and column; it ends at the edges.

    ``model`` is as in :func:`theoretical_side`.
    """
    side = theoretical_side(model)
    if side == math.inf:
        return Window(0, 0, *size)
    reach = int(side) // 2
    (row, column), (height, width) = pixel, size
    return Window(max(0, row - reach), max(0, column - reach), min(height, row + reach + 1), min(width, column + reach + 1))


def effective_receptive_fields(
    model: nn.Module, images: Tensor, points: Sequence[tuple[int, int]], *, progress: Callable[[int, int], None] | None = None
) -> list[npt.NDArray[np.float32]]:
    """Return how strongly each pixel of the image changes the score of the class predicted at each point.

    The network runs forward once, and backward for each point. Each result is (H, W) float32 of at least 0, in logits per unit of a
    channel; all 0 where the score is a constant.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits of the same size; run in evaluation mode, and left in the mode it was in.
    images : (1, C, H, W) float in [0, 1]
        One image, on the network's device.
    points : sequence of (int, int)
        Rows and columns.
    progress : callable, optional
        Called with (done, total) after each point.

    Raises
    ------
    DataError
        A point is outside the image, or there is more than one image.
    """
    height, width = images.shape[-2:]
    if len(images) != 1:
        raise DataError(f"found {len(images)} images, expected one")
    for row, column in points:
        if not (0 <= row < height and 0 <= column < width):
            raise DataError(f"found pixel {row},{column} outside the image of {height} rows and {width} columns")
    fields = []
    with evaluation_mode(model), torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        logits: Tensor = model(pixels)
        for done, (row, column) in enumerate(points, start=1):
            score = logits[0, :, row, column].max()
            (gradient,) = torch.autograd.grad(score, pixels, retain_graph=done < len(points))
            fields.append(gradient[0].abs().sum(0).float().cpu().numpy())
            if progress is not None:
                progress(done, len(points))
    return fields


def enclosing_side(effective: npt.NDArray[np.float32], pixel: tuple[int, int], *, fraction: float = ENCLOSED) -> int:
    """Return the side of the smallest square around a pixel that encloses a fraction of its effective receptive field.

    It is odd, and 0 where ``effective`` (H, W) is 0 everywhere. The square is centred on ``pixel``, row and column, and may extend beyond
    the image; ``fraction`` in (0, 1] is that of the sum over the image.

    >>> enclosing_side(np.ones((9, 9), np.float32), (4, 4), fraction=0.3)
    5
    """
    rows, columns = (np.abs(np.arange(n) - centre) for n, centre in zip(effective.shape, pixel, strict=True))
    rings = np.bincount(np.maximum(rows[:, None], columns).ravel(), weights=effective.ravel().astype(np.float64))
    enclosed = rings.cumsum()
    if enclosed[-1] == 0:
        return 0
    return 2 * int(np.searchsorted(enclosed, fraction * enclosed[-1])) + 1


def measure_receptive_fields(
    model: nn.Module, images: Tensor, points: Sequence[tuple[int, int]], *, progress: Callable[[int, int], None] | None = None
) -> list[ReceptiveField]:
    """Return the receptive fields of points, averaged down to a size to be stored; arguments as :func:`effective_receptive_fields`."""
    side, measured = theoretical_side(model), []
    for pixel, effective in zip(points, effective_receptive_fields(model, images, points, progress=progress), strict=True):
        theoretical = theoretical_receptive_field(model, pixel, (effective.shape[0], effective.shape[1]))
        measured.append(ReceptiveField(pixel, theoretical, side, shrink(effective, side=SIDE), enclosing_side(effective, pixel)))
    return measured
