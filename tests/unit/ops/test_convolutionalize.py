"""Linear layers as convolutions: weights kept, nothing else touched, misfits refused."""

import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.ops.convolutionalize import convolutionalize, linear_to_conv


@pytest.mark.parametrize("bias", [True, False])
def test_weights_are_copied_in_flattening_order(bias):
    linear = nn.Linear(3 * 2 * 4, 5, bias=bias)
    conv = linear_to_conv(linear, kernel=(2, 4), in_channels=3)
    assert conv.weight.shape == (5, 3, 2, 4)
    assert conv.weight[4, 1, 1, 2] == linear.weight[4, 1 * 8 + 1 * 4 + 2]
    assert (conv.bias is not None) == bias
    x = torch.randn(2, 3, 2, 4)
    torch.testing.assert_close(conv(x).flatten(1), linear(x.flatten(1)))
    with torch.no_grad():
        conv.weight.zero_()
    assert linear.weight.abs().min() > 0


def test_a_layer_after_a_linear_one_is_a_1x1_convolution():
    assert linear_to_conv(nn.Linear(7, 5), kernel=1, in_channels=7).weight.shape == (5, 7, 1, 1)


def test_mode_precision_and_frozenness_are_kept():
    linear = nn.Linear(7, 5).double().eval().requires_grad_(False)
    conv = linear_to_conv(linear, kernel=1, in_channels=7)
    assert conv.weight.dtype == torch.float64
    assert not conv.training
    assert not any(p.requires_grad for p in conv.parameters())


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ModelError, match="reads 100 features, expected 4×7×7 = 196"):
        linear_to_conv(nn.Linear(100, 5), kernel=7, in_channels=4)


def features():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2))


def test_the_parts_keep_their_names_and_modes():
    trunk, head = features(), nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2)).eval()
    trunk[2].eval()
    network = convolutionalize(trunk, head, input_size=8)
    assert network.features is trunk
    assert trunk.training
    assert [m.training for m in trunk] == [True, True, False]
    assert trunk[1].num_batches_tracked == 0
    assert not network.training
    assert not network.classifier.training
    assert network.classifier[1].weight.shape == (5, 4, 3, 3)
    assert network.classifier[3] is not head[3]
    assert isinstance(head[1], nn.Linear)
    assert [name for name, _ in network.classifier.named_children()] == [name for name, _ in head.named_children()]


def test_pictures_need_not_be_square_nor_rgb():
    trunk = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2))
    network = convolutionalize(trunk, nn.Sequential(nn.Linear(4 * 3 * 5, 2)), input_size=(6, 10), in_channels=1)
    assert network.classifier[0].kernel_size == (3, 5)
    assert network(torch.zeros(1, 1, 6, 12)).shape == (1, 2, 1, 2)


def test_a_hidden_layer_as_wide_as_the_map_is_still_1x1():
    network = convolutionalize(features(), nn.Sequential(nn.Linear(36, 36), nn.Linear(36, 2)), input_size=8)
    assert [layer.kernel_size for layer in network.classifier] == [(3, 3), (1, 1)]


def test_misfits_are_refused():
    with pytest.raises(ModelError, match="LayerNorm"):
        convolutionalize(features(), nn.Sequential(nn.Linear(36, 2), nn.LayerNorm(2)), input_size=8)
    with pytest.raises(ModelError, match="reads 35 features, expected 4×3×3 = 36"):
        convolutionalize(features(), nn.Sequential(nn.Linear(35, 2)), input_size=8)
    with pytest.raises(ModelError, match="leave its pooling"):
        convolutionalize(nn.Sequential(features(), nn.Flatten()), nn.Sequential(nn.Linear(36, 2)), input_size=8)
