"""Linear layers as convolutions: weights kept, nothing else touched, misfits refused."""

import warnings

import pytest
import torch
from torch import nn

from upscore.dense_classifiers.convolutionalize import InexactWarning, convolutionalize, linear_to_conv
from upscore.errors import ModelError
from upscore.ops.geometry import Geometry


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
    with pytest.raises(ModelError, match="takes 100 features, expected 4×7×7 = 196"):
        linear_to_conv(nn.Linear(100, 5), kernel=7, in_channels=4)


def backbone():
    return [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2))
    model[1].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dense = convolutionalize(model, input_size=8)
    assert [m.training for m in model] == [True, False, *[True] * 7]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert isinstance(model[5], nn.Linear)
    assert dense.training
    assert dense.network.get_submodule("0") is model[0]
    assert not convolutionalize(model.eval(), input_size=8).training


def test_an_exact_one_says_so_and_warns_of_nothing():
    model = nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(36, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dense = convolutionalize(model, input_size=8)
    assert (dense.exact, dense.caveat) == (True, "")
    assert dense.geometry == Geometry(2, 3.5, 8)
    assert "Conv2d(4, 2, kernel_size=(3, 3)" in str(dense.network)


def test_images_need_not_be_square_nor_rgb():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 2 * 4, 2))
    dense = convolutionalize(model, input_size=(6, 10), in_channels=1)
    assert dense(torch.zeros(1, 1, 6, 12)).shape == (1, 2, 1, 2)
    with pytest.raises(ModelError, match="found images of 6×9 pixels, expected at least 6×10"):
        dense(torch.zeros(1, 1, 6, 9))


def test_a_hidden_layer_as_wide_as_the_map_is_still_1x1():
    dense = convolutionalize(nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(36, 36), nn.Linear(36, 2)), input_size=8)
    kernels = [m.kernel_size for m in dense.network.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(3, 3), (3, 3), (1, 1)]


def test_norms_of_vectors_become_norms_of_cells():
    torch.manual_seed(0)
    model = nn.Sequential(
        *backbone(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)
    ).eval()
    for norm in (model[6], model[8]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    nn.init.normal_(model[8].running_mean)
    dense = convolutionalize(model, input_size=8)
    image = torch.randn(1, 3, 12, 10)
    for i, j in ((0, 0), (2, 1), (1, 0)):
        torch.testing.assert_close(dense(image)[..., i, j], model(image[..., 2 * i : 2 * i + 8, 2 * j : 2 * j + 8]))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class Gated(Padded):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.fc((x * torch.sigmoid(x.mean((2, 3), keepdim=True))).mean((2, 3)))


class RoundsUp(Padded):
    def __init__(self):
        super().__init__()
        self.conv = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.fc = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("model", "size", "caveat"),
    [
        (Padded, 8, "sees 1 pixels before its window and 1 beyond it"),
        (Gated, 8, "gates or norms average over all positions"),
        (RoundsUp, 7, "sees 0 pixels before its window and 1 beyond it"),
    ],
)
@torch.no_grad()
def test_where_it_is_not_exact_it_says_why_and_is_not(model, size, caveat):
    torch.manual_seed(0)
    model = model().eval()
    with pytest.warns(InexactWarning, match=caveat):
        dense = convolutionalize(model, input_size=size)
    assert not dense.exact
    assert caveat in dense.caveat
    assert "\n" not in dense.caveat
    image = torch.randn(1, 3, 16, 16)
    jump = int(dense.geometry.stride)
    crop = image[..., 2 * jump : 2 * jump + size, 2 * jump : 2 * jump + size]
    assert (dense(image)[..., 2, 2] - model(crop)).abs().max() > 1e-4
    torch.testing.assert_close(dense(crop)[..., 0, 0], model(crop))


def test_rounding_up_that_never_happens_is_exact():
    assert convolutionalize(RoundsUp().eval(), input_size=8).exact


def test_pooling_to_a_fixed_size_becomes_pooling_by_a_fixed_kernel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((3, 3)), nn.Flatten(), nn.Linear(36, 2)).eval()
    assert convolutionalize(model, input_size=3).geometry.stride == 1
    dense = convolutionalize(model, input_size=6)
    assert dense.geometry.stride == 2
    image = torch.randn(1, 3, 10, 8)
    torch.testing.assert_close(dense(image)[..., 2, 1], model(image[..., 4:10, 2:8]))
    with pytest.raises(ModelError, match="pools 7×7 cells to 3×3"):
        convolutionalize(model, input_size=7)


class Branched(Padded):
    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.fc(x) + self.fc(x.relu())


class Depends(Padded):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Token(Padded):
    def forward(self, x):
        return self.fc(self.conv(x).flatten(2).transpose(1, 2)[:, 0])


class Sorted(Padded):
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)).sort(1).values)


class Peak(nn.Module):
    def forward(self, x):
        return x / x.abs().max()


class Scaled(Gated):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)) * self.scale)


@torch.no_grad()
def test_a_number_that_is_learned_is_kept():
    torch.manual_seed(0)
    model = Scaled().eval()
    dense = convolutionalize(model, input_size=8)
    image = torch.randn(2, 3, 10, 9)
    torch.testing.assert_close(dense(image)[..., 2, 1], model(image[..., 2:, 1:]))


class Attends(Padded):
    def forward(self, x):
        x = self.conv(x)
        flat = x.flatten(2)
        return self.fc((flat @ (flat.transpose(1, 2) @ flat)).reshape(x.shape).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Branched, "head with branches"),
        (lambda: nn.Sequential(*backbone(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Peak(), nn.Linear(4, 2)), "layer '6' of type Peak"),
        (lambda: nn.Sequential(*backbone(), nn.AdaptiveAvgPool2d(1), Peak(), nn.Flatten(), nn.Linear(4, 2)), "layer '5' of type Peak"),
        (Depends, "the forward pass of Depends cannot be traced"),
        (Token, "without a classifier's head"),
        (Sorted, "found 'sort' after the map became a vector"),
        (Attends, "attention"),
        (lambda: nn.Conv2d(3, 4, 3), "without a classifier's head"),
        (lambda: nn.Sequential(*backbone(), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2)), r"layer '5' of type LayerNorm"),
        (lambda: nn.Sequential(*backbone(), nn.Flatten(), nn.Softmax(1), nn.Linear(36, 2)), "layer '5' of type Softmax"),
        (lambda: nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(35, 2)), "cannot be run on images of 8×8"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(36, 2)), "with 3 channels"),
    ],
)
def test_misfits_are_refused_in_one_line(model, complaint):
    with pytest.raises(ModelError, match=complaint) as error:
        convolutionalize(model(), input_size=8)
    assert "\n" not in str(error.value)


def test_the_size_must_be_known():
    with pytest.raises(ModelError, match="give input_size"):
        convolutionalize(nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(36, 2)))
    with pytest.raises(ModelError, match="at least 1×1"):
        convolutionalize(nn.Sequential(*backbone(), nn.Flatten(), nn.Linear(36, 2)), input_size=0)
