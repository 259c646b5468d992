"""Where the cells of a grid lie on the image, in exact fractions.

A layer's output is a grid of cells. Cell ``i`` is centred at ``offset + i * stride`` (in
pixels of the image, pixel 0 centred at 0) and sees ``field`` pixels. Every layer of a
fully convolutional network changes these three numbers and nothing else, so crops,
receptive fields, tile margins and the parity of a bilinear kernel are all derived here
instead of written down as bare constants.

Long, Shelhamer and Darrell (2015) write the same arithmetic into Caffe's coordinate maps;
for their VGG16 with 100 pixels of padding it gives the crops 19 (FCN-32s), 5 and 27
(16s), 5, 9 and 31 (8s), and 18 for AlexNet.
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

    Parameters
    ----------
    stride : Fraction
        Pixels between the centres of neighbouring cells; the grid's stride.
    offset : Fraction
        Centre of cell 0, in pixels; negative when it lies on padding.
    receptive_field : Fraction
        Pixels one cell sees along one axis; ``math.inf`` where a layer looks at all of them.
    """

    stride: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    receptive_field: Fraction | float = Fraction(1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", Fraction(self.stride))
        object.__setattr__(self, "offset", Fraction(self.offset))
        if self.receptive_field != math.inf:
            object.__setattr__(self, "receptive_field", Fraction(self.receptive_field))

    def conv(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Geometry:
        """Return the grid after a convolution or pooling layer.

        Parameters
        ----------
        kernel, stride, padding, dilation : int
            The layer's, along this axis. Ceil or floor rounding changes the number of
            cells and not where they lie.
        """
        reach = dilation * (kernel - 1)
        return Geometry(
            self.stride * stride,
            self.offset + (Fraction(reach, 2) - padding) * self.stride,
            self.receptive_field + reach * self.stride,
        )

    pool = conv

    def deconv(self, kernel: int, stride: int = 1, padding: int = 0) -> Geometry:
        """Return the grid after a transposed convolution: the inverse of :meth:`conv`.

        Each output cell sees ``ceil(kernel / stride)`` input cells.
        """
        jump = self.stride / stride
        return Geometry(
            jump,
            self.offset - (Fraction(kernel - 1, 2) - padding) * jump,
            self.receptive_field + (math.ceil(kernel / stride) - 1) * self.stride,
        )

    def crop_offset(self, reference: Geometry) -> int:
        """Return how many leading cells to crop from this grid so that it begins with ``reference``.

        Negative when this grid begins inside ``reference`` (then crop ``reference``).

        Raises
        ------
        GeometryError
            The strides differ, or the grids are out of step by a fraction of a cell; a
            kernel of the other parity usually mends that.
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
            The grid to land on, of stride ``self.stride / factor``; the image when not given.

        Raises
        ------
        GeometryError
            Neither parity lands on whole cells of ``reference``.
        """
        reference = Geometry() if reference is None else reference
        for kernel in (2 * factor, 2 * factor - 1):
            finer = self.deconv(kernel, factor)
            if finer.stride == reference.stride and ((reference.offset - finer.offset) / finer.stride).denominator == 1:
                return kernel
        raise GeometryError(
            f"cells start at {float(self.offset):g} with stride {float(self.stride):g}: no bilinear kernel of factor {factor} "
            f"lands on whole cells of a grid that starts at {float(reference.offset):g} with stride {float(reference.stride):g}"
        )

    def covering_size(self, size: int) -> int:
        """Return the least image size, at least ``size``, on which this grid lies symmetrically.

        That is the size whose last cell is as far from its end as cell 0 is from its
        beginning: multiples of the stride for even backbones (``offset = (stride - 1) / 2``),
        multiples plus one for odd ones (``offset = 0``). Networks without the papers' wide
        padding pad their input to it, so that no pixel is left beyond the last cell.
        """
        # In whole numbers, since ``size`` may be an exporter's symbol, which no fraction takes.
        ends, unit = 2 * self.offset + 1, math.lcm((2 * self.offset).denominator, self.stride.denominator)
        first, step = int(ends * unit), int(self.stride * unit)
        steps = max(0, (size * unit - first + step - 1) // step)
        return (first + steps * step) // unit

    def margin(self) -> int:
        """Return the context in pixels, a multiple of the stride, that a tile needs on each side.

        Half the receptive field covers everything a cell sees; one stride more covers the neighbouring
        cells that bilinear upsampling mixes in.

        Raises
        ------
        GeometryError
            The receptive field is unbounded: no tile equals the whole image.
        """
        if self.receptive_field == math.inf:
            raise GeometryError("this network looks at the whole image at once: no margin makes tiles equal to it")
        reach = Fraction(self.receptive_field) / 2 + self.stride
        return int(math.ceil(reach / self.stride) * self.stride)
