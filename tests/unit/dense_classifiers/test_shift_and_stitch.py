"""What cannot be stitched is refused in one line; what is rarefied shares its weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscore.dense_classifiers.rarefaction import output_grid, rarefy
from upscore.dense_classifiers.shift_and_stitch import shift_and_stitch
from upscore.errors import GeometryError, ModelError
from upscore.ops.geometry import Geometry


class Call(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, 2)
        self.function = function

    def forward(self, images):
        return self.function(self.conv(images))


def narrow() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)).eval()


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.Conv2d(2, 2, 3, padding=1), "pads by 1×1"),
        (nn.Conv2d(2, 2, 3, padding="same"), "pads by 1×1"),
        (nn.MaxPool2d(3, 2, 1), "pads by 1×1"),
        (nn.AvgPool2d(3, 2, (0, 1)), "pads by 0×1"),
        (nn.MaxPool2d(2, return_indices=True), "indices"),
        (nn.AdaptiveAvgPool2d(1), "AdaptiveAvgPool2d"),
        (nn.ConvTranspose2d(2, 2, 4, 2), "ConvTranspose2d"),
        (nn.GroupNorm(1, 2), "GroupNorm"),
        (nn.InstanceNorm2d(2), "InstanceNorm2d"),
        (nn.Upsample(scale_factor=2), "Upsample"),
        (nn.ZeroPad2d(1), "ZeroPad2d"),
        (nn.Softmax(dim=2), "Softmax"),
        (nn.LPPool2d(2, 2), "LPPool2d"),
    ],
)
def test_layers_that_reach_further_are_refused(layer, says):
    with pytest.raises(ModelError, match=says) as raised:
        rarefy(nn.Sequential(nn.Conv2d(2, 2, 1), layer))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: F.max_pool2d(x, 3, 1, 1), "pads by 1×1"),
        (lambda x: F.avg_pool2d(x, 3, padding=1), "pads by 1×1"),
        (lambda x: F.interpolate(x, scale_factor=2), "interpolate"),
        (lambda x: F.adaptive_avg_pool2d(x, 1), "adaptive_avg_pool2d"),
        (lambda x: F.pad(x, (1, 1, 1, 1)), "pad"),
        (lambda x: x.mean((2, 3), keepdim=True), "mean"),
        (lambda x: F.softmax(x, dim=3), "softmax"),
        (lambda x: x[..., ::2], "indexes with"),
        (lambda x: x[..., :5, :5], "indexes with"),
        (lambda x: x[0], "indexes with"),
        (lambda x: torch.cat([x, x], 2), "cat"),
        (lambda x: x if x.sum() > 0 else -x, "cannot trace"),
        (lambda x: (x, x), "one tensor"),
        (lambda x: F.conv2d(x, torch.ones(2, 2, 1, 1) + x.new_ones(1)), "weight|new_ones"),
    ],
)
def test_calls_that_reach_further_are_refused(function, says):
    with pytest.raises(ModelError, match=says) as raised:
        rarefy(Call(function))
    assert "\n" not in str(raised.value)


def test_branches_out_of_step_are_refused():
    class Parted(nn.Module):
        def __init__(self, other: nn.Module) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(2, 2, 3, 2), other

        def forward(self, images):
            return self.one(images) + self.other(images)

    for other in (nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1, 2), nn.Conv2d(2, 2, (3, 5), 2)):
        with pytest.raises(GeometryError, match="branches of stride 2, offset 1") as raised:
            rarefy(Parted(other))
        assert "\n" not in str(raised.value)
    assert output_grid(Parted(nn.MaxPool2d(3, 2)))[0].geometry == Geometry().conv(3, 2)


def test_the_network_itself_is_not_changed_and_its_weights_are_shared():
    network = narrow()
    before = repr(network)
    rare = rarefy(network)
    assert repr(network) == before
    assert {name: id(parameter) for name, parameter in rare.named_parameters()} == {n: id(p) for n, p in network.named_parameters()}
    assert rare.state_dict().keys() == network.state_dict().keys()
    images = torch.rand(1, 2, 40, 40)
    seen = rare(images)
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert not torch.equal(rare(images), seen)
    network.double()
    assert rare(images.double()).dtype == torch.float64
    rare.float()
    assert network(images).dtype == torch.float32


def test_layers_of_ones_own_are_named():
    class Brighten(nn.Module):
        def forward(self, x):
            return x * 2 if x.shape[1] == 2 else x

    network = nn.Sequential(Brighten(), narrow())
    with pytest.raises(ModelError, match="pointwise"):
        rarefy(network)
    images = torch.rand(1, 2, 33, 34)
    stitched, _ = shift_and_stitch(network, images, geometry=output_grid(network, pointwise=(Brighten,))[0].geometry)
    torch.testing.assert_close(rarefy(network, pointwise=(Brighten,))(images), stitched)


@pytest.mark.parametrize(
    "network",
    [nn.AvgPool2d(2, 3, divisor_override=3), nn.AvgPool2d((1, 3)), Call(lambda x: F.avg_pool2d(x, 2, 2, divisor_override=3))],
    ids=["module", "rectangle", "call"],
)
def test_averages_are_divided_as_before(network):
    images = torch.rand(1, 2, 15, 16)
    rare = rarefy(network)(images)
    (rows, columns), seen = output_grid(network), network(images)
    torch.testing.assert_close(rare[..., :: int(rows.geometry.stride), :: int(columns.geometry.stride)], seen)


def test_geometry_says_where_dense_scores_lie():
    geometry = shift_and_stitch(narrow(), torch.rand(1, 2, 40, 40))[1]
    assert geometry == Geometry(1, 6, 13)  # fields of 13 pixels, the first centred on pixel 6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"factor": 3}, "factor 3"),
        ({"factor": 0}, "factor 0"),
        ({"shifts_at_once": 0}, "0 shifts"),
        ({"geometry": Geometry(4, 0, 13)}, "the network pads"),
        ({"geometry": Geometry(2, 6, 13)}, "own geometry"),
        ({"geometry": Geometry(4, 40, 81)}, "81×81"),
    ],
)
def test_what_cannot_be_stitched_is_refused(settings, says):
    with pytest.raises(GeometryError, match=says) as raised:
        shift_and_stitch(narrow(), torch.rand(1, 2, 40, 40), **settings)
    assert "\n" not in str(raised.value)


def test_other_refusals():
    with pytest.raises(GeometryError, match="13×13"):
        shift_and_stitch(narrow(), torch.rand(1, 2, 12, 40))
    with pytest.raises(GeometryError, match="or its geometry"):
        shift_and_stitch(lambda x: x, torch.rand(1, 2, 12, 40))
    with pytest.raises(GeometryError, match="rows have stride 2"):
        shift_and_stitch(nn.Conv2d(2, 2, 3, (2, 1)), torch.rand(1, 2, 12, 40))
    with pytest.raises(ModelError, match="a divisor"):
        rarefy(narrow(), stride=3)
    with pytest.raises(ModelError, match="whole number"):
        rarefy(narrow(), stride=0)
    with pytest.raises(ModelError, match="several inputs"):
        rarefy(nn.Bilinear(2, 2, 2))
