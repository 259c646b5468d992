"""Elastic deformation: a smooth random displacement field, and resampling along it.

Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, §3.1: "random displacement vectors on a
coarse 3 by 3 grid", "from a Gaussian distribution with 10 pixels standard deviation", and
"per-pixel displacements ... using bicubic interpolation". Many ports use smoothed noise
for every pixel instead (Simard and others 2003).

::

    vectors (2, 3, 3) ── bicubic ──> displacement of each pixel (2, H, W) ──┐
    flip, rotation, scale, crop as one affine map ──────────────────────────┴──> where each pixel is read
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["displacement_field", "remap"]

CUBIC = -0.75
"""The free parameter of Keys's cubic (1981): OpenCV's and torch's choice."""

_Coordinates = npt.NDArray[np.float64]


def displacement_field(vectors: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Interpolate vectors on a coarse grid, whose corners are those of the image, bicubically.

    Parameters
    ----------
    vectors : (2, G, G) float64
        Displacement down and across at each knot, in pixels; G at least 2.
    size : (int, int)
        Height and width of the field.

    Returns
    -------
    (2, H, W) float64
        Exactly the vectors at the knots; the outermost ones are replicated beyond the grid.

    Examples
    --------
    >>> displacement_field(np.array([[[0.0, 4.0], [0.0, 4.0]]] * 2), (1, 3))[0].tolist()
    [[0.0, 2.0, 4.0]]
    """
    down, across = (_cubic(length, vectors.shape[1]) for length in size)
    return np.asarray(down @ vectors @ across.T)


def _cubic(length: int, knots: int) -> npt.NDArray[np.float64]:
    """Return the weights (length, knots) of one axis: knot 0 at pixel 0, the last at the last pixel."""
    positions = np.linspace(0, knots - 1, length) if length > 1 else np.full(1, (knots - 1) / 2)
    weights = np.zeros((length, knots))
    for offset in (-1, 0, 1, 2):
        knot = np.floor(positions).astype(int) + offset
        t = np.abs(positions - knot)
        near = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1
        far = CUBIC * (((t - 5) * t + 8) * t - 4)
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0))
        np.add.at(weights, (np.arange(length), knot.clip(0, knots - 1)), weight)
    return weights


def remap(
    plane: npt.NDArray[Any], rows: _Coordinates, columns: _Coordinates, *, fill: Any, mirror: bool, smooth: bool = False
) -> npt.NDArray[Any]:
    """Resample ``plane``: pixel (i, j) of the result is ``plane`` at (``rows[i, j]``, ``columns[i, j]``), centres at whole numbers.

    ``plane`` is (H, W, C) of up to four bands or (H, W), ``rows`` and ``columns`` are (h, w), and the result is (h, w, C) or (h, w),
    C-contiguous. Bands and floating-point planes, and others with ``smooth``, are interpolated linearly, integers taken from the nearest
    pixel. Beyond its edges the plane is ``fill``, or reflected with ``mirror``.
    """
    height, width = plane.shape[:2]
    if mirror:
        rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    if smooth or plane.ndim == 3 or plane.dtype.kind == "f":
        border = cv2.BORDER_REPLICATE if mirror else cv2.BORDER_CONSTANT
        (top, bottom), (left, right) = _range_read(rows, height), _range_read(columns, width)  # cv2.remap's positions have 16 bits
        x, y, plane = (columns - left).astype(np.float32), (rows - top).astype(np.float32), plane[top:bottom, left:right]
        return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=fill))
    row, column = np.floor(rows + 0.5).astype(np.int32), np.floor(columns + 0.5).astype(np.int32)
    nearest = plane[row.clip(0, height - 1), column.clip(0, width - 1)]
    if not mirror:
        nearest[(row < 0) | (row >= height) | (column < 0) | (column >= width)] = fill
    return np.asarray(nearest)


def _range_read(coordinates: _Coordinates, size: int) -> tuple[int, int]:
    """Return the first and one past the last pixel that interpolation reads; at least one pixel."""
    first = min(max(int(coordinates.min()) - 1, 0), size - 1)
    return first, max(min(int(coordinates.max()) + 3, size), first + 1)


def _mirrored(coordinates: _Coordinates, size: int) -> _Coordinates:
    """Fold coordinates back into an image of ``size`` pixels about its edges, half a pixel beyond the outermost centres."""
    period = (coordinates + 0.5) / (2 * size)
    period -= np.floor(period)
    folded: _Coordinates = np.minimum(period, 1 - period) * (2 * size) - 0.5
    return folded.clip(0, size - 1)
