"""The naive baselines' settings, shapes and first weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.models.full_resolution import FullResolution
from upscore.models.normalization import Normalization
from upscore.models.sliding_window import SlidingWindow


def test_the_classifier_of_95_pixels_is_the_papers():
    network = SlidingWindow(num_classes=2, normalization=nn.Identity(), in_channels=1, patch=95)
    shapes, x = [], torch.zeros(1, 1, 95, 95)
    for layer in network.classifier:
        x = layer(x)
        if not isinstance(layer, nn.ReLU):
            shapes.append(tuple(x.shape[1:3]))
    assert shapes == [(48, 92), (48, 46), (48, 42), (48, 21), (48, 18), (48, 9), (48, 6), (48, 3), (200, 1), (2, 1)]


@pytest.mark.parametrize(("patch", "height", "width"), [(1, 3, 4), (3, 2, 5), (9, 1, 1), (9, 2, 3), (21, 4, 30)])
def test_borders_are_mirrored_as_numpy_does(patch, height, width):
    network = SlidingWindow(num_classes=2, normalization=nn.Identity(), patch=patch, width=1, hidden=1)
    images = torch.rand(2, 3, height, width)
    reach = patch // 2
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    np.testing.assert_array_equal(network.mirror(images).numpy(), expected)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_patches_at_once_bound_what_the_classifier_is_given(count):
    network = SlidingWindow(num_classes=2, normalization=nn.Identity(), patch=9, width=2, hidden=2, patches_at_once=10)
    seen = []
    network.classifier.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    with torch.no_grad():
        network(torch.rand(count, 3, 3, 4))
    assert all(shape[1:] == (3, 9, 9) for shape in seen)
    assert max(shape[0] for shape in seen) in range(8, 11)
    assert sum(shape[0] for shape in seen) == count * 3 * 4


def test_a_gradient_keeps_no_patch():
    network = SlidingWindow(num_classes=2, normalization=nn.Identity(), patch=9, width=2, hidden=2, patches_at_once=10)
    images, kept = torch.rand(2, 3, 16, 20), {}
    keep = lambda tensor: kept.update({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()}) or tensor  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = network(images)
    assert sum(kept.values()) <= network.mirror(images).numel() * 4
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_weights_keep_the_variance_at_the_start():
    torch.manual_seed(0)
    network = FullResolution(num_classes=4, normalization=nn.Identity(), in_channels=8, depth=3, width=64)
    second = network.layers.conv2
    assert second.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert not second.bias.any()
    fc1 = SlidingWindow(num_classes=2, normalization=nn.Identity()).classifier.fc1
    assert fc1.weight.std().item() == pytest.approx((2 / (48 * 25)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("build", "settings"),
    [(SlidingWindow, {"patch": 9, "width": 8, "hidden": 16}), (FullResolution, {"depth": 3, "width": 8, "batch_norm": True})],
    ids=["sliding window", "full resolution"],
)
@pytest.mark.parametrize("seed", range(3))
def test_they_learn(build, settings, seed):
    """Which of three bands of colour a pixel belongs to, from an image of eight by eight."""
    torch.manual_seed(seed)  # before it is built: its weights are drawn
    network = build(num_classes=3, normalization=Normalization.imagenet(), **settings)
    labels = torch.arange(64).view(1, 8, 8) // 22
    images = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert (network.stride, network.num_classes) == (1, 3)


@pytest.mark.parametrize(
    ("build", "settings", "says"),
    [
        (SlidingWindow, {"patch": 64}, "patch 64, expected an odd number"),
        (SlidingWindow, {"patch": 257}, "patch 257"),
        (SlidingWindow, {"every": 0}, "every 0"),
        (SlidingWindow, {"width": 2.5}, "width 2.5"),
        (SlidingWindow, {"num_classes": 300}, "found 300 classes"),
        (SlidingWindow, {"patches_at_once": 0}, "patches_at_once 0"),
        (FullResolution, {"depth": 0}, "depth 0"),
        (FullResolution, {"width": 10_000}, "width 10000"),
        (FullResolution, {"batch_norm": 1}, "batch_norm 1"),
        (FullResolution, {"in_channels": 0}, "found 0 input channels"),
    ],
)
def test_settings_out_of_range_are_refused(build, settings, says):
    with pytest.raises(ModelError, match=says) as raised:
        build(**{"num_classes": 3, "normalization": nn.Identity()} | settings)
    assert "\n" not in str(raised.value)
