"""Networks, backbones and decoders of a caller's own: they work as ours do, and what is wrong with one is a line."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscore.errors import ModelError
from upscore.models.backbone import measure_levels
from upscore.models.factory import create_model
from upscore.models.fcn import FCN
from upscore.models.own_parts import check_network


class Backbone(nn.Module):
    padding = "external"
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self):
        super().__init__()
        widths = (3, 4, 4, 4, 4, 4)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in itertools.pairwise(widths))
        self.levels = {int(level.geometry.stride): level for level in measure_levels(self.maps)}

    def maps(self, x):
        found = []
        for convolution in self.convolutions:
            x = convolution(x).relu()
            found.append(x)
        return found

    def forward(self, x):
        return dict(zip((2, 4, 8, 16, 32), self.maps(x), strict=True))


def decoder(backbone, num_classes):
    return FCN(backbone, num_classes=num_classes, finest=8)


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (64, 64)])
def test_a_backbone_and_a_decoder_of_ones_own_take_images_of_any_size(size):
    torch.manual_seed(0)
    model = create_model(decoder, backbone=Backbone(), num_classes=3)
    check_network(model, 3)
    assert model(torch.rand(2, 3, *size)).shape == (2, 3, *size)
    assert model.geometry.stride == 32
    twin = create_model("fcn8s", backbone=Backbone(), num_classes=3)
    twin.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 40, 50)
    assert torch.equal(model.eval()(images), twin.eval()(images))


def test_a_decoder_of_ones_own_on_a_backbone_by_name():
    model = create_model(decoder, backbone="vgg16", num_classes=2, width=1 / 32)
    check_network(model, 2)


def without(attribute):
    def make():
        backbone = Backbone()
        del backbone.levels
        return backbone

    return make() if attribute == "levels" else type("Lacking", (nn.Module,), {})()


def changed(**values):
    backbone = Backbone()
    for name, value in values.items():
        setattr(backbone, name, value)
    return backbone


class OneMap(Backbone):
    def forward(self, x):
        return self.maps(x)[-1]


class TwoLevels(Backbone):
    def forward(self, x):
        return {8: super().forward(x)[8]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"backbone": without("levels")}, "the backbone Backbone has no attribute 'levels', expected levels, padding"),
        ({"backbone": changed(padding="same")}, "padding 'same', expected one of input_padding, external"),
        ({"backbone": changed(levels=[8, 16, 32])}, "levels of type list, expected FeatureLevels by stride"),
        ({"backbone": OneMap()}, "the backbone OneMap returned Tensor for an image, expected maps by stride"),
        ({"backbone": TwoLevels()}, r"returned \{8: .*\} for an image, expected maps by stride, with 4 channels at 2"),
        ({"backbone": Backbone(), "weights": "imagenet"}, "found weights for the backbone Backbone"),
        ({"backbone": Backbone(), "width": 0.5}, "takes no argument 'width'"),
        ({"backbone": Backbone(), "in_channels": 4}, "raised RuntimeError for an image of 64×64"),
        ({"backbone": lambda x: x}, "found function as backbone, expected an nn.Module"),
    ],
)
def test_what_is_no_backbone_is_a_line(arguments, said):
    with pytest.raises(ModelError, match=said):
        create_model("fcn8s", num_classes=3, **arguments)


def test_a_network_with_its_own_encoder_takes_no_backbone():
    with pytest.raises(ModelError, match="found backbone 'Backbone' for 'segnet', which has its own encoder"):
        create_model("segnet", backbone=Backbone(), num_classes=3)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda backbone, classes: nn.Conv2d(4, classes, 1), "the decoder Conv2d has no attribute 'num_classes', expected num_classes, st"),
        (lambda backbone, classes: FCN(backbone, num_classes=5, finest=8), "the decoder FCN has num_classes 5, expected 3"),
        (lambda backbone, classes: 7, "found int as decoder, expected an nn.Module"),
    ],
)
def test_what_is_no_decoder_is_a_line(build, said):
    with pytest.raises(ModelError, match=said):
        create_model(build, backbone=Backbone(), num_classes=3)


class Returning(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Conv2d(3, 3, 1), function

    def forward(self, images):
        return self.function(self.layer(images))


class Named(dict):
    pass


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: {"out": x, "aux": x}, r"returned a dict with out, aux, expected logits \(N, 3, H, W\): wrap it .*\['out'\]"),
        (lambda x: Named(loss=x, logits=x), r"returned a Named with loss, logits, .*\['logits'\]"),
        (lambda x: [x], "returned list, expected logits"),
        (lambda x: x[:, :2], r"returned shape \(1, 2, 64, 96\) .*one channel for each class"),
        (lambda x: x[0], r"returned shape \(3, 64, 96\)"),
        (lambda x: F.avg_pool2d(x, 4), r"returned shape \(1, 3, 16, 24\) for an image of 64×96.*upsample them"),
        (lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=4), r"returned shape \(1, 3, 72, 96\) for an image of 75×97.*upsample"),
        (lambda x: x.view(1, 3, 64, 96), r"raised RuntimeError for an image of 75×97 .*any size: pad them"),
        (lambda x: x.softmax(1), "returned probabilities, which sum to 1 .*leave its softmax out"),
        (lambda x: x / 0, "not all finite"),
        (lambda x: x.argmax(1, keepdim=True).expand(1, 3, *x.shape[2:]), "values of torch.int64"),
    ],
)
def test_what_is_no_network_for_images_of_any_size_is_a_line(function, said):
    network = Returning(function).train()
    with pytest.raises(ModelError, match=said) as error:
        check_network(network, 3)
    assert "\n" not in str(error.value)
    assert network.training


def test_a_network_without_anything_to_train_is_refused():
    with pytest.raises(ModelError, match="no trainable parameter"):
        check_network(nn.Conv2d(3, 3, 1).requires_grad_(False), 3)
    with pytest.raises(ModelError, match="found function as model"):
        check_network(lambda images: images, 3)


def test_the_check_changes_nothing():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_network(network, 3)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
