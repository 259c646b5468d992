"""Without padding, cell (i, j) is the classifier's answer for the crop at stride × (i, j)."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.dense_classifiers.convolutionalize import convolutionalize

law = settings(deadline=None, max_examples=8)


@st.composite
def classifiers(draw):
    """A random unpadded classifier, the size it was made for, and its stride."""
    layers, channels, stride = [], 3, 1
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "strided", "dilated", "max", "average", "norm", "activation"]))
        if kind == "norm":
            layers.append(nn.BatchNorm2d(channels))
        elif kind == "activation":
            layers.append(draw(st.sampled_from([nn.ReLU(), nn.Hardswish(), nn.GELU(), nn.LocalResponseNorm(3)])))
        elif kind in ("max", "average"):
            kernel = draw(st.sampled_from([2, 3]))
            layers.append(nn.MaxPool2d(kernel, 2) if kind == "max" else nn.AvgPool2d(kernel, 2))
            stride *= 2
        else:
            wide, step = draw(st.integers(2, 4)), 2 if kind == "strided" else 1
            layers.append(nn.Conv2d(channels, wide, draw(st.sampled_from([1, 2, 3])), step, dilation=2 if kind == "dilated" else 1))
            channels, stride = wide, stride * step
    size = draw(st.integers(12, 34))
    backbone = nn.Sequential(*layers).double().eval()
    try:
        rows, columns = backbone(torch.zeros(1, 3, size, size, dtype=torch.float64)).shape[2:]
    except RuntimeError:
        assume(False)
    head = draw(st.sampled_from(["flatten", "average", "keepdim", "maximum"]))
    if head == "flatten":
        x = torch.zeros(1, 3, size, size, dtype=torch.float64)
        for layer in layers:
            if isinstance(layer, nn.AvgPool2d) and x.shape[2:] == (layer.kernel_size, layer.kernel_size):
                stride //= 2  # an average of the whole map is the head, whose windows slide by one
            x = layer.double().eval()(x)
        assume(rows * columns * channels < 2000)
        steps = [nn.Flatten(), nn.Dropout(), nn.Linear(channels * rows * columns, 5), nn.ReLU(), nn.Linear(5, 4)]
    else:
        pool = nn.AdaptiveMaxPool2d(1) if head == "maximum" else nn.AdaptiveAvgPool2d(1)
        middle = [nn.Conv2d(channels, channels, 1)] if head == "keepdim" else []
        steps = [pool, *middle, nn.Flatten(), nn.LayerNorm(channels), nn.Linear(channels, 4)]
    return nn.Sequential(*backbone, *steps).double().eval(), size, stride


@law
@given(classifiers(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**31))
@torch.no_grad()
def test_every_cell_is_the_answer_for_its_window(classifier, higher, wider, seed):
    model, size, stride = classifier
    torch.manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "running_mean" in name or (tensor.ndim > 0 and "running" not in name):
            tensor.normal_(std=0.5)
    dense = convolutionalize(model, input_size=size)
    assert dense.exact
    assert not dense.caveat
    assert (dense.geometry.stride, dense.geometry.receptive_field) == (stride, size)
    image = torch.randn(2, 3, size + higher, size + wider, dtype=torch.float64)
    grid = dense(image)
    inside = (higher // stride + 1, wider // stride + 1)
    assert all(cells >= windows for cells, windows in zip(grid.shape[2:], inside, strict=True))
    for i in range(inside[0]):
        for j in range(inside[1]):
            crop = image[..., stride * i : stride * i + size, stride * j : stride * j + size]
            torch.testing.assert_close(grid[..., i, j], model(crop), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
@pytest.mark.parametrize("last", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
@torch.no_grad()
def test_a_pooling_that_leaves_one_cell_before_the_pooling_of_all_keeps_its_stride(pool, last):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Conv2d(4, 4, 1), last, nn.Flatten(), nn.Linear(4, 2)).double().eval()
    dense = convolutionalize(model, input_size=4)
    assert dense.geometry.stride == 2
    image = torch.randn(1, 3, 8, 10, dtype=torch.float64)
    grid = dense(image)
    assert grid.shape == (1, 2, 3, 4)
    for i, j in ((0, 0), (1, 3), (2, 2)):
        torch.testing.assert_close(grid[..., i, j], model(image[..., 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]))


@pytest.mark.parametrize(("pool", "stride"), [(nn.AvgPool2d(2), 1), (nn.MaxPool2d(2), 2)])
@torch.no_grad()
def test_an_average_of_the_whole_map_is_the_head_and_a_maximum_of_windows_is_not(pool, stride):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Flatten(), nn.Linear(4, 2)).double().eval()
    dense = convolutionalize(model, input_size=4)
    assert dense.geometry.stride == stride
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(dense(image)[..., 1, 1], model(image[..., stride : stride + 4, stride : stride + 4]))
