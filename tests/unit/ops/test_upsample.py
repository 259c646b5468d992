"""The upsampling layer as a torch module: parameters, precisions, layouts, refusals."""

import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.ops.upsample import BilinearUpsample, bilinear_weights


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


def test_a_frozen_layer_has_nothing_to_learn_or_save():
    layer = BilinearUpsample(3, factor=8)
    assert not list(layer.parameters())
    assert not layer.state_dict()
    assert layer.weight is None


def test_a_learned_layer_has_one_kernel_for_each_class():
    layer = BilinearUpsample(3, factor=2, learned=True)
    assert list(layer.state_dict()) == ["weight"]
    assert layer.weight.shape == (3, 1, 4, 4)
    assert layer.weight.is_contiguous()
    assert layer.weight.is_leaf
    assert layer.weight.requires_grad


def test_a_learned_layer_learns_each_class_by_itself(x):
    layer = BilinearUpsample(3, factor=2, learned=True)
    layer(x, offset=(1, 1), size=(12, 10))[:, 1].square().sum().backward()
    assert layer.weight.grad[1].abs().min() > 0
    assert not layer.weight.grad[[0, 2]].any()


def test_the_whole_extent_is_the_default(x):
    layer = BilinearUpsample(3, factor=8, kernel=15)
    assert layer(x).shape == (2, 3, 5 * 8 + 15, 4 * 8 + 15)
    assert layer(x, offset=(-3, 4)).shape == (2, 3, 5 * 8 + 15 + 3, 4 * 8 + 15 - 4)
    assert layer(x, offset=(1000, 0)).shape == (2, 3, 0, 47)
    assert torch.equal(layer(x)[..., 3:, 4:], layer(x, offset=(3, 4)))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("offset", [(0, 0), (3, -5), (8, 8)])
def test_an_empty_window_is_empty_and_differentiable(x, learned, size, offset):
    y = BilinearUpsample(3, factor=4, learned=learned)(x.requires_grad_(), offset=offset, size=size)
    assert y.shape == (2, 3, *size)
    y.sum().backward()
    assert not x.grad.any()


def test_an_empty_batch():
    assert BilinearUpsample(3, factor=4)(torch.zeros(0, 3, 2, 2)).shape == (0, 3, 12, 12)


@pytest.mark.parametrize("border", ["zeros", "replicate"])
@pytest.mark.parametrize("kernel", [5, 6])
def test_first_and_second_derivatives(border, kernel):
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    layer = BilinearUpsample(2, factor=3, kernel=kernel, border=border)

    def cut(x):
        return layer(x, offset=(-1, 2), size=(13, 7))

    assert torch.autograd.gradcheck(cut, x)
    assert torch.autograd.gradgradcheck(cut, x)


def test_bfloat16_is_close(x):
    layer = BilinearUpsample(3, factor=8)
    y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.02, atol=0.02)


def test_autocast_leaves_float32_alone(x):
    layer = BilinearUpsample(3, factor=8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x.requires_grad_())
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert torch.equal(y, layer(x))
    assert torch.equal(gradient, torch.autograd.grad(layer(x).square().sum(), x)[0])


def test_channels_last_scores_and_gradients(x):
    layer = BilinearUpsample(3, factor=8)
    lasting = x.to(memory_format=torch.channels_last).requires_grad_()
    y = layer(lasting, offset=(5, 5), size=(30, 31))
    assert y.is_contiguous()
    assert torch.equal(y, layer(x, offset=(5, 5), size=(30, 31)))
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (a,) = torch.autograd.grad(y, lasting, g.to(memory_format=torch.channels_last))
    (b,) = torch.autograd.grad(layer(x.requires_grad_(), offset=(5, 5), size=(30, 31)), x, g)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_meta_device_knows_the_shape(x):
    for learned in (False, True):
        y = BilinearUpsample(3, factor=8, learned=learned).to("meta")(x.to("meta"), offset=(5, 5), size=(30, 31))
        assert y.device.type == "meta"
        assert y.shape == (2, 3, 30, 31)


def test_a_layer_first_used_for_inference_still_trains(x):
    layer = BilinearUpsample(3, factor=8)
    with torch.inference_mode():
        layer(x)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad.abs().min() > 0


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.upscore = BilinearUpsample(3, factor=8, border="replicate")

    def forward(self, x):
        return self.upscore(x, offset=(4, 4), size=(8 * x.shape[2] - 3, 8 * x.shape[3]))


def test_exports_with_open_sizes(x):
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    exported = torch.export.export(Scorer(), (x,), dynamic_shapes={"x": {2: rows, 3: columns}}, strict=False).module()
    other = torch.randn(2, 3, 9, 3)
    for each in (x, other):
        torch.testing.assert_close(exported(each), Scorer()(each), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kernel", "factor"), [(5, 2), (2, 2), (16, 4), (1, 0), (0, 0), (-2, -1)])
def test_other_kernels_are_refused(kernel, factor):
    with pytest.raises(ModelError, match=f"found kernel {kernel} for upsampling factor {factor}"):
        bilinear_weights(kernel, factor)
    with pytest.raises(ModelError):
        BilinearUpsample(3, factor=factor, kernel=kernel)


def test_other_arguments_are_refused(x):
    with pytest.raises(ModelError, match="border 'reflect'"):
        BilinearUpsample(3, factor=2, border="reflect")
    with pytest.raises(ModelError, match="0 channels"):
        BilinearUpsample(0, factor=2)
    for wrong in (x[0], x[:, :2]):
        with pytest.raises(ModelError, match=r"expected \(N, 3, h, w\)"):
            BilinearUpsample(3, factor=2)(wrong)


def test_it_prints_its_settings():
    assert repr(BilinearUpsample(21, factor=8)) == "BilinearUpsample(21, factor=8, kernel=16, learned=False, border='zeros')"
