"""The geometric part of augmentation: crop, scale, flips, rotation and elastic displacement as one map.

Pixel ``i`` covers the interval from ``i`` to ``i + 1``, its centre at ``i + 0.5``: scaling
by ``s`` puts centre ``x`` (pixel 0 at 0) at ``(x + 0.5) * s - 0.5``. Image and label go
through the same map, the image interpolated and the label by its nearest pixel, so they
agree within half a pixel. Without rotation and elastic deformation the image is cropped first
and resized afterwards, which costs a fraction of a warp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.band_groups import map_bands
from upscore.data.elastic import remap

__all__ = ["AxisCrop", "GeometricTransform", "sample_axis_crop"]


@dataclass(frozen=True)
class AxisCrop:
    """One axis of the crop: its ``length`` pixels from ``target`` on show the image's ``span`` pixels from ``source`` on."""

    source: int
    span: int
    target: int
    length: int
    size: int  # of the crop, padding included

    @property
    def step(self) -> float:
        """Image pixels for each pixel of the crop."""
        return self.span / self.length

    @property
    def shift(self) -> float:
        """Image coordinate of the crop's pixel 0, centres at whole numbers."""
        return self.source - 0.5 + (0.5 - self.target) * self.step

    @property
    def is_full(self) -> bool:
        """Whether the crop has no padding along this axis."""
        return self.length == self.size

    def is_identity(self, size: int) -> bool:
        """Whether the crop is the image's ``size`` pixels, unscaled."""
        return (self.source, self.span, self.target, self.length, self.size) == (0, size, 0, size, size)


def sample_axis_crop(size: int, crop: int | None, scale: float, position: float) -> AxisCrop:
    """Return one axis of a crop of the resized image.

    ``size`` is the image's, ``crop`` the crop's along this axis; without one it is the whole image, resized by ``scale``.
    ``position`` in [0, 1) is that of the crop among all possible ones, or of a smaller image in its padded crop.

    >>> sample_axis_crop(100, 20, 0.5, 0.0)
    AxisCrop(source=0, span=40, target=0, length=20, size=20)
    """
    scaled = max(1, round(size * scale))
    if crop is None:
        return AxisCrop(0, size, 0, scaled, scaled)
    if scaled <= crop:
        return AxisCrop(0, size, int(position * (crop - scaled + 1)), scaled, crop)
    span = min(size, max(1, round(crop / scale)))
    return AxisCrop(int(position * (size - span + 1)), span, 0, crop, crop)


@dataclass(frozen=True)
class GeometricTransform:
    """Maps every pixel of the crop to the image: the same for each plane of a sample."""

    down: AxisCrop  #: the crop's rows
    across: AxisCrop  #: its columns
    flip_x: bool  #: left to right
    flip_y: bool  #: top to bottom
    angle: float  #: of a rotation about the crop's centre, in radians
    field: npt.NDArray[np.float64] | None  #: (2, H, W) displacement of each pixel of the crop down and across, in its pixels
    mirror: bool  #: whether images are reflected beyond their edges

    def is_identity(self, height: int, width: int) -> bool:
        """Whether the crop is the unchanged image."""
        moved = self.flip_x or self.flip_y or self.angle != 0 or self.field is not None
        return not moved and self.down.is_identity(height) and self.across.is_identity(width)

    def __call__(self, plane: npt.NDArray[Any], *, fill: Any) -> npt.NDArray[Any]:
        """Transform ``plane``: the bands of an image and floating-point planes are interpolated, integers taken from the nearest pixel.

        ``fill`` is a number, or one for each band.
        """
        if plane.ndim == 3:
            return map_bands(lambda bands, values: self._of_plane(bands, fill=values, smooth=True), plane, tuple(fill))
        return self._of_plane(plane, fill=fill, smooth=plane.dtype.kind == "f")

    def _of_plane(self, plane: npt.NDArray[Any], *, fill: Any, smooth: bool) -> npt.NDArray[Any]:
        if self.angle == 0 and self.field is None:
            return self._resized(plane, fill=fill, smooth=smooth)
        return self._warped(plane, fill=fill, smooth=smooth)

    def _resized(self, plane: npt.NDArray[Any], *, fill: Any, smooth: bool) -> npt.NDArray[Any]:
        """Crop, resize, flip and pad."""
        down, across = self.down, self.across
        crop = plane[down.source : down.source + down.span, across.source : across.source + across.span]
        if crop.shape[:2] != (down.length, across.length):
            # Linear interpolation reads two pixels along each axis; where it would skip some, average them all.
            shrinks = down.step >= 2 or across.step >= 2
            interpolation = (cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST_EXACT
            crop = cv2.resize(crop, (across.length, down.length), interpolation=interpolation)
        if self.flip_x or self.flip_y:
            crop = cv2.flip(crop, -1 if self.flip_x and self.flip_y else int(self.flip_x))
        if not (down.is_full and across.is_full):
            left = across.size - across.target - across.length if self.flip_x else across.target
            above = down.size - down.target - down.length if self.flip_y else down.target
            below, right = down.size - above - down.length, across.size - left - across.length
            return np.asarray(cv2.copyMakeBorder(crop, above, below, left, right, self._beyond, value=fill))
        return np.ascontiguousarray(crop)

    def _warped(self, plane: npt.NDArray[Any], *, fill: Any, smooth: bool) -> npt.NDArray[Any]:
        """Flip, rotate about the crop's centre, scale, shift and displace in one warp."""
        to_plane = np.eye(3)
        shrink = max(1, int(self.across.step)), max(1, int(self.down.step))
        if smooth and shrink != (1, 1):  # average what linear interpolation would skip
            height, width = plane.shape[:2]
            plane = cv2.resize(plane, (max(1, width // shrink[0]), max(1, height // shrink[1])), interpolation=cv2.INTER_AREA)
            ratio_x, ratio_y = plane.shape[1] / width, plane.shape[0] / height
            to_plane = _scaling(ratio_x, ratio_x / 2 - 0.5, ratio_y, ratio_y / 2 - 0.5)
        if self.field is not None:
            rows, columns = self._displaced
            if smooth and shrink != (1, 1):
                rows, columns = to_plane[1, 1] * rows + to_plane[1, 2], to_plane[0, 0] * columns + to_plane[0, 2]
            return remap(plane, rows, columns, fill=fill, mirror=self.mirror, smooth=smooth)
        to_source = (to_plane @ self._affine)[:2]
        warp = partial(cv2.warpAffine, M=to_source, dsize=(self.across.size, self.down.size), borderMode=self._beyond, borderValue=fill)
        if smooth:
            return np.asarray(warp(plane, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR))
        # Byte by byte: OpenCV warps no int32, and breaks ties of "nearest" differently for other types.
        byte_planes = np.ascontiguousarray(plane).view(np.uint8).reshape(*plane.shape, plane.itemsize)
        warped = [warp(byte_plane, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST) for byte_plane in np.moveaxis(byte_planes, 2, 0).copy()]
        return np.stack(warped, axis=2).view(plane.dtype)[..., 0]

    @property
    def _affine(self) -> npt.NDArray[np.float64]:
        """The map from the crop to the image without the displacement, (3, 3), x before y."""
        down, across = self.down, self.across
        x, y = (across.size - 1) / 2, (down.size - 1) / 2
        flip = np.diag([-1.0 if self.flip_x else 1.0, -1.0 if self.flip_y else 1.0, 1])
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        about_centre = _scaling(1, x, 1, y) @ rotation @ flip @ _scaling(1, -x, 1, -y)
        return np.asarray(_scaling(across.step, across.shift, down.step, down.shift) @ about_centre)

    @cached_property
    def _displaced(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Row and column of the image that each pixel of the crop shows, computed once for all planes."""
        assert self.field is not None
        y = self.field[0] + np.arange(self.down.size)[:, None]
        x = self.field[1] + np.arange(self.across.size)
        columns, rows = (a * x + b * y + c for a, b, c in self._affine[:2])
        return rows, columns

    @property
    def _beyond(self) -> int:
        """OpenCV's border mode; it reflects about the image's edge, which scaling does not move."""
        return int(cv2.BORDER_REFLECT if self.mirror else cv2.BORDER_CONSTANT)


def _scaling(step_x: float, shift_x: float, step_y: float, shift_y: float) -> npt.NDArray[np.float64]:
    """Return the map ``x -> step_x * x + shift_x`` and likewise for y, as a (3, 3) matrix."""
    return np.array([[step_x, 0, shift_x], [0, step_y, shift_y], [0, 0, 1]])
