"""Bilinear upsampling as Long, Shelhamer and Darrell (2015, §3.3) define it: a transposed convolution.

A transposed convolution of stride ``factor`` whose kernel is the bilinear filter of size
``2 * factor`` (or ``2 * factor - 1``) reaches each output pixel from two cells along each
axis. With ``p`` the pixel's place in the full extent and ``r = p mod factor``::

    cells              i               i + 1            i = p // factor - 1
                       │                 │
    weights      1 - later[r]         later[r]          even kernel: later[r] = (r + 1/2) / factor
                       └──────► p ◄──────┘              odd kernel:  later[r] = (r + 1) / factor

so the frozen layer is a linear interpolation between neighbouring rows, after one between
neighbouring columns: the same numbers without the multiplications by zero. Its derivative
is the transposed sum. Only a learned layer is computed as a convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError

__all__ = ["BilinearUpsample", "bilinear_weights"]


def bilinear_weights(kernel: int, factor: int) -> Tensor:
    """Return the bilinear filter of a transposed convolution along one axis.

    Parameters
    ----------
    kernel : int
        ``2 * factor`` (output pixels lie between cells) or ``2 * factor - 1`` (some lie on them).
    factor : int
        The transposed convolution's stride, at least 1.

    Returns
    -------
    Tensor
        (kernel,) float64; the two-dimensional kernel is its outer product with itself, and
        the levels that reach one pixel sum to 1.

    Raises
    ------
    ModelError
        The factor is below 1 or the kernel is of neither size.

    References
    ----------
    Long, Shelhamer, Darrell (2015), §3.3; the weights ``1 - |i - c| / f`` of Caffe's filler.
    """
    if factor < 1 or kernel not in (2 * factor, 2 * factor - 1):
        raise ModelError(
            f"found kernel {kernel} for upsampling factor {factor}, expected {2 * factor} or {2 * factor - 1}: "
            "only these interpolate between two cells"
        )
    reach = (kernel + 1) // 2
    centre = (kernel - 1) / 2
    return 1 - (torch.arange(kernel, dtype=torch.float64) - centre).abs() / reach


class BilinearUpsample(nn.Module):
    """Upsample each channel by a transposed convolution that starts as bilinear interpolation.

    Parameters
    ----------
    channels : int
        K, the number of classes; every one is upsampled by itself.
    factor : int
        How much finer the output grid is; the transposed convolution's stride.
    kernel : int, optional
        ``2 * factor``, the default, or ``2 * factor - 1``: :meth:`Geometry.bilinear_kernel` says which.
    learned : bool
        False keeps the weights bilinear: there are no parameters, and nothing is saved. True
        makes them a parameter ``weight`` (K, 1, kernel, kernel).
    border : {"zeros", "replicate"}
        What lies beyond the map: zeros, as in the papers (scores fade out over the last half
        kernel), or the outermost cells repeated without end.

    Raises
    ------
    ModelError
        A size is impossible, or ``border`` is neither of the two.
    """

    weight: nn.Parameter | None

    def __init__(self, channels: int, *, factor: int, kernel: int | None = None, learned: bool = False, border: str = "zeros") -> None:
        super().__init__()
        kernel = 2 * factor if kernel is None else kernel
        if channels < 1:
            raise ModelError(f"found {channels} channels to upsample, expected at least 1")
        if border not in ("zeros", "replicate"):
            raise ModelError(f"found border '{border}', expected 'zeros' or 'replicate'")
        filter_ = bilinear_weights(kernel, factor)
        self.channels, self.factor, self.kernel, self.border = channels, factor, kernel, border
        if learned:
            square = torch.outer(filter_, filter_).to(torch.get_default_dtype())
            self.weight = nn.Parameter(square.expand(channels, 1, kernel, kernel).clone())
        else:
            self.register_parameter("weight", None)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        learned = self.weight is not None
        return f"{self.channels}, factor={self.factor}, kernel={self.kernel}, learned={learned}, border={self.border!r}"

    def extent(self, size: int) -> int:
        """Return how many pixels the whole transposed convolution of ``size`` cells has."""
        return (size - 1) * self.factor + self.kernel

    def forward(self, x: Tensor, *, offset: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> Tensor:
        """Return the window ``[offset, offset + size)`` of the transposed convolution of ``x``.

        Parameters
        ----------
        x : (N, K, h, w) floating
            Scores; any h and w from 1.
        offset : (int, int)
            First row and column of the window in the full extent
            ``((h - 1) * factor + kernel, (w - 1) * factor + kernel)``; may be negative.
        size : (int, int), optional
            Rows and columns of the window, which may run past the extent and may be empty;
            all that is left after ``offset`` when not given.

        Returns
        -------
        Tensor
            (N, K, H, W), of x's dtype and device. Beyond the extent it is zero or, with
            ``border="replicate"``, what the endlessly repeated border cells give.

        Raises
        ------
        ModelError
            ``x`` is not (N, K, h, w) with the K this layer was made for.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ModelError(f"found scores of shape {tuple(x.shape)} to upsample, expected (N, {self.channels}, h, w)")
        h, w = x.shape[-2:]
        if size is None:
            size = (max(0, self.extent(h) - offset[0]), max(0, self.extent(w) - offset[1]))
        cells = self._reached(self._reached(x, -2, offset[0], size[0]), -1, offset[1], size[1])
        top, left = offset[0] % self.factor, offset[1] % self.factor
        if self.weight is not None:
            top, left = top + self.factor, left + self.factor
            whole = F.conv_transpose2d(cells, self.weight, stride=self.factor, groups=self.channels)
            return whole[..., top : top + size[0], left : left + size[1]]
        later = self._later(cells)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return _matrix(cells.shape[-2], later, top, size[0]) @ (cells @ _matrix(cells.shape[-1], later, left, size[1]).mT)
        columns = torch.lerp(cells[..., :-1, None], cells[..., 1:, None], later).flatten(-2)[..., left : left + size[1]]
        return cast(Tensor, _Rows.apply(columns, later, top, size[0]))  # type: ignore[no-untyped-call]

    def _reached(self, x: Tensor, axis: int, offset: int, size: int) -> Tensor:
        """Return the cells that reach the window along ``axis``: those of ``x``, and border beyond."""
        length = x.shape[axis]
        index = torch.arange(offset // self.factor - 1, (offset + size - 1) // self.factor + 1, device=x.device)
        cells = x.index_select(axis, index.clamp(0, length - 1))
        if self.border == "replicate":
            return cells
        outside = (index < 0) | (index >= length)
        return cells.masked_fill(outside[:, None] if axis == -2 else outside, 0)

    def _later(self, x: Tensor) -> Tensor:
        """Return (factor,): the weight of the later of two cells at each phase."""
        shift = 0.5 if self.kernel == 2 * self.factor else 1.0
        return (torch.arange(self.factor, dtype=x.dtype, device=x.device) + shift) / self.factor


def _matrix(cells: int, later: Tensor, first: int, size: int) -> Tensor:
    """Return (size, cells): the interpolation along one axis as a matrix.

    Two products, mostly with zeros, but few steps: for graphs whose sizes are symbols, and
    for devices on which starting many small steps costs more than the multiplications.
    """
    step = (torch.arange(size, device=later.device) + first).unsqueeze(1)
    weight = later[step % len(later)]
    cell = torch.arange(cells, device=later.device)
    return (cell == step // len(later)) * (1 - weight) + (cell == step // len(later) + 1) * weight


class _Rows(torch.autograd.Function):
    """Interpolate between the rows of (N, K, h, W): each output element is written once, and read once on the way back."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, later: Tensor, first: int, size: int) -> Tensor:
        ctx.save_for_backward(later)
        ctx.cells, ctx.first = cells.shape[-2], first
        output = cells.new_empty((*cells.shape[:-2], size, cells.shape[-1]))
        for cell, phases, rows in _steps(len(later), first, size):
            pair = cells[..., cell : cell + 1, :], cells[..., cell + 1 : cell + 2, :]
            torch.lerp(*pair, later[phases, None], out=output[..., rows, :])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,), (later,) = gradients, ctx.saved_tensors
        weights = torch.stack((1 - later, later))
        with torch.autocast(gradient.device.type, enabled=False):
            output = gradient.new_zeros((*gradient.shape[:-2], ctx.cells, gradient.shape[-1]))
            for cell, phases, rows in _steps(len(later), ctx.first, gradient.shape[-2]):
                output[..., cell : cell + 2, :] += weights[:, phases] @ gradient[..., rows, :]
        return output, None, None, None


def _steps(factor: int, first: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield, for each cell and the next, the phases between them that lie in the window and the rows where these go."""
    row, phase = 0, first
    for cell in range(-(-(first + size) // factor)):
        count = min(factor - phase, size - row)
        yield cell, slice(phase, phase + count), slice(row, row + count)
        row, phase = row + count, 0
