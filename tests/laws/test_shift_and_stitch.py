"""Shifted runs stitched together equal the rarefied network: exactly, in float64, on any network without padding.

Weights and images are small whole numbers, so that every sum is exact in float64 whatever
its order: equal means equal in every bit. Averages are over 1, 2 or 4 cells, for the same reason.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.dense_classifiers.rarefaction import output_grid, rarefy
from upscore.dense_classifiers.shift_and_stitch import shift_and_stitch

law = settings(deadline=None, max_examples=25)
conv = st.tuples(st.just("conv"), st.integers(1, 5), st.integers(1, 3), st.integers(1, 2))  # kind, kernel, stride, dilation
top = st.tuples(st.just("max"), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
mean = st.tuples(st.just("mean"), st.integers(1, 2), st.integers(1, 3), st.just(1))
stacks = st.lists(st.one_of(conv, top, mean), min_size=1, max_size=4)
seeds = st.integers(0, 1000)


def whole_numbers(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
    return module.eval()


def make_image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).double()


def build(stack, seed: int = 0, *, ceil_mode: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for number, (kind, kernel, stride, dilation) in enumerate(stack):
        if kind == "conv":
            layers += [nn.Conv2d(2, 2, kernel, stride, dilation=dilation), *([nn.ReLU()] if number % 2 else [])]
        elif kind == "max":
            layers.append(nn.MaxPool2d(kernel, stride, dilation=dilation, ceil_mode=ceil_mode))
        else:
            layers.append(nn.AvgPool2d(kernel, stride, ceil_mode=ceil_mode))
    return whole_numbers(nn.Sequential(*layers), seed)


@law
@given(stacks, st.integers(0, 9), st.integers(0, 9), st.integers(1, 2), st.integers(1, 4), st.booleans(), seeds)
def test_stitched_equals_rarefied(stack, more_rows, more_columns, count, shifts_at_once, ceil_mode, seed):
    network = build(stack, seed, ceil_mode=ceil_mode)
    axis, _ = output_grid(network)
    assume(axis.geometry.stride <= 9)
    images = make_image(count, 2, axis.shrinkage + 1 + more_rows, axis.shrinkage + 1 + more_columns, seed=seed)
    stitched, geometry = shift_and_stitch(network, images, shifts_at_once=shifts_at_once)
    assert stitched.shape[-2:] == (more_rows + 1, more_columns + 1)
    assert torch.equal(stitched, rarefy(network)(images))
    assert (geometry.stride, geometry.offset, geometry.receptive_field) == (1, axis.geometry.offset, axis.geometry.receptive_field)
    given_geometry, _ = shift_and_stitch(network, images, geometry=axis.geometry)
    assert torch.equal(given_geometry, stitched)


@law
@given(stacks, st.data(), st.integers(0, 12), seeds)
def test_a_finer_grid_is_part_of_the_dense_one(stack, data, more, seed):
    network = build(stack, seed)
    axis, _ = output_grid(network)
    jump = int(axis.geometry.stride)
    step = data.draw(st.sampled_from([d for d in range(1, jump + 1) if jump % d == 0]))
    assume(jump // step <= 6)
    images = make_image(1, 2, axis.shrinkage + 1 + more, axis.shrinkage + 4, seed=seed)
    dense = rarefy(network)(images)
    stitched, geometry = shift_and_stitch(network, images, factor=jump // step)
    assert torch.equal(stitched, dense[..., ::step, ::step])
    assert geometry.stride == step
    assert torch.equal(rarefy(network, stride=step)(images), stitched)


@law
@given(stacks, seeds)
def test_each_answer_is_that_of_the_window_around_it(stack, seed):
    """What the whole construction is for: cell (y, x) is the network run on the window that begins there, and nothing else."""
    network = build(stack, seed)
    axis, _ = output_grid(network)
    field = int(axis.geometry.receptive_field)
    images = make_image(1, 2, field + 2, field + 1, seed=seed)
    dense = rarefy(network)(images)
    for y in range(3):
        for x in range(2):
            assert torch.equal(dense[..., y, x], network(images[..., y : y + field, x : x + field])[..., 0, 0])


class Branches(nn.Module):
    """Every way to part and meet, to call a layer, and to use one twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, (3, 2), (2, 1))
        self.twice = nn.Conv2d(4, 4, 3, groups=2)
        self.wide = nn.Conv2d(4, 3, 3, stride=2)
        self.narrow = nn.Conv2d(4, 2, 1, stride=2)
        self.norm = nn.BatchNorm2d(5)
        self.score = nn.Conv2d(5, 2, 1)
        self.scale = nn.Parameter(torch.ones(5, 1, 1))

    def forward(self, images):
        x = self.stem(images).relu()
        x = x[:, :, 1:-1, 1:-1] + self.twice(x)
        x = F.max_pool2d(x, kernel_size=2, stride=2)
        x = self.twice(x) + F.avg_pool2d(x, 1)[..., 1:-1, 1:-1] + F.conv2d(x, self.twice.weight, groups=2)
        x = torch.cat([self.wide(x), self.narrow(x[..., 1:-1, 1:-1])], dim=1)
        x = F.dropout(self.norm(x) * self.scale, training=self.training)
        return self.score(x)


@law
@given(st.integers(0, 9), st.integers(0, 9), seeds)
def test_branches_part_and_meet(more_rows, more_columns, seed):
    network = whole_numbers(Branches(), seed)
    with torch.no_grad():
        network.norm.running_var.fill_(1)
        network.norm.eps = 0.0
    rows, columns = output_grid(network)
    assert (rows.geometry.stride, columns.geometry.stride) == (8, 4)
    images = make_image(1, 2, rows.shrinkage + 1 + more_rows, columns.shrinkage + 1 + more_columns, seed=seed)
    dense = rarefy(network)(images)
    assert dense.shape[-2:] == (more_rows + 1, more_columns + 1)
    for y in range(min(more_rows + 1, 8)):
        for x in range(min(more_columns + 1, 4)):
            assert torch.equal(network(images[..., y:, x:]), dense[..., y::8, x::4])


@law
@given(stacks, seeds)
def test_gradients_are_the_same(stack, seed):
    network = build(stack, seed)
    axis, _ = output_grid(network)
    assume(axis.geometry.stride <= 6)
    images = make_image(1, 2, axis.shrinkage + 4, axis.shrinkage + 3, seed=seed).requires_grad_()
    learned = [images, *network.parameters()]
    stitched, _ = shift_and_stitch(network, images)
    towards = make_image(*stitched.shape, seed=seed + 1)
    expected = torch.autograd.grad(stitched, learned, towards)
    found = torch.autograd.grad(rarefy(network)(images), learned, towards)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12 * max(1.0, largest))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ordinary_weights_agree_to_rounding(dtype):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(8, 8, 3), nn.AvgPool2d(3, 2), nn.Conv2d(8, 4, 3)
    )
    network = network.to(dtype)
    images = torch.rand(1, 3, 70, 61, dtype=dtype)
    stitched, _ = shift_and_stitch(network, images, shifts_at_once=16)
    torch.testing.assert_close(rarefy(network)(images), stitched, rtol=0, atol=1e-14 if dtype == torch.float64 else 1e-6)
