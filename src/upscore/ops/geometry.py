"""Where the cells of a grid lie on the picture, in exact fractions.

A layer's output is a grid of cells. Cell ``i`` is centred at ``start + i * jump`` (in
pixels of the picture, pixel 0 centred at 0) and sees ``field`` pixels. Every layer of a
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
    """A grid's ``jump``, ``start`` and ``field``; the default is the picture itself.

    Parameters
    ----------
    jump : Fraction
        Pixels between the centres of neighbouring cells; the grid's stride.
    start : Fraction
        Centre of cell 0, in pixels; negative when it lies on padding.
    field : Fraction
        Pixels one cell sees along one axis; ``math.inf`` where a layer looks at all of them.
    """

    jump: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    field: Fraction | float = Fraction(1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "jump", Fraction(self.jump))
        object.__setattr__(self, "start", Fraction(self.start))
        if self.field != math.inf:
            object.__setattr__(self, "field", Fraction(self.field))

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
            self.jump * stride,
            self.start + (Fraction(reach, 2) - padding) * self.jump,
            self.field + reach * self.jump,
        )

    pool = conv

    def deconv(self, kernel: int, stride: int = 1, padding: int = 0) -> Geometry:
        """Return the grid after a transposed convolution: the inverse of :meth:`conv`.

        Each output cell sees ``ceil(kernel / stride)`` input cells.
        """
        jump = self.jump / stride
        return Geometry(
            jump,
            self.start - (Fraction(kernel - 1, 2) - padding) * jump,
            self.field + (math.ceil(kernel / stride) - 1) * self.jump,
        )

    def crop_offset(self, reference: Geometry) -> int:
        """Return how many leading cells to crop from this grid so that it begins with ``reference``.

        Negative when this grid begins inside ``reference`` (then crop ``reference``).

        Raises
        ------
        GeometryError
            The jumps differ, or the grids are out of step by a fraction of a cell; a
            kernel of the other parity usually mends that.
        """
        if self.jump != reference.jump:
            raise GeometryError(
                f"grids of jump {self.jump} and {reference.jump} cannot be aligned by cropping: bring them to one jump first"
            )
        offset = (reference.start - self.start) / self.jump
        if offset.denominator != 1:
            raise GeometryError(
                f"the crop offset is {float(offset):g} cells, not a whole number: "
                "use a transposed convolution whose kernel has the other parity"
            )
        return int(offset)

    def bilinear_kernel(self, factor: int, reference: Geometry | None = None) -> int:
        """Return the size of the bilinear kernel that upsamples this grid onto ``reference``.

        Even, ``2 * factor``, where cells are centred between pixels (trunks that pool
        2×2); odd, ``2 * factor - 1``, where they are centred on pixels (trunks that use
        odd kernels of stride 2). The wrong parity shifts every output by half a cell.

        Parameters
        ----------
        factor : int
            How much finer the output is.
        reference : Geometry, optional
            The grid to land on, of jump ``self.jump / factor``; the picture when not given.

        Raises
        ------
        GeometryError
            Neither parity lands on whole cells of ``reference``.
        """
        reference = Geometry() if reference is None else reference
        for kernel in (2 * factor, 2 * factor - 1):
            finer = self.deconv(kernel, factor)
            if finer.jump == reference.jump and ((reference.start - finer.start) / finer.jump).denominator == 1:
                return kernel
        raise GeometryError(
            f"cells start at {float(self.start):g} with jump {float(self.jump):g}: no bilinear kernel of factor {factor} "
            f"lands on whole cells of a grid that starts at {float(reference.start):g} with jump {float(reference.jump):g}"
        )

    def covering_size(self, size: int) -> int:
        """Return the least picture size, at least ``size``, on which this grid lies symmetrically.

        That is the size whose last cell is as far from its end as cell 0 is from its
        beginning: multiples of the jump for even trunks (``start = (jump - 1) / 2``),
        multiples plus one for odd ones (``start = 0``). Networks without the papers' wide
        padding pad their input to it, so that no pixel is left beyond the last cell.
        """
        # In whole numbers, since ``size`` may be an exporter's symbol, which no fraction takes.
        ends, unit = 2 * self.start + 1, math.lcm((2 * self.start).denominator, self.jump.denominator)
        first, step = int(ends * unit), int(self.jump * unit)
        steps = max(0, (size * unit - first + step - 1) // step)
        return (first + steps * step) // unit

    def margin(self) -> int:
        """Return the context in pixels, a multiple of the jump, that a tile needs on each side.

        Half the field covers everything a cell sees; one jump more covers the neighbouring
        cells that bilinear upsampling mixes in.

        Raises
        ------
        GeometryError
            The field is unbounded: no tile equals the whole picture.
        """
        if self.field == math.inf:
            raise GeometryError("this network looks at the whole picture at once: no margin makes tiles equal to it")
        reach = Fraction(self.field) / 2 + self.jump
        return int(math.ceil(reach / self.jump) * self.jump)
