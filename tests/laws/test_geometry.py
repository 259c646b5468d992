"""Geometry against cells followed one by one through random stacks of layers."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry

law = settings(deadline=None, max_examples=100)
layers = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(0, 5), st.integers(1, 3))  # kernel, stride, padding, dilation
stacks = st.lists(layers, min_size=0, max_size=6)


def through(stack):
    geometry = Geometry()
    for kernel, stride, padding, dilation in stack:
        geometry = geometry.conv(kernel, stride, padding, dilation)
    return geometry


def seen_by(stack, cell):
    """First and last pixel that a cell sees, followed down layer by layer."""
    first = last = cell
    for kernel, stride, padding, dilation in reversed(stack):
        first = first * stride - padding
        last = last * stride - padding + dilation * (kernel - 1)
    return first, last


def halving(kernel, padding, times):
    """A backbone that halves with this kernel: (2, 0) is VGG16's pools, (3, 1) a residual network's convolutions."""
    geometry = Geometry()
    for _ in range(times):
        geometry = geometry.conv(3, 1, 1).conv(kernel, 2, padding)
    return geometry


@law
@given(stacks, st.integers(-3, 20))
def test_cells_lie_where_layers_put_them(stack, cell):
    geometry = through(stack)
    first, last = seen_by(stack, cell)
    assert geometry.receptive_field == last - first + 1
    assert geometry.offset + cell * geometry.stride == Fraction(first + last, 2)


@law
@given(stacks, st.integers(1, 8), st.integers(1, 4), st.integers(0, 4))
def test_deconv_brings_the_grid_back(stack, kernel, stride, padding):
    before = through(stack)
    after = before.conv(kernel, stride, padding).deconv(kernel, stride, padding)
    assert (after.stride, after.offset) == (before.stride, before.offset)
    assert after.crop_offset(before) == 0


@law
@given(stacks, st.integers(-50, 50))
def test_crop_offset_counts_cells(stack, shift):
    grid = through(stack)
    shifted = Geometry(grid.stride, grid.offset + shift * grid.stride, grid.receptive_field)
    assert grid.crop_offset(shifted) == shift
    assert shifted.crop_offset(grid) == -shift
    with pytest.raises(GeometryError, match="other parity"):
        grid.crop_offset(Geometry(grid.stride, grid.offset + grid.stride / 2))


@law
@given(stacks)
def test_grids_of_other_jumps_cannot_be_cropped(stack):
    grid = through(stack)
    with pytest.raises(GeometryError, match="one stride"):
        grid.crop_offset(Geometry(grid.stride * 2, grid.offset))


@law
@given(st.integers(0, 5), st.integers(0, 5))
def test_parity_of_the_kernel_follows_the_backbone(times, extra):
    factor = 2**times
    assume(factor > 1)
    wide = 2 * extra  # padding in whole cells of the image changes nothing
    assert halving(2, 0, times).conv(1 + wide, 1, extra).bilinear_kernel(factor) == 2 * factor
    assert halving(3, 1, times).conv(1 + wide, 1, extra).bilinear_kernel(factor) == 2 * factor - 1


@law
@given(stacks)
def test_the_bilinear_kernel_lands_on_pixels_or_says_that_none_does(stack):
    geometry = through(stack)
    factor = int(geometry.stride)
    assume(factor > 1)
    try:
        kernel = geometry.bilinear_kernel(factor)
    except GeometryError:
        assert (2 * geometry.offset).denominator != 1
    else:
        assert kernel in (2 * factor, 2 * factor - 1)
        finer = geometry.deconv(kernel, factor)
        offset = finer.crop_offset(Geometry())
        assert finer.offset + offset == 0
        other = geometry.deconv(4 * factor - 1 - kernel, factor)
        with pytest.raises(GeometryError):
            other.crop_offset(Geometry())


@law
@given(st.integers(0, 5), st.booleans(), st.integers(1, 300))
def test_covering_size_is_the_least_symmetric_one(times, pools, size):
    geometry = halving(2, 0, times) if pools else halving(3, 1, times)

    def lies_symmetrically(candidate):
        beyond = candidate - 1 - 2 * geometry.offset  # from the first cell to the last
        return beyond >= 0 and beyond % geometry.stride == 0

    assert geometry.covering_size(size) == next(s for s in range(size, size + 200) if lies_symmetrically(s))
    assert geometry.covering_size(size) % geometry.stride == (0 if pools else 1 % geometry.stride)


@law
@given(stacks, st.integers(0, 40))
def test_a_margin_holds_all_that_a_pixel_is_made_of(stack, pixel):
    geometry = through(stack)
    factor = int(geometry.stride)
    assume(factor > 1)
    try:
        kernel = geometry.bilinear_kernel(factor)
    except GeometryError:
        assume(False)
    place = pixel + geometry.deconv(kernel, factor).crop_offset(Geometry())  # in the full extent
    cells = [cell for cell in range((place - kernel) // factor, place // factor + 1) if 0 <= place - cell * factor < kernel]
    first, last = seen_by(stack, cells[0])[0], seen_by(stack, cells[-1])[1]
    margin = geometry.margin()
    assert margin % geometry.stride == 0
    assert pixel - margin <= first <= last <= pixel + margin
    assert margin < geometry.receptive_field / 2 + 2 * geometry.stride


def test_an_unbounded_field_has_no_margin():
    with pytest.raises(GeometryError, match="whole image"):
        Geometry(Fraction(32), Fraction(0), math.inf).margin()
