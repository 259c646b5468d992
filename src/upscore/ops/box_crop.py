"""Crop boxes from an image and resize them; resize scores and paste them back: bilinear, with antialiasing.

::

    image (C, H, W) ──crop_boxes──► (N, C, side, side) ── network ──► scores (N, K, side, side) ──Canvas.add──► canvas (K, H, W)

On the CPU ``native/box`` reads and writes each value once: it resizes all maps of a batch row by row
straight into the canvas. Other devices and dtypes, and installations without it, use torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import DataError
from upscore.ops.compiled import compiled_for, threads

__all__ = ["Canvas", "crop_boxes", "resize"]

_MAX_PADDED = 4
"""Of boxes larger than this times the image's area, only the part inside the image is computed."""

MAX_SIDE = 2**20
"""Pixels on a side, before or after resizing."""

MAX_AREA = 2**28
"""Pixels of a box, with its part outside the image."""

Corners = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


def crop_boxes(image: Tensor, boxes: list[Corners], side: int) -> Tensor:
    """Return the boxes of an image, each resized to a square: (N, C, side, side), channels-last in memory.

    Parameters
    ----------
    image : (C, H, W) floating
        It is padded with zeros.
    boxes : list of (int, int, int, int)
        Left, top, right, bottom; each overlaps the image.
    side : int
        Height and width of the squares.

    Raises
    ------
    DataError
        The image is not (C, H, W) floats, or a box is invalid, too large or outside the image.

    Examples
    --------
    >>> crop_boxes(torch.arange(9.0).view(1, 3, 3), [(1, 1, 3, 3), (2, 0, 4, 2)], 2).tolist()
    [[[[4.0, 5.0], [7.0, 8.0]]], [[[2.0, 0.0], [5.0, 0.0]]]]
    """
    if image.ndim != 3 or not image.is_floating_point() or 0 in image.shape:
        raise DataError(f"found an image of shape {tuple(image.shape)} and type {image.dtype}, expected floats (C, H, W)")
    if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
        raise DataError(f"found side {side}, expected 1 to {MAX_SIDE}")
    _check_boxes(boxes, len(boxes), image.shape[1], image.shape[2])
    height, width = image.shape[-2:]
    crops = torch.empty((len(boxes), image.shape[0], side, side), dtype=image.dtype, device=image.device, memory_format=torch.channels_last)
    if not boxes:
        return crops
    if native := compiled_for(image, torch.float32):
        native.crop(image.detach().permute(1, 2, 0).contiguous(), boxes, crops.permute(0, 2, 3, 1), threads=threads())
        return crops
    for crop, (left, top, right, bottom) in zip(crops, boxes, strict=True):
        inside = image[:, max(0, top) : bottom, max(0, left) : right]
        if (bottom - top) * (right - left) > _MAX_PADDED * height * width:
            rows = _weights(bottom - top, side, (0, side), (max(0, -top), min(bottom, height) - top), image)
            columns = _weights(right - left, side, (0, side), (max(0, -left), min(right, width) - left), image)
            crop.copy_(rows @ inside @ columns.mT)
            continue
        padded = F.pad(inside, (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height)))
        crop.copy_(resize(padded, (side, side)))
    return crops


class Canvas:
    """Score maps of overlapping boxes, aggregated at each pixel.

    ``aggregate`` is the maximum, the mean or the sum of the scores at a pixel; with ``clip`` negative scores become zero before.

    >>> canvas = Canvas(1, 2, 4, aggregate="mean", clip=False, device=torch.device("cpu"))
    >>> canvas.add(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), [(0, 0, 2, 1), (1, 0, 3, 1)])
    >>> canvas.scores().tolist()
    [[[1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
    """

    def __init__(
        self, classes: int, height: int, width: int, *, aggregate: Literal["max", "mean", "sum"], clip: bool, device: torch.device
    ) -> None:
        initial = -torch.inf if aggregate == "max" else 0.0
        self._aggregated = torch.full((height, width, classes), initial, dtype=torch.float32, device=device)
        self._edges = np.zeros((height + 1, width + 1), np.int64)  # the sum along both axes counts the boxes over each pixel
        self.aggregate, self.clip = aggregate, clip

    def add(self, scores: Tensor, boxes: list[Corners]) -> None:
        """Resize scores (N, K, h, w) to N boxes that overlap the canvas, and aggregate them.

        Raises
        ------
        DataError
            The number of classes or of boxes differs, or a box is invalid, too large or outside the
            canvas. The canvas is unchanged then.
        """
        height, width, classes = self._aggregated.shape
        if scores.ndim != 4 or scores.shape[1] != classes or not scores.is_floating_point() or 0 in scores.shape[2:]:
            raise DataError(f"found scores of shape {tuple(scores.shape)} and type {scores.dtype}, expected floats (N, {classes}, h, w)")
        if max(scores.shape[2:]) > MAX_SIDE:
            raise DataError(f"found scores of {scores.shape[2]}×{scores.shape[3]} pixels, expected at most {MAX_SIDE} a side")
        _check_boxes(boxes, len(scores), height, width)
        if not boxes:
            return
        visible = [(max(0, left), max(0, top), min(width, right), min(height, bottom)) for left, top, right, bottom in boxes]
        for left, top, right, bottom in visible:
            self._edges[[top, bottom], [left, right]] += 1
            self._edges[[top, bottom], [right, left]] -= 1
        if native := compiled_for(scores, torch.float32):
            join = "max" if self.aggregate == "max" else "sum"
            native.paste(scores.detach().permute(0, 2, 3, 1).contiguous(), boxes, self._aggregated, join, self.clip, threads=threads())
            return
        for score_map, (left, top, right, bottom), inside in zip(scores, boxes, visible, strict=True):
            if (bottom - top) * (right - left) > _MAX_PADDED * height * width:
                rows = _weights(scores.shape[2], bottom - top, (inside[1] - top, inside[3] - top), (0, scores.shape[2]), scores)
                columns = _weights(scores.shape[3], right - left, (inside[0] - left, inside[2] - left), (0, scores.shape[3]), scores)
                part = (rows @ score_map @ columns.mT).float().permute(1, 2, 0)
            else:
                part = resize(score_map, (bottom - top, right - left)).float()
                part = part[:, inside[1] - top : inside[3] - top, inside[0] - left : inside[2] - left].permute(1, 2, 0)
            part = part.clamp_min(0) if self.clip else part
            covered = self._aggregated[inside[1] : inside[3], inside[0] : inside[2]]
            covered.copy_(torch.maximum(covered, part) if self.aggregate == "max" else covered + part)

    def scores(self) -> Tensor:
        """Return the aggregated scores (K, H, W) float32, a copy; zero at pixels without a box."""
        if self.aggregate == "sum":
            return self._aggregated.permute(2, 0, 1).clone()
        count = torch.from_numpy(self._edges.cumsum(0).cumsum(1)[:-1, :-1, None]).to(self._aggregated.device)
        scores = self._aggregated.masked_fill(count == 0, 0.0) if self.aggregate == "max" else self._aggregated / count.clamp_min(1)
        return scores.permute(2, 0, 1)


def _check_boxes(boxes: list[Corners], count: int, height: int, width: int) -> None:
    if len(boxes) != count:
        raise DataError(f"found {len(boxes)} boxes for {count} score maps, expected one each")
    for number, box in enumerate(boxes):
        if len(box) != 4 or not all(isinstance(corner, int | np.integer) for corner in box):
            raise DataError(f"box {number} is {box}, expected whole numbers: left, top, right, bottom")
        left, top, right, bottom = map(int, box)
        if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
            raise DataError(f"box {number} is {box}, expected one that is not empty and overlaps the image of {height}×{width}")
        if max(right - left, bottom - top) > MAX_SIDE or (right - left) * (bottom - top) > MAX_AREA:
            raise DataError(f"box {number} is {box}, expected at most {MAX_SIDE} pixels a side and {MAX_AREA} in all")


def resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (C, H, W) or (N, C, H, W) resized, bilinear with antialiasing."""
    if planes.shape[-2:] == size:
        return planes
    if planes.ndim == 3:
        return resize(planes[None], size)[0]
    if size[1] == 1 and planes.shape[-1] > 1:
        planes = _interpolate(planes, (planes.shape[-2], 1))
    if size[1] == 1:
        # torch 2.13 mixes up the rows of antialiased NCHW outputs one pixel wide, but not of those one pixel high.
        return _interpolate(planes.mT, (1, size[0])).mT
    return _interpolate(planes, size)


def _weights(source: int, target: int, targets: tuple[int, int], sources: tuple[int, int], like: Tensor) -> Tensor:
    """Return the matrix by which :func:`resize` maps the positions ``sources`` of an axis to the positions ``targets``.

    ``source`` and ``target`` are the full lengths; source positions that are left out count as zeros.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (torch.arange(*targets, dtype=torch.float64) + 0.5) * scale
    first = (centres - support + 0.5).clamp_min(0).floor()
    count = int(2 * support) + 2
    positions = first[:, None] + torch.arange(count, dtype=torch.float64)  # of the filter's support
    weights = (1 - ((positions + 0.5 - centres[:, None]) / support).abs()).clamp_min(0) * (positions < source)
    weights = weights / weights.sum(1, keepdim=True)
    inside = (positions >= sources[0]) & (positions < sources[1])
    columns = (positions - sources[0]).clamp(0, sources[1] - sources[0] - 1).long()
    matrix = torch.zeros(len(centres), sources[1] - sources[0], dtype=torch.float64).scatter_add_(1, columns, weights * inside)
    return matrix.to(like.device, like.dtype)


def _interpolate(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
