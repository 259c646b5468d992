"""Stride, offset and receptive field of a grid of features, in exact fractions.

A layer's output is a grid of cells. Cell ``i`` is centred at ``offset + i * stride`` (in
pixels of the image, pixel 0 centred at 0) and depends on ``receptive_field`` pixels. Every layer
of a fully convolutional network maps these three numbers to new ones, so crops, tile margins
and the parity of bilinear kernels are all derived here instead of being constants.

Caffe's coordinate maps are the same arithmetic;
for the VGG16 with 100 pixels of padding it gives the crops 19 (FCN-32s), 5 and 27
(16s), 5, 9 and 31 (8s), and 18 for AlexNet (Long, Shelhamer and Darrell 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from upscore.errors import GeometryError

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """A grid's ``stride``, ``offset`` and ``receptive_field``; the default is the image itself.

    Examples
    --------
    >>> grid = Geometry().conv(3, padding=1).pool(2, stride=2)
    >>> grid
    Geometry(stride=Fraction(2, 1), offset=Fraction(1, 2), receptive_field=Fraction(4, 1))
    >>> grid.bilinear_kernel(2), grid.margin()
    (4, 4)
    """

    stride: Fraction = Fraction(1)  #: pixels between the centres of neighbouring cells
    offset: Fraction = Fraction(0)  #: centre of cell 0, in pixels; negative if it lies on padding
    receptive_field: Fraction | float = Fraction(1)  #: pixels along one axis that a cell depends on; math.inf after a global operation

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", Fraction(self.stride))
        object.__setattr__(self, "offset", Fraction(self.offset))
        if self.receptive_field != math.inf:
            object.__setattr__(self, "receptive_field", Fraction(self.receptive_field))

    def conv(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Geometry:
        """Return the grid after a convolution or pooling layer; rounding changes the number of cells, not their positions."""
        reach = dilation * (kernel - 1)
        return Geometry(
            self.stride * stride,
            self.offset + (Fraction(reach, 2) - padding) * self.stride,
            self.receptive_field + reach * self.stride,
        )

    pool = conv

    def deconv(self, kernel: int, stride: int = 1, padding: int = 0) -> Geometry:
        """Return the grid after a transposed convolution: the inverse of :meth:`conv`.

        Each output cell depends on ``ceil(kernel / stride)`` input cells.
        """
        finer = self.stride / stride
        return Geometry(
            finer,
            self.offset - (Fraction(kernel - 1, 2) - padding) * finer,
            self.receptive_field + (math.ceil(kernel / stride) - 1) * self.stride,
        )

    def crop_offset(self, reference: Geometry) -> int:
        """Return the number of leading cells to crop from this grid to align it with ``reference``.

        Negative if ``reference`` must be cropped instead. A GeometryError is raised where the strides differ, or the offsets differ by
        a fraction of a cell; a kernel of the other parity usually corrects that.
        """
        if self.stride != reference.stride:
            raise GeometryError(
                f"grids of stride {self.stride} and {reference.stride} cannot be aligned by cropping: bring them to one stride first"
            )
        offset = (reference.offset - self.offset) / self.stride
        if offset.denominator != 1:
            raise GeometryError(
                f"the crop offset is {float(offset):g} cells, not a whole number: "
                "use a transposed convolution whose kernel has the other parity"
            )
        return int(offset)

    def bilinear_kernel(self, factor: int, reference: Geometry | None = None) -> int:
        """Return the size of the bilinear kernel that upsamples this grid onto ``reference``.

        Even, ``2 * factor``, where cells are centred between pixels (backbones that pool
        2×2); odd, ``2 * factor - 1``, where they are centred on pixels (backbones that use
        odd kernels of stride 2). The wrong parity shifts every output by half a cell.

        Parameters
        ----------
        factor : int
            How much finer the output is.
        reference : Geometry, optional
            The target grid, of stride ``self.stride / factor``; the image when not given.

        Raises
        ------
        GeometryError
            Neither parity aligns with the cells of ``reference``.
        """
        reference = Geometry() if reference is None else reference
        for kernel in (2 * factor, 2 * factor - 1):
            finer = self.deconv(kernel, factor)
            if finer.stride == reference.stride and ((reference.offset - finer.offset) / finer.stride).denominator == 1:
                return kernel
        raise GeometryError(
            f"found a grid of offset {float(self.offset):g} and stride {float(self.stride):g}: no bilinear kernel of factor {factor} "
            f"aligns it with one of offset {float(reference.offset):g} and stride {float(reference.stride):g}"
        )

    def covering_size(self, size: int) -> int:
        """Return the smallest image size from ``size`` up on which this grid is centred.

        The last cell is then as far from the end of the image as cell 0 is from its
        beginning: multiples of the stride for backbones that pool 2×2 (``offset = (stride - 1) / 2``),
        multiples plus one for odd kernels (``offset = 0``). Networks without the papers' padding
        of 100 pad their input to it, so that no pixel lies beyond the last cell.
        """
        # In integers, since ``size`` may be an exporter's symbol, which fractions reject.
        ends, unit = 2 * self.offset + 1, math.lcm((2 * self.offset).denominator, self.stride.denominator)
        first, step = int(ends * unit), int(self.stride * unit)
        steps = max(0, (size * unit - first + step - 1) // step)
        return (first + steps * step) // unit

    def margin(self) -> int:
        """Return the context in pixels, a multiple of the stride, that a tile needs on each side.

        Half the receptive field covers all that a cell depends on; one more stride covers the
        neighbouring cells that bilinear upsampling interpolates. A GeometryError is raised where the receptive field is infinite.
        """
        if self.receptive_field == math.inf:
            raise GeometryError("this network has an infinite receptive field: no margin makes tiles equal to the whole image")
        reach = Fraction(self.receptive_field) / 2 + self.stride
        return int(math.ceil(reach / self.stride) * self.stride)
