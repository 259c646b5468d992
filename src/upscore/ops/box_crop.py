"""Boxes cut out of an image and resized, and scores put back where they lie: bilinear, with antialiasing.

::

    image (C, H, W) ──cut_boxes──► (N, C, side, side) ── network ──► scores (N, K, side, side) ──Canvas.add──► canvas (K, H, W)

On a processor ``native/box`` reads and writes everything once: it resizes maps row by row straight into
the canvas, and all of a batch while a row is at hand. On other devices, for other dtypes and where nobody
compiled it, the same comes from torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.errors import DataError
from upscore.ops.compiled import compiled_for, threads

__all__ = ["Aggregate", "Canvas", "Corners", "cut_boxes", "resized"]

Aggregate = Literal["max", "mean"]
"""How score maps that lie on one another are put together."""

_MOST_BEYOND = 4
"""Boxes of more than this times the image's area are never laid out whole: only what of them is in the image is computed."""

MAX_SIDE = 2**20
"""Pixels of a side of what is resized, or resized to."""

MAX_AREA = 2**28
"""Pixels of a box, with what of it lies beyond the image."""

Corners = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first not covered."""


def cut_boxes(image: Tensor, boxes: list[Corners], side: int) -> Tensor:
    """Return what boxes show, each resized to a square.

    Parameters
    ----------
    image : (C, H, W) floating
        An image. Beyond it there are zeros.
    boxes : list of (int, int, int, int)
        Each meets the image.
    side : int
        Height and width of a square.

    Returns
    -------
    Tensor
        (N, C, side, side), channels-last in memory.

    Raises
    ------
    DataError
        The image is something else, or a box is none, is huge or does not meet it.
    """
    if image.ndim != 3 or not image.is_floating_point() or 0 in image.shape:
        raise DataError(f"found an image of shape {tuple(image.shape)} and type {image.dtype}, expected floats (C, H, W)")
    if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
        raise DataError(f"found side {side}, expected 1 to {MAX_SIDE}")
    _check_boxes(boxes, len(boxes), image.shape[1], image.shape[2])
    height, width = image.shape[-2:]
    cuts = torch.empty((len(boxes), image.shape[0], side, side), dtype=image.dtype, device=image.device, memory_format=torch.channels_last)
    if not boxes:
        return cuts
    if native := compiled_for(image, torch.float32):
        native.crop(image.detach().permute(1, 2, 0).contiguous(), boxes, cuts.permute(0, 2, 3, 1), threads=threads())
        return cuts
    for cut, (left, top, right, bottom) in zip(cuts, boxes, strict=True):
        inside = image[:, max(0, top) : bottom, max(0, left) : right]
        if (bottom - top) * (right - left) > _MOST_BEYOND * height * width:
            rows = _weights(bottom - top, side, (0, side), (max(0, -top), min(bottom, height) - top), image)
            columns = _weights(right - left, side, (0, side), (max(0, -left), min(right, width) - left), image)
            cut.copy_(rows @ inside @ columns.mT)
            continue
        shown = F.pad(inside, (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height)))
        cut.copy_(resized(shown, (side, side)))
    return cuts


class Canvas:
    """Score maps put together, pixel by pixel.

    Parameters
    ----------
    classes, height, width : int
        Its shape.
    aggregate : {"max", "mean"}
        Greatest score over a pixel, or the mean of those there.
    clip : bool
        Count scores below zero as zero.
    device : torch.device
        Where it is.
    """

    def __init__(self, classes: int, height: int, width: int, *, aggregate: Aggregate, clip: bool, device: torch.device) -> None:
        empty = -torch.inf if aggregate == "max" else 0.0
        self._joined = torch.full((height, width, classes), empty, dtype=torch.float32, device=device)
        self._edges = np.zeros((height + 1, width + 1), np.int64)  # of the boxes: summed along both axes, how many lie there
        self.aggregate, self.clip = aggregate, clip

    def add(self, scores: Tensor, boxes: list[Corners]) -> None:
        """Put scores (N, K, h, w) where N boxes lie that meet the canvas, one after another.

        Raises
        ------
        DataError
            The scores are of other classes or another number of boxes, or a box is none, is huge or does not
            meet the canvas. Nothing is put anywhere then.
        """
        height, width, classes = self._joined.shape
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
            native.paste(scores.detach().permute(0, 2, 3, 1).contiguous(), boxes, self._joined, join, self.clip, threads=threads())
            return
        for one, (left, top, right, bottom), shown in zip(scores, boxes, visible, strict=True):
            if (bottom - top) * (right - left) > _MOST_BEYOND * height * width:
                rows = _weights(one.shape[1], bottom - top, (shown[1] - top, shown[3] - top), (0, one.shape[1]), one)
                columns = _weights(one.shape[2], right - left, (shown[0] - left, shown[2] - left), (0, one.shape[2]), one)
                part = (rows @ one @ columns.mT).float().permute(1, 2, 0)
            else:
                part = resized(one, (bottom - top, right - left)).float()
                part = part[:, shown[1] - top : shown[3] - top, shown[0] - left : shown[2] - left].permute(1, 2, 0)
            part = part.clamp_min(0) if self.clip else part
            there = self._joined[shown[1] : shown[3], shown[0] : shown[2]]
            there.copy_(torch.maximum(there, part) if self.aggregate == "max" else there + part)

    def scores(self) -> Tensor:
        """Return a copy of the canvas (K, H, W) float32 as it is now; zero where nothing lies."""
        count = torch.from_numpy(self._edges.cumsum(0).cumsum(1)[:-1, :-1, None]).to(self._joined.device)
        found = self._joined.masked_fill(count == 0, 0.0) if self.aggregate == "max" else self._joined / count.clamp_min(1)
        return found.permute(2, 0, 1)


def _check_boxes(boxes: list[Corners], count: int, height: int, width: int) -> None:
    if len(boxes) != count:
        raise DataError(f"found {len(boxes)} boxes for {count} maps of scores, expected one each")
    for number, box in enumerate(boxes):
        if len(box) != 4 or not all(isinstance(corner, int | np.integer) for corner in box):
            raise DataError(f"box {number} is {box}, expected whole numbers: left, top, right, bottom")
        left, top, right, bottom = map(int, box)
        if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
            raise DataError(f"box {number} is {box}, expected one that is not empty and meets the image of {height}×{width}")
        if max(right - left, bottom - top) > MAX_SIDE or (right - left) * (bottom - top) > MAX_AREA:
            raise DataError(f"box {number} is {box}, expected at most {MAX_SIDE} pixels a side and {MAX_AREA} in all")


def resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (C, H, W) or (N, C, H, W) at another size, bilinear with antialiasing."""
    if planes.shape[-2:] == size:
        return planes
    if planes.ndim == 3:
        return resized(planes[None], size)[0]
    if size[1] == 1 and planes.shape[-1] > 1:
        planes = _resized(planes, (planes.shape[-2], 1))
    if size[1] == 1:
        # torch 2.13 mixes up the rows of antialiased NCHW outputs one pixel wide, but not of those one pixel high.
        return _resized(planes.mT, (1, size[0])).mT
    return _resized(planes, size)


def _weights(source: int, target: int, targets: tuple[int, int], sources: tuple[int, int], like: Tensor) -> Tensor:
    """Return the matrix from some positions of an axis of ``source`` to some of it resized to ``target``, as :func:`resized` does.

    Positions of the source that are left out count as zeros.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (torch.arange(*targets, dtype=torch.float64) + 0.5) * scale
    first = (centres - support + 0.5).clamp_min(0).floor()
    count = int(2 * support) + 2
    places = first[:, None] + torch.arange(count, dtype=torch.float64)  # all that a target hears, whether left out or not
    heard = (1 - ((places + 0.5 - centres[:, None]) / support).abs()).clamp_min(0) * (places < source)
    heard = heard / heard.sum(1, keepdim=True)
    inside = (places >= sources[0]) & (places < sources[1])
    columns = (places - sources[0]).clamp(0, sources[1] - sources[0] - 1).long()
    matrix = torch.zeros(len(centres), sources[1] - sources[0], dtype=torch.float64).scatter_add_(1, columns, heard * inside)
    return matrix.to(like.device, like.dtype)


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
