"""The lecture in equalities: a patch classifier at every pixel, its dense pass, its stitched passes, and tiles of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.dense_classifiers.rarefaction import output_grid, rarefy
from upscore.dense_classifiers.shift_and_stitch import shift_and_stitch
from upscore.inference.segmenter import NetworkSegmenter
from upscore.inference.tiling import tiled
from upscore.models.full_resolution import FullResolution
from upscore.models.normalization import Normalization
from upscore.models.sliding_window import SlidingWindow
from upscore.ops.geometry import Geometry

law = settings(deadline=None, max_examples=15)
odd = st.integers(0, 13).map(lambda n: 2 * n + 1)
sizes = st.integers(1, 12)


def small(**settings_) -> SlidingWindow:
    arguments = {"num_classes": 3, "normalization": nn.Identity(), "in_channels": 2, "width": 3, "hidden": 4, "patches_at_once": 7}
    return SlidingWindow(**arguments | settings_)


def whole_numbers(network: nn.Module, seed: int) -> nn.Module:
    """Sums of small whole numbers are exact in float64, whatever their order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
    return network.eval()


@law
@given(odd, st.integers(1, 2), sizes, sizes, st.integers(0, 99))
def test_a_window_at_every_pixel_equals_one_dense_pass(patch, count, height, width, seed):
    network = whole_numbers(small(patch=patch), seed)
    images = torch.randint(-3, 4, (count, 2, height, width), generator=torch.Generator().manual_seed(seed)).double()
    logits = network(images)
    mirrored = network.mirror(images)
    assert logits.shape == (count, 3, height, width)
    assert torch.equal(rarefy(network.classifier)(mirrored), logits)
    assert torch.equal(shift_and_stitch(network.classifier, mirrored)[0], logits)


@law
@given(odd)
def test_every_pixel_of_a_patch_is_seen_and_no_other(patch):
    axis, _ = output_grid(small(patch=patch).classifier)
    assert axis.geometry.receptive_field == patch
    assert axis.geometry.offset == patch // 2
    assert axis.shrinkage == patch - 1


def test_gradients_of_windows_are_those_of_the_dense_pass():
    network = whole_numbers(small(patch=9), 0)
    images = torch.randint(-3, 4, (1, 2, 6, 7)).double()
    learned = list(network.parameters())
    by_windows = torch.autograd.grad(network(images).square().sum(), learned)
    at_once = torch.autograd.grad(rarefy(network.classifier)(network.mirror(images)).square().sum(), learned)
    for mine, theirs in zip(by_windows, at_once, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
    assert all(gradient.abs().sum() > 0 for gradient in by_windows)


@law
@given(odd, sizes, st.integers(1, 3), st.integers(1, 5), sizes)
def test_sparser_windows_are_right_where_they_are_and_between(patch, height, width, every, seed):
    dense, sparse = whole_numbers(small(patch=patch), seed), whole_numbers(small(patch=patch, every=every), seed)
    images = torch.randint(-3, 4, (1, 2, height, width), generator=torch.Generator().manual_seed(seed)).double()
    expected, found = dense(images), sparse(images)
    assert found.shape == expected.shape
    cells = expected[..., ::every, ::every]
    torch.testing.assert_close(found[..., ::every, ::every], cells)
    for row in range(height):
        above, below = row // every, min(row // every + 1, cells.shape[-2] - 1)
        weight = row % every / every
        between = (1 - weight) * cells[..., above, :] + weight * cells[..., below, :]
        torch.testing.assert_close(found[..., row, ::every], between)


@pytest.mark.parametrize(
    "network",
    [
        small(patch=9, in_channels=3, normalization=Normalization.imagenet()),
        small(patch=5, in_channels=3, normalization=Normalization.imagenet(), every=3),
        FullResolution(num_classes=3, normalization=Normalization.imagenet(), depth=4, width=5),
    ],
    ids=["sliding window", "every third", "full resolution"],
)
@settings(deadline=None, max_examples=6)
@given(height=st.integers(1, 30), width=st.integers(1, 30), tile=st.integers(1, 12))
def test_tiles_equal_the_whole_image(network, height, width, tile):
    network.eval()
    segment = NetworkSegmenter(network)
    images = torch.rand(1, 3, height, width)
    parts = tiled(segment, tile=tile, margin=network.geometry.margin(), stride=int(network.geometry.stride))(images)
    torch.testing.assert_close(parts, segment(images), rtol=0, atol=1e-5)


@law
@given(sizes, sizes, st.integers(1, 5), st.booleans())
def test_the_field_of_full_resolution_grows_by_two(height, width, depth, batch_norm):
    network = FullResolution(num_classes=2, normalization=nn.Identity(), depth=depth, width=2, batch_norm=batch_norm).double().eval()
    assert network.geometry == Geometry(1, 0, 1 + 2 * depth)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)  # nothing cancels, so that every pixel in the field has a gradient
    images = torch.ones(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    assert logits.shape == (1, 2, height, width)
    (gradient,) = torch.autograd.grad(logits[0, 0, height // 2, width // 2], images)
    rows = torch.nonzero(gradient[0, 0].sum(1)).flatten()
    assert rows[0] == max(0, height // 2 - depth)
    assert rows[-1] == min(height - 1, height // 2 + depth)
