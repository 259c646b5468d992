from __future__ import annotations

import pytest
import torch
from torch import nn

from upscore.errors import RecipeError
from upscore.inference.segmenter import NetworkSegmenter, choose_device


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 4, 1))


def test_it_is_the_softmax_of_the_network_in_evaluation_mode():
    model, images = network(), torch.rand(2, 3, 5, 7)
    expected = torch.softmax(network().eval()(images), 1)
    probs = NetworkSegmenter(model)(images)
    torch.testing.assert_close(probs, expected)
    assert not probs.requires_grad


def test_modes_weights_and_statistics_are_left_as_they_were():
    model = network().train()
    model[1].eval()  # a frozen layer in a network that trains
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = [parameter.stride() for parameter in model.parameters()]
    NetworkSegmenter(model)(torch.rand(2, 3, 5, 7))
    assert [module.training for module in model] == [True, False, True, True]
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert strides == [parameter.stride() for parameter in model.parameters()]


def test_modes_come_back_after_an_error():
    model = network().train()
    with pytest.raises(RuntimeError):
        NetworkSegmenter(model)(torch.rand(2, 5, 5, 7))
    assert all(module.training for module in model.modules())


def test_bf16_is_close_and_its_probabilities_are_float32():
    images = torch.rand(1, 3, 9, 8)
    exact, rough = NetworkSegmenter(network())(images), NetworkSegmenter(network(), precision="bf16")(images)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 2e-2
    torch.testing.assert_close(rough.sum(1), torch.ones(1, 9, 8))


def test_memory_order_changes_no_value():
    images = torch.rand(1, 3, 9, 8)
    torch.testing.assert_close(NetworkSegmenter(network(), channels_last=True)(images), NetworkSegmenter(network())(images))


def test_unknown_precisions_and_devices_are_refused():
    with pytest.raises(RecipeError, match="fp16"):
        NetworkSegmenter(network(), precision="fp16")
    with pytest.raises(RecipeError, match="warp"):
        choose_device("warp")
    with pytest.raises(RecipeError, match="CUDA devices"):
        choose_device("cuda:99")
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cpu", "cuda", "mps")
