"""Pooling with switches and unpooling against torch's own pair, which keeps 64-bit places."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from upscore.ops.unpool import max_pool, max_unpool


def difficult(*shape: int) -> Tensor:
    """Values with many ties, some NaN and some infinities."""
    drawn = torch.Generator().manual_seed(sum(shape))
    x = torch.randint(-2, 3, shape, generator=drawn).float()
    chance = torch.rand(shape, generator=drawn)
    return x.masked_fill(chance < 0.1, float("nan")).masked_fill(chance > 0.9, float("-inf"))


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(9.5), b.nan_to_num(9.5))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 8), (5, 7), (45, 60), (9, 16), (3, 9)])
def test_the_pair_and_its_gradients_equal_torch_bit_for_bit(size):
    x = difficult(2, 3, *size).requires_grad_()
    y, switches = max_pool(x)
    out = max_unpool(y, switches, size)
    other = x.detach().clone().requires_grad_()
    pooled, places = F.max_pool2d(other, 2, ceil_mode=True, return_indices=True)
    expected = F.max_unpool2d(pooled, places, 2, stride=2, output_size=size)
    assert same(y, pooled)
    assert same(out, expected)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(x.grad, other.grad)
