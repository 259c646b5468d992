"""A convolutionalized classifier against the classifier itself (Long, Shelhamer and Darrell 2015, §3.1)."""

import pytest
import torch
from torch import nn

from upscore.ops.convolutionalize import convolutionalize
from upscore.ops.geometry import Geometry


def alexnet(padding, ceil, channels=(6, 8, 8, 8, 8)):
    """AlexNet's strides, kernels and pools, with few channels."""
    one, two, three, four, five = channels
    return nn.Sequential(
        nn.Conv2d(3, one, 11, 4, padding and 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=ceil),
        nn.Conv2d(one, two, 5, padding=padding and 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=ceil),
        nn.Conv2d(two, three, 3, padding=padding),
        nn.ReLU(),
        nn.Conv2d(three, four, 3, padding=padding),
        nn.ReLU(),
        nn.Conv2d(four, five, 3, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=ceil),
    )


def vgg(padding):
    """Two stages in VGG16's manner."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=padding),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(5, 6, 3, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
    )


def classifier(features, size, *, flatten=False, classes=7):
    with torch.no_grad():
        read = features(torch.zeros(1, 3, size, size)).numel()
    layers = [nn.Dropout(), nn.Linear(read, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, classes)]
    return nn.Sequential(*([nn.Flatten()] if flatten else []), *layers).eval()


def geometry_of(features):
    grid = Geometry()
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            grid = grid.conv(layer.kernel_size[0], layer.stride[0], layer.padding[0])
        elif isinstance(layer, nn.MaxPool2d):
            grid = grid.pool(layer.kernel_size, layer.stride, layer.padding)
    return grid


def answer(features, head, x):
    return head(features(x).flatten(1))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("features", "size"),
    [(alexnet(1, ceil=False), 224), (alexnet(0, ceil=True), 227), (vgg(1), 32), (vgg(0), 30)],
    ids=["alexnet", "alexnet without padding", "vgg", "vgg without padding"],
)
@pytest.mark.parametrize("flatten", [False, True])
@torch.no_grad()
def test_on_the_training_size_it_gives_the_classifiers_logits(features, size, flatten):
    head = classifier(features, size, flatten=flatten)
    x = torch.randn(2, 3, size, size)
    logits = convolutionalize(features, head, input_size=size)(x)
    assert logits.shape == (2, 7, 1, 1)
    torch.testing.assert_close(logits.flatten(1), answer(features, head, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("features", "size", "larger"), [(vgg(0), 28, (41, 38)), (alexnet(0, ceil=False), 227, (300, 267))])
@torch.no_grad()
def test_without_padding_every_cell_is_the_classifiers_answer_for_its_crop(features, size, larger):
    head = classifier(features, size)
    x = torch.randn(1, 3, *larger)
    logits = convolutionalize(features, head, input_size=size)(x)
    stride = int(geometry_of(features).jump)
    assert logits.shape[2:] == tuple((n - size) // stride + 1 for n in larger)
    assert logits[0, 0].numel() > 1
    for i in range(logits.shape[2]):
        for j in range(logits.shape[3]):
            crop = x[..., stride * i : stride * i + size, stride * j : stride * j + size]
            torch.testing.assert_close(logits[..., i, j], answer(features, head, crop), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_with_padding_cells_are_not_the_answers_for_their_crops():
    """Padding stands at every crop's border, and only at the large picture's."""
    features = vgg(1)
    head = classifier(features, 32)
    x = torch.randn(1, 3, 40, 40)
    logits = convolutionalize(features, head, input_size=32)(x)
    assert (logits[..., 1, 1] - answer(features, head, x[..., 4:36, 4:36])).abs().max() > 1e-3


@pytest.mark.parametrize(("ceil", "cells"), [(True, 10), (False, 9)])
@torch.no_grad()
def test_the_papers_ten_by_ten_grid_needs_pools_that_round_up(ceil, cells):
    features = alexnet(1, ceil=ceil)
    features[0].padding = (0, 0)  # AlexNet pads its later convolutions alone
    head = classifier(features, 227)
    assert convolutionalize(features, head, input_size=227)(torch.zeros(1, 3, 500, 500)).shape[2:] == (cells, cells)
