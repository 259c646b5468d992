"""Rarefaction and stitching against the paper's two sentences, written out in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from upscore.dense_classifiers.rarefaction import rarefy
from upscore.dense_classifiers.shift_and_stitch import shift_and_stitch

Filters = list[tuple[str, np.ndarray, int]]


def run(layers: Filters, x: np.ndarray) -> np.ndarray:
    """Cross-correlate, or take maxima where a filter is not zero; x is (C, H, W), filters are (O, C, k, k)."""
    for kind, weight, stride in layers:
        kernel = weight.shape[-1]
        windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
        taken = np.where(weight[0, 0] > 0, windows, -np.inf)
        x = np.einsum("ockl,cyxkl->oyx", weight, windows) if kind == "conv" else taken.max((-2, -1))
    return x


def shift_and_interlace(layers: Filters, x: np.ndarray, factor: int, cells: tuple[int, ...]) -> np.ndarray:
    """Section 3.2: the output of the image shifted by (y, x) belongs at every factor-th pixel from (y, x)."""
    dense = np.full(cells, np.nan)
    for a in range(factor):
        for b in range(factor):
            dense[:, a::factor, b::factor] = run(layers, x[:, a:, b:])
    return dense


def enlarge(layers: Filters) -> Filters:
    """Section 3.2: f'_ij = f_{i/s, j/s} where s divides both i and j, else 0; repeated layer by layer."""
    enlarged, s = [], 1
    for kind, weight, stride in layers:
        kernel = weight.shape[-1]
        rare = np.zeros((*weight.shape[:2], (kernel - 1) * s + 1, (kernel - 1) * s + 1))
        for i in range(rare.shape[-2]):
            for j in range(rare.shape[-1]):
                if i % s == 0 and j % s == 0:
                    rare[..., i, j] = weight[..., i // s, j // s]
        enlarged.append((kind, rare, 1))
        s *= stride
    return enlarged


def as_network(layers: Filters) -> nn.Sequential:
    modules: list[nn.Module] = []
    for kind, weight, stride in layers:
        if kind == "conv":
            module = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[-1], stride, bias=False, dtype=torch.float64)
            module.weight.data = torch.from_numpy(weight)
            modules.append(module)
        else:
            modules.append(nn.MaxPool2d(weight.shape[-1], stride))
    return nn.Sequential(*modules)


def filters(stack: list[tuple[str, int, int]], rng: np.random.Generator) -> Filters:
    layers: Filters = []
    for kind, kernel, stride in stack:
        shape = (2, 2, kernel, kernel) if kind == "conv" else (1, 1, kernel, kernel)
        layers.append((kind, rng.integers(-2, 3, shape).astype(float) if kind == "conv" else np.ones(shape), stride))
    return layers


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from(["conv", "max"]), st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=3), st.integers(0, 9)
)
def test_both_are_the_papers(stack, seed):
    rng = np.random.default_rng(seed)
    layers = filters(stack, rng)
    factor = int(np.prod([stride for *_, stride in stack]))
    field = 1 + sum(weight.shape[-1] - 1 for _, weight, _ in enlarge(layers))
    x = rng.integers(-3, 4, (2, field + 7, field + 8)).astype(float)
    expected = run(enlarge(layers), x)
    assert (shift_and_interlace(layers, x, factor, expected.shape) == expected).all()  # the paper agrees with itself
    network = as_network(layers)
    images = torch.from_numpy(x)[None]
    with torch.no_grad():
        assert (rarefy(network)(images)[0].numpy() == expected).all()
        assert (shift_and_stitch(network, images)[0][0].numpy() == expected).all()


def test_fc6_after_a_pool5_of_stride_one_is_dilated_by_two():
    """The paper's example: pool5 of stride 1 asks for an fc6 of 14×14, which is 7×7 with every second row and column empty."""
    layers = filters([("max", 2, 2), ("conv", 7, 1)], np.random.default_rng(0))
    (_, _, _), (_, fc6, _) = enlarge(layers)
    assert fc6.shape[-1] == 13  # the fourteenth is empty
    rare = rarefy(as_network(layers))
    assert rare.get_submodule("1").dilation == (2, 2)
