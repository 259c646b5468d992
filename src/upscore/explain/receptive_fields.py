"""What a score could look at, and what it does look at.

Wenjie Luo, Yujia Li, Raquel Urtasun, Richard Zemel, "Understanding the Effective Receptive
Field in Deep Convolutional Neural Networks", NIPS 2016 (arXiv 1701.04128). The theoretical
field of a score is a rectangle that follows from the layers' sizes, whatever the weights
are. The effective one is how much each pixel of the image moves the score: the size of
its derivative, which depends on weights and image, and mostly lies near the middle::

    score  s = logits[k, row, column]          k the class predicted there, before the softmax
    field  |∂s / ∂image| summed over R, G, B   (H, W)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.errors import DataError
from upscore.inference.segmenter import evaluation_mode
from upscore.inference.tile_grid import Window
from upscore.ops.geometry import Geometry

__all__ = ["Field", "describe_fields", "effective_field", "effective_fields", "enclosing_side", "theoretical_field", "theoretical_side"]

HELD = 0.95
"""The share of an effective field that its square holds."""

SIDE = 220
"""Longer side of a field that is kept, in cells; larger ones are averaged down to it."""


@dataclass(frozen=True)
class Field:
    """What moves the score of the class predicted at one pixel.

    Parameters
    ----------
    at : (int, int)
        Row and column.
    theoretical : Window
        Outside it nothing can.
    side : int or float
        Of the whole theoretical square, of which ``theoretical`` is what lies on the image; may be infinite.
    heat : (h, w) float32
        The effective field, averaged down where a side was above 220 pixels.
    held_side : int
        Side of the least square around the pixel that holds 95 % of the effective field; 0 where that is 0.
    """

    at: tuple[int, int]
    theoretical: Window
    side: int | float
    heat: npt.NDArray[np.float32]
    held_side: int


def theoretical_side(model: nn.Module) -> int | float:
    """Return the side in pixels of the square around a pixel outside which nothing can move its scores.

    That is the field of a cell of the coarsest grid, and one jump more on either side: a
    pixel's score mixes the cells around it, and need not lie in the middle of one.

    Parameters
    ----------
    model : nn.Module
        Its ``geometry`` says jump and field.

    Returns
    -------
    int or float
        Odd; infinite where a layer looks at the whole image, or the network does not say.
    """
    geometry: Geometry | None = getattr(model, "geometry", None)
    if geometry is None or geometry.receptive_field == math.inf:
        return math.inf
    reach = math.floor((geometry.receptive_field - 1) / 2 + geometry.stride)
    return 2 * reach + 1


def theoretical_field(model: nn.Module, at: tuple[int, int], size: tuple[int, int]) -> Window:
    """Return the part of the image that can move the scores of a pixel.

    Parameters
    ----------
    model : nn.Module
        As in :func:`theoretical_side`.
    at : (int, int)
        Row and column.
    size : (int, int)
        H and W of the image, at whose edges the field ends.
    """
    side = theoretical_side(model)
    if side == math.inf:
        return Window(0, 0, *size)
    reach = int(side) // 2
    (row, column), (height, width) = at, size
    return Window(max(0, row - reach), max(0, column - reach), min(height, row + reach + 1), min(width, column + reach + 1))


def effective_field(model: nn.Module, images: Tensor, at: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return how much each pixel moves the score of the class that is predicted at one.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits of the same size; borrowed, and evaluated in evaluation mode.
    images : (1, C, H, W) float in [0, 1]
        One image, on the network's device.
    at : (int, int)
        Row and column.

    Returns
    -------
    (H, W) float32
        At least 0, in logits per unit of a channel; all 0 where the score is a constant.

    Raises
    ------
    DataError
        The pixel is outside the image, or there is more than one image.
    """
    return effective_fields(model, images, [at])[0]


def effective_fields(
    model: nn.Module, images: Tensor, points: Sequence[tuple[int, int]], *, progress: Callable[[int, int], None] | None = None
) -> list[npt.NDArray[np.float32]]:
    """Return the :func:`effective_field` of each point; the network runs forward once, and back for each.

    Parameters
    ----------
    model, images
        As there.
    points : sequence of (int, int)
        Rows and columns.
    progress : callable, optional
        Told (done, total) after each.
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


def enclosing_side(field: npt.NDArray[np.float32], at: tuple[int, int], *, share: float = 0.95) -> int:
    """Return the side of the least square around a pixel that holds a share of its effective field.

    Parameters
    ----------
    field : (H, W) float
        Of :func:`effective_field`.
    at : (int, int)
        Row and column, the square's centre; the square may reach beyond the image.
    share : float
        Of the sum over the image, above 0 and at most 1.

    Returns
    -------
    int
        Odd; 0 for a field that is 0 everywhere.
    """
    rows, columns = (np.abs(np.arange(n) - centre) for n, centre in zip(field.shape, at, strict=True))
    rings = np.bincount(np.maximum(rows[:, None], columns).ravel(), weights=field.ravel().astype(np.float64))
    held = rings.cumsum()
    if held[-1] == 0:
        return 0
    return 2 * int(np.searchsorted(held, share * held[-1])) + 1


def describe_fields(
    model: nn.Module, images: Tensor, points: Sequence[tuple[int, int]], *, progress: Callable[[int, int], None] | None = None
) -> list[Field]:
    """Return the fields of points, small enough to be kept.

    Parameters
    ----------
    model, images, points, progress
        As in :func:`effective_fields`.
    """
    side, described = theoretical_side(model), []
    for at, field in zip(points, effective_fields(model, images, points, progress=progress), strict=True):
        height, width = field.shape
        scale = min(1.0, SIDE / max(height, width))
        heat = cv2.resize(field, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
        window = theoretical_field(model, at, (height, width))
        described.append(Field(at, window, side, np.asarray(heat, np.float32), enclosing_side(field, at, share=HELD)))
    return described
