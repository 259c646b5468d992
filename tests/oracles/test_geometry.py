"""Geometry against torch's gradients, and against the numbers printed in the FCN paper and its reference networks."""

import pytest
import torch
import torch.nn.functional as F

from upscore.errors import GeometryError
from upscore.ops.geometry import Geometry


def vgg16(padding):
    """Taps of VGG16's backbone: pool3, pool4, and the 7×7 convolution after pool5."""
    grid, levels = Geometry(), []
    for stage, convolutions in enumerate((2, 2, 3, 3, 3)):
        for i in range(convolutions):
            grid = grid.conv(3, 1, padding if stage == i == 0 else 1)
        grid = grid.pool(2, 2)
        levels.append(grid)
    return levels[2], levels[3], grid.conv(7)


def alexnet(padding):
    grid = Geometry().conv(11, 4, padding).pool(3, 2).conv(5, 1, 2).pool(3, 2)
    return grid.conv(3, 1, 1).conv(3, 1, 1).conv(3, 1, 1).pool(3, 2).conv(6)


def pooled(size, kernel=2, stride=2, ceil=True):
    return (size - kernel + (stride - 1 if ceil else 0)) // stride + 1


def vgg16_sizes(height):
    """Rows of pool3, pool4 and the coarsest scores with 100 pixels of padding and pools that round up."""
    size, sizes = height + 198, []
    for _ in range(5):
        size = pooled(size)
        sizes.append(size)
    return sizes[2], sizes[3], sizes[4] - 6


def extent(size, kernel, stride):
    return (size - 1) * stride + kernel


def test_crops_of_the_reference_networks():
    pool3, pool4, scores = vgg16(100)
    image = Geometry()
    assert scores.deconv(64, 32).crop_offset(image) == 19
    doubled = scores.deconv(4, 2)
    assert pool4.crop_offset(doubled) == 5
    assert doubled.deconv(32, 16).crop_offset(image) == 27
    fourfold = doubled.deconv(4, 2)
    assert pool3.crop_offset(fourfold) == 9
    assert fourfold.deconv(16, 8).crop_offset(image) == 31
    assert alexnet(100).deconv(63, 32).crop_offset(image) == 18


def test_kernel_64_does_not_fit_alexnet():
    with pytest.raises(GeometryError, match=r"18\.5 cells, not a whole number"):
        alexnet(100).deconv(64, 32).crop_offset(Geometry())
    assert alexnet(100).bilinear_kernel(32) == 63
    assert vgg16(100)[2].bilinear_kernel(32) == 64


def test_receptive_fields_of_the_paper():
    assert vgg16(100)[2].receptive_field == 404
    assert alexnet(100).receptive_field == 355


def test_every_crop_is_legal_at_every_size():
    for height in range(1, 2001):
        pool3, pool4, scores = vgg16_sizes(height)
        assert 19 + height <= extent(scores, 64, 32)
        doubled = extent(scores, 4, 2)
        assert 5 + doubled <= pool4
        assert 27 + height <= extent(doubled, 32, 16)
        fourfold = extent(doubled, 4, 2)
        assert 9 + fourfold <= pool3
        assert 31 + height <= extent(fourfold, 16, 8)


def test_sizes_at_500_pixels():
    pool3, pool4, scores = vgg16_sizes(500)
    assert (pool3, pool4, scores) == (88, 44, 16)
    assert [extent(16, 64, 32), extent(34, 32, 16), extent(70, 16, 8)] == [544, 560, 568]


def conv_net(stack, x, weight):
    for kernel, stride, padding, kind in stack:
        if kind == "conv":
            x = F.conv2d(x, weight.expand(1, 1, kernel, kernel), stride=stride, padding=padding)
        else:
            x = F.avg_pool2d(x, kernel, stride, padding=padding, count_include_pad=True)
    return x


@pytest.mark.parametrize(
    "stack",
    [
        [(3, 1, 1, "conv"), (2, 2, 0, "pool"), (3, 1, 1, "conv"), (2, 2, 0, "pool")],
        [(7, 2, 3, "conv"), (3, 2, 1, "pool"), (3, 2, 1, "conv")],
        [(11, 4, 5, "conv"), (3, 2, 0, "pool")],
        [(4, 2, 1, "conv"), (2, 2, 0, "pool"), (5, 1, 2, "conv")],
    ],
)
def test_gradient_support_of_one_cell(stack):
    geometry = Geometry()
    for kernel, stride, padding, _ in stack:
        geometry = geometry.conv(kernel, stride, padding)
    x = torch.zeros(1, 1, 97, 97, dtype=torch.float64, requires_grad=True)
    y = conv_net(stack, x, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    row, column = y.shape[2] // 2, y.shape[3] // 2 + 1
    (gradient,) = torch.autograd.grad(y[0, 0, row, column], x)
    for axis, cell in ((1, row), (0, column)):
        seen = gradient[0, 0].sum(axis).nonzero().flatten()
        assert len(seen) == geometry.receptive_field
        assert (int(seen[0]) + int(seen[-1])) / 2 == geometry.offset + cell * geometry.stride
