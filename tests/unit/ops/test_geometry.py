"""Geometry's own words: values, defaults and refusals."""

import math
from fractions import Fraction

import pytest

from upscore.errors import GeometryError, UpscoreError
from upscore.ops.geometry import Geometry


def test_the_image_is_the_default():
    assert Geometry() == Geometry(Fraction(1), Fraction(0), Fraction(1))
    assert Geometry().covering_size(7) == 7
    assert Geometry().crop_offset(Geometry()) == 0


def test_numbers_become_fractions():
    grid = Geometry(4, 1.5, 7)
    assert (grid.stride, grid.offset, grid.receptive_field) == (Fraction(4), Fraction(3, 2), Fraction(7))
    assert Geometry(4, 0, math.inf).conv(3, 2).receptive_field == math.inf


def test_pool_is_conv():
    assert Geometry().pool(2, 2) == Geometry().conv(2, 2) == Geometry(2, Fraction(1, 2), 2)


def test_deconv_sees_neighbouring_cells():
    assert Geometry(8, 0, 20).deconv(16, 8).receptive_field == 28
    assert Geometry(8, 0, 20).deconv(8, 8).receptive_field == 20


def test_no_kernel_lands_on_pixels_from_a_quarter():
    with pytest.raises(GeometryError, match=r"offset 0\.25 and stride 8"):
        Geometry(8, Fraction(1, 4)).bilinear_kernel(8)
    assert issubclass(GeometryError, UpscoreError)


def test_a_small_image_is_covered_by_one_cell():
    grid = Geometry().pool(2, 2).pool(2, 2)
    assert [grid.covering_size(size) for size in (1, 2, 4, 5, 8)] == [4, 4, 4, 8, 8]
