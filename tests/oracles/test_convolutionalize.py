"""Convolutionalized classifiers of torchvision, timm and our own (Long, Shelhamer and Darrell 2015, §3.1)."""

import pytest
import torch
from torch import nn

from upscore.dense_classifiers.convolutionalize import InexactWarning, convolutionalize
from upscore.errors import ModelError
from upscore.models.classifier import create_classifier
from upscore.models.timm_backbone import import_timm

timm = import_timm()
models = pytest.importorskip("torchvision.models")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def torchvisions(name, **arguments):
    return lambda: getattr(models, name)(num_classes=10, **arguments)


def timms(name):
    return lambda: timm.create_model(name, num_classes=10)


def narrow_vgg():
    network = models.VGG(models.vgg.make_layers([4, "M", 8, "M", 16, "M", 16, "M", 16, "M"]), init_weights=False)
    network.classifier[0], network.classifier[3] = nn.Linear(16 * 49, 32), nn.Linear(32, 32)
    network.classifier[6] = nn.Linear(32, 10)
    return network


def narrow_timm_vgg():
    import timm.models.vgg as vgg

    network = vgg.VGG((4, "M", 8, "M", 16, "M", 16, "M", 16, "M"), num_classes=10)
    network.pre_logits, network.head.fc = vgg.ConvMlp(16, 32, 7), nn.Linear(32, 10)
    return network


def ours(name, **arguments):
    return lambda: create_classifier(name, num_classes=10, width=1 / 16, **arguments)


@pytest.mark.parametrize(
    ("build", "size", "gated"),
    [
        (narrow_vgg, 224, False),
        (narrow_timm_vgg, 224, False),
        (torchvisions("googlenet", init_weights=False, aux_logits=False), 224, False),
        (torchvisions("mobilenet_v2", width_mult=0.1), 224, False),
        (torchvisions("squeezenet1_1"), 224, False),
        (timms("resnet18"), None, False),
        (timms("mobilenetv2_050"), None, False),
        (timms("mobilenetv3_small_050"), None, True),
        (timms("efficientnet_lite0"), None, False),
        (timms("convnext_atto"), None, False),
        (timms("lcnet_035"), None, True),
        (ours("alexnet"), None, False),
        (ours("alexnet", variant="torchvision"), None, False),
        (ours("vgg16"), None, False),
        (ours("googlenet"), None, False),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
@torch.no_grad()
def test_on_its_size_it_gives_the_classifiers_logits_and_elsewhere_a_grid(build, size, gated):
    model = build().eval()
    with pytest.warns(InexactWarning, match="not exactly the classifier's outputs"):
        dense = convolutionalize(model, input_size=size)
    assert ("gates" in dense.caveat) == gated
    assert "pad" in dense.caveat
    assert dense.input_size in ((224, 224), (227, 227))
    image = torch.rand(1, 3, *dense.input_size)
    expected = model(image)
    torch.testing.assert_close(dense(image).flatten(1), expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))
    jump = int(dense.geometry.stride)
    larger = dense(torch.rand(1, 3, dense.input_size[0] + 2 * jump, dense.input_size[1] + jump))
    assert larger.shape == (1, 10, 3, 2)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mixer_s32_224", "edgenext_xx_small", "tf_mobilenetv3_small_minimal_100"])
def test_what_has_no_grid_of_windows_is_refused(name):
    with pytest.raises(ModelError) as error:
        convolutionalize(timm.create_model(name))
    assert "\n" not in str(error.value)


def without_padding(ceil):
    """Caffe's AlexNet, whose padding is taken away, so that its windows are exact."""
    layers = [(4, 11, 4, True), (6, 5, 1, True), (6, 3, 1, False), (6, 3, 1, False), (6, 3, 1, True)]
    backbone, channels = [], 3
    for wide, kernel, stride, pool in layers:
        backbone += [nn.Conv2d(channels, wide, kernel, stride), nn.ReLU(), *([nn.MaxPool2d(3, 2, ceil_mode=ceil)] if pool else [])]
        channels = wide
    backbone = nn.Sequential(*backbone)
    read = backbone(torch.zeros(1, 3, 227, 227)).numel()
    return nn.Sequential(backbone, nn.Flatten(), nn.Linear(read, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 7)).eval()


@torch.no_grad()
def test_alexnet_without_padding_gives_the_answer_for_every_crop():
    model = without_padding(ceil=False)
    dense = convolutionalize(model, input_size=227)
    image = torch.randn(1, 3, 300, 267)
    grid = dense(image)
    assert dense.exact
    assert grid.shape[2:] == (3, 2)
    for i in range(3):
        for j in range(2):
            crop = image[..., 32 * i : 32 * i + 227, 32 * j : 32 * j + 227]
            torch.testing.assert_close(grid[..., i, j], model(crop), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("variant", "size", "cells"), [("caffe", 227, 10), ("torchvision", 224, 10)])
@pytest.mark.filterwarnings("ignore::upscore.dense_classifiers.convolutionalize.InexactWarning")
@torch.no_grad()
def test_the_papers_ten_by_ten_grid(variant, size, cells):
    dense = convolutionalize(create_classifier("alexnet", num_classes=2, width=1 / 16, variant=variant).eval())
    assert dense(torch.rand(1, 3, size, size)).shape[2:] == (1, 1)
    assert dense(torch.rand(1, 3, 500, 500)).shape[2:] == (cells, cells)


@pytest.mark.filterwarnings("ignore::upscore.dense_classifiers.convolutionalize.InexactWarning")
@torch.no_grad()
def test_pools_that_round_down_give_nine_by_nine():
    dense = convolutionalize(models.alexnet(num_classes=2).eval(), input_size=224)
    assert dense(torch.rand(1, 3, 500, 500)).shape[2:] == (9, 9)
