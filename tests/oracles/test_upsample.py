"""Bilinear upsampling against torch's transposed convolution, torch's interpolation, and the definition written out."""

import pytest
import torch
import torch.nn.functional as F

from upscore.ops.upsample import BilinearUpsample, bilinear_weights

KERNELS = [(factor, kernel) for factor in (2, 4, 8, 16, 32) for kernel in (2 * factor, 2 * factor - 1)]


def caffe_weights(kernel):
    """The filler of the FCN reference code, written out."""
    half = (kernel + 1) // 2
    centre = half - 1 if kernel % 2 else half - 0.5
    return torch.tensor([1 - abs(i - centre) / half for i in range(kernel)], dtype=torch.float64)


def grouped(x, factor, kernel):
    weight = torch.outer(caffe_weights(kernel), caffe_weights(kernel)).to(x)
    return F.conv_transpose2d(x, weight.expand(x.shape[1], 1, kernel, kernel), stride=factor, groups=x.shape[1])


@pytest.fixture
def x():
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("factor", "kernel"), KERNELS)
def test_filter_is_caffes(factor, kernel):
    assert torch.equal(bilinear_weights(kernel, factor), caffe_weights(kernel))


def test_the_filter_of_the_facts():
    assert bilinear_weights(4, 2).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert torch.outer(bilinear_weights(4, 2), bilinear_weights(4, 2))[0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]
    assert bilinear_weights(3, 2).tolist() == [0.5, 1.0, 0.5]


@pytest.mark.parametrize(("factor", "kernel"), KERNELS)
def test_equals_the_grouped_deconvolution(x, factor, kernel):
    torch.testing.assert_close(BilinearUpsample(3, factor=factor, kernel=kernel)(x), grouped(x, factor, kernel), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("factor", "kernel"), KERNELS)
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gradient_equals_the_grouped_deconvolutions(x, factor, kernel, dtype, apart):
    x = x.to(dtype)
    y = grouped(x.requires_grad_(), factor, kernel)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (wanted,) = torch.autograd.grad(y, x, g)
    (gradient,) = torch.autograd.grad(BilinearUpsample(3, factor=factor, kernel=kernel)(x), x, g)
    torch.testing.assert_close(gradient, wanted, rtol=apart, atol=100 * apart)


@pytest.mark.parametrize(("factor", "kernel"), [(2, 4), (8, 16), (32, 63)])
def test_equals_the_dense_deconvolution_with_a_diagonal_weight(x, factor, kernel):
    """What Caffe computes: all pairs of classes, zero but on the diagonal."""
    weight = torch.zeros(3, 3, kernel, kernel)
    weight[range(3), range(3)] = torch.outer(caffe_weights(kernel), caffe_weights(kernel)).float()
    dense = F.conv_transpose2d(x, weight, stride=factor)
    window = {"offset": (19, 5), "size": (dense.shape[2] - 30, dense.shape[3] - 20)} if factor > 2 else {}
    cropped = dense[..., 19:-11, 5:-15] if factor > 2 else dense
    torch.testing.assert_close(BilinearUpsample(3, factor=factor, kernel=kernel)(x, **window), cropped, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (5, 4)])
def test_replicated_borders_give_torchs_interpolation_everywhere(factor, h, w):
    x = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(2))
    y = BilinearUpsample(3, factor=factor, border="replicate")(x, offset=(factor // 2,) * 2, size=(h * factor, w * factor))
    torch.testing.assert_close(y, F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False), rtol=0, atol=2e-6)


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_zero_borders_give_torchs_interpolation_in_the_interior_only(x, factor):
    y = BilinearUpsample(3, factor=factor)(x, offset=(factor // 2,) * 2, size=(5 * factor, 4 * factor))
    wanted = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    edge = factor // 2
    torch.testing.assert_close(y[..., edge:-edge, edge:-edge], wanted[..., edge:-edge, edge:-edge], rtol=0, atol=2e-6)
    assert (y - wanted).abs().max() > 0.1


@pytest.mark.parametrize(("factor", "kernel"), [(4, 8), (4, 7)])
@pytest.mark.parametrize(("border", "mode"), [("zeros", "constant"), ("replicate", "replicate")])
def test_windows_beyond_the_extent_are_those_of_a_padded_map(x, factor, kernel, border, mode):
    wide = grouped(F.pad(x, (8, 8, 8, 8), mode=mode), factor, kernel)
    for top, left in ((0, 0), (-9, 2), (3, -17), (13, 11), (30, -22)):
        y = BilinearUpsample(3, factor=factor, kernel=kernel, border=border)(x, offset=(top, left), size=(14, 15))
        top, left = top + 8 * factor, left + 8 * factor
        torch.testing.assert_close(y, wide[..., top : top + 14, left : left + 15], rtol=0, atol=1e-6)


def test_the_definition_pixel_by_pixel():
    x = torch.randn(1, 1, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = caffe_weights(5)
    y = BilinearUpsample(1, factor=3, kernel=5)(x)
    assert y.shape == (1, 1, 11, 8)
    for row in range(11):
        for column in range(8):
            wanted = sum(
                float(weights[row - 3 * i] * weights[column - 3 * j] * x[0, 0, i, j])
                for i in range(3)
                for j in range(2)
                if 0 <= row - 3 * i < 5 and 0 <= column - 3 * j < 5
            )
            assert float(y[0, 0, row, column]) == pytest.approx(wanted, abs=1e-14)
