"""Bilinear upsampling as a transposed convolution (Long, Shelhamer and Darrell 2015, §3.3).

A transposed convolution of stride ``factor`` whose kernel is the bilinear filter of size
``2 * factor`` (or ``2 * factor - 1``) computes each output pixel from two cells along each
axis. With ``p`` the pixel's position in the full output and ``r = p mod factor``::

    cells              i               i + 1            i = p // factor - 1
                       │                 │
    weights        1 - w[r]             w[r]           even kernel: w[r] = (r + 1/2) / factor
                       └──────► p ◄──────┘              odd kernel:  w[r] = (r + 1) / factor

so the fixed layer is a linear interpolation between neighbouring columns and then between
neighbouring rows: the same numbers without multiplications by zero. Its derivative is the
transposed sum. Only a learned layer is computed as a convolution, in which classes may be mixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscore.errors import ModelError

__all__ = ["BilinearUpsample", "bilinear_weights", "mix_kernels"]


def bilinear_weights(kernel: int, factor: int) -> Tensor:
    """Return the bilinear filter of a transposed convolution along one axis: the weights ``1 - |i - c| / f`` of Caffe's filler.

    Parameters
    ----------
    kernel : int
        ``2 * factor`` (output pixels lie between cells) or ``2 * factor - 1`` (some lie on cells).
    factor : int
        The transposed convolution's stride, at least 1.

    Returns
    -------
    Tensor
        (kernel,) float64; the two-dimensional kernel is its outer product with itself, and
        the weights of one output pixel sum to 1.

    Raises
    ------
    ModelError
        The factor is below 1 or the kernel has neither size.

    Examples
    --------
    >>> bilinear_weights(4, 2).tolist(), bilinear_weights(3, 2).tolist()
    ([0.25, 0.75, 0.75, 0.25], [0.5, 1.0, 0.5])
    """
    if factor < 1 or kernel not in (2 * factor, 2 * factor - 1):
        raise ModelError(
            f"found kernel {kernel} for upsampling factor {factor}, expected {2 * factor} or {2 * factor - 1}: "
            "only these interpolate between two cells"
        )
    reach = (kernel + 1) // 2
    centre = (kernel - 1) / 2
    return 1 - (torch.arange(kernel, dtype=torch.float64) - centre).abs() / reach


def mix_kernels(kernels: Tensor) -> Tensor:
    """Return (K, K, h, w), from every class to every class, that upsample each class alone by its one of ``kernels``, (K, 1, h, w).

    >>> mix_kernels(torch.ones(2, 1, 1, 1)).flatten(1).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return kernels * torch.eye(len(kernels), dtype=kernels.dtype, device=kernels.device)[:, :, None, None]


class BilinearUpsample(nn.Module):
    """Upsample each channel by a transposed convolution initialised as bilinear interpolation.

    Parameters
    ----------
    channels : int
        K, the number of classes; each is upsampled alone, unless they are ``mixed``.
    factor : int
        Ratio of the output grid to the input grid; the transposed convolution's stride.
    kernel : int, optional
        ``2 * factor``, the default, or ``2 * factor - 1``; :meth:`Geometry.bilinear_kernel` chooses it.
    learned : bool
        False fixes the weights: the layer has no parameters. True makes them a parameter
        ``weight`` (K, 1, kernel, kernel).
    border : {"zeros", "replicate"}
        Beyond the map: zeros, as in the papers (scores decrease over the last half kernel), or
        the outermost cells repeated.

    Raises
    ------
    ModelError
        A size is invalid, ``border`` is neither of the two, or a fixed layer is to be mixed or to have a bias.

    Examples
    --------
    >>> up = BilinearUpsample(1, factor=2, border="replicate")
    >>> up(torch.tensor([[[[0.0, 4.0]]]]), offset=(1, 1), size=(1, 4)).tolist()
    [[[[0.0, 1.0, 3.0, 4.0]]]]
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        *,
        factor: int,
        kernel: int | None = None,
        learned: bool = False,
        mixed: bool = False,
        bias: bool = False,
        border: str = "zeros",
    ) -> None:
        super().__init__()
        kernel = 2 * factor if kernel is None else kernel
        if channels < 1:
            raise ModelError(f"found {channels} channels to upsample, expected at least 1")
        if border not in ("zeros", "replicate"):
            raise ModelError(f"found border '{border}', expected 'zeros' or 'replicate'")
        if (mixed or bias) and not learned:
            raise ModelError("found fixed upsampling with mixed classes or a bias, expected it to be learned")
        filter_ = bilinear_weights(kernel, factor)
        self.channels, self.factor, self.kernel, self.border = channels, factor, kernel, border
        if learned:
            square = torch.outer(filter_, filter_).to(torch.get_default_dtype())
            weight = square.expand(channels, 1, kernel, kernel).clone()
            self.weight = nn.Parameter(mix_kernels(weight) if mixed else weight)
        else:
            self.register_parameter("weight", None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if bias else None)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        learned = f"learned={self.weight is not None}" + ", mixed=True" * self.mixed + ", bias=True" * (self.bias is not None)
        return f"{self.channels}, factor={self.factor}, kernel={self.kernel}, {learned}, border={self.border!r}"

    @property
    def mixed(self) -> bool:
        """Whether a learned kernel leads from every class to every class."""
        return self.weight is not None and self.weight.shape[1] == self.channels > 1

    def extent(self, size: int) -> int:
        """Return the number of output pixels of the full transposed convolution of ``size`` cells."""
        return (size - 1) * self.factor + self.kernel

    def forward(self, x: Tensor, *, offset: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> Tensor:
        """Return the window ``[offset, offset + size)`` of the transposed convolution of ``x``.

        Parameters
        ----------
        x : (N, K, h, w) floating
            Any h and w from 1.
        offset : (int, int)
            First row and column of the window in the full output
            ``((h - 1) * factor + kernel, (w - 1) * factor + kernel)``; may be negative.
        size : (int, int), optional
            Rows and columns of the window, which may exceed the output and may be empty; by
            default up to the end of the output.

        Returns
        -------
        Tensor
            (N, K, H, W), with the dtype and device of ``x``. Beyond the full output it is zero or,
            with ``border="replicate"``, the upsampled border cells.

        Raises
        ------
        ModelError
            ``x`` is not (N, K, h, w) with the layer's K.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ModelError(f"found scores of shape {tuple(x.shape)} to upsample, expected (N, {self.channels}, h, w)")
        h, w = x.shape[-2:]
        if size is None:
            size = (max(0, self.extent(h) - offset[0]), max(0, self.extent(w) - offset[1]))
        cells = self._needed_cells(self._needed_cells(x, -2, offset[0], size[0]), -1, offset[1], size[1])
        top, left = offset[0] % self.factor, offset[1] % self.factor
        if self.weight is not None:
            top, left = top + self.factor, left + self.factor
            groups = self.channels // self.weight.shape[1]
            full = F.conv_transpose2d(cells, self.weight, self.bias, stride=self.factor, groups=groups)
            return full[..., top : top + size[0], left : left + size[1]]
        phase_weights = self._phase_weights(cells)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return _matrix(cells.shape[-2], phase_weights, top, size[0]) @ (
                cells @ _matrix(cells.shape[-1], phase_weights, left, size[1]).mT
            )
        columns = torch.lerp(cells[..., :-1, None], cells[..., 1:, None], phase_weights).flatten(-2)[..., left : left + size[1]]
        return cast(Tensor, _Rows.apply(columns, phase_weights, top, size[0]))  # type: ignore[no-untyped-call]

    def _needed_cells(self, x: Tensor, axis: int, offset: int, size: int) -> Tensor:
        """Return the cells that the window depends on along ``axis``: those of ``x``, and the border."""
        length = x.shape[axis]
        index = torch.arange(offset // self.factor - 1, (offset + size - 1) // self.factor + 1, device=x.device)
        cells = x.index_select(axis, index.clamp(0, length - 1))
        if self.border == "replicate":
            return cells
        outside = (index < 0) | (index >= length)
        return cells.masked_fill(outside[:, None] if axis == -2 else outside, 0)

    def _phase_weights(self, x: Tensor) -> Tensor:
        """Return (factor,): the weight of the second of two cells at each phase."""
        shift = 0.5 if self.kernel == 2 * self.factor else 1.0
        return (torch.arange(self.factor, dtype=x.dtype, device=x.device) + shift) / self.factor


def _matrix(cells: int, phase_weights: Tensor, first: int, size: int) -> Tensor:
    """Return (size, cells): the interpolation along one axis as a matrix.

    Two matrix products, mostly with zeros, are few operations: for graphs with symbolic sizes, and
    for devices on which launching many small kernels costs more than the multiplications.
    """
    step = (torch.arange(size, device=phase_weights.device) + first).unsqueeze(1)
    weight = phase_weights[step % len(phase_weights)]
    cell = torch.arange(cells, device=phase_weights.device)
    return (cell == step // len(phase_weights)) * (1 - weight) + (cell == step // len(phase_weights) + 1) * weight


class _Rows(torch.autograd.Function):
    """Interpolate between the rows of (N, K, h, W): each output element is written once, and read once in the backward pass."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, phase_weights: Tensor, first: int, size: int) -> Tensor:
        ctx.save_for_backward(phase_weights)
        ctx.cells, ctx.first = cells.shape[-2], first
        output = cells.new_empty((*cells.shape[:-2], size, cells.shape[-1]))
        for cell, phases, rows in _steps(len(phase_weights), first, size):
            pair = cells[..., cell : cell + 1, :], cells[..., cell + 1 : cell + 2, :]
            torch.lerp(*pair, phase_weights[phases, None], out=output[..., rows, :])
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,), (phase_weights,) = gradients, ctx.saved_tensors
        weights = torch.stack((1 - phase_weights, phase_weights))
        with torch.autocast(gradient.device.type, enabled=False):
            output = gradient.new_zeros((*gradient.shape[:-2], ctx.cells, gradient.shape[-1]))
            for cell, phases, rows in _steps(len(phase_weights), ctx.first, gradient.shape[-2]):
                output[..., cell : cell + 2, :] += weights[:, phases] @ gradient[..., rows, :]
        return output, None, None, None


def _steps(factor: int, first: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield, for each cell and the next, the phases between them inside the window, and their output rows."""
    row, phase = 0, first
    for cell in range(-(-(first + size) // factor)):
        count = min(factor - phase, size - row)
        yield cell, slice(phase, phase + count), slice(row, row + count)
        row, phase = row + count, 0
