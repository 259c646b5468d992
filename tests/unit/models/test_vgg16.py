import re
from fractions import Fraction

import pytest
import torch
from torch import nn

from upscore.dense_classifiers.fx_rewrite import linear_to_conv
from upscore.errors import ModelError
from upscore.models.backbones import build_backbone
from upscore.models.vgg16 import VGG16

FULL = {"conv1_1": (64, 3, 3), "conv1_2": (64, 64, 3), "conv2_1": (128, 64, 3), "conv2_2": (128, 128, 3), "conv3_1": (256, 128, 3)}
FULL |= {"conv3_2": (256, 256, 3), "conv3_3": (256, 256, 3), "conv4_1": (512, 256, 3), "conv4_2": (512, 512, 3), "conv4_3": (512, 512, 3)}
FULL |= {"conv5_1": (512, 512, 3), "conv5_2": (512, 512, 3), "conv5_3": (512, 512, 3), "fc6": (4096, 512, 7), "fc7": (4096, 4096, 1)}


def meta(**arguments):
    with torch.device("meta"):
        return VGG16(**arguments)


def test_layers_are_the_papers():
    found = {name: (c.out_channels, c.in_channels, c.kernel_size[0]) for name, c in meta().named_children() if isinstance(c, nn.Conv2d)}
    assert found == FULL


def test_levels_of_a_500_pixel_image():
    backbone = meta()
    seen = backbone(torch.empty(1, 3, 500, 500, device="meta"))
    assert {stride: tuple(x.shape[1:]) for stride, x in seen.items()} == {8: (256, 88, 88), 16: (512, 44, 44), 32: (4096, 16, 16)}
    assert {stride: (level.channels, level.geometry.stride) for stride, level in backbone.levels.items()} == {
        8: (256, 8),
        16: (512, 16),
        32: (4096, 32),
    }
    assert backbone.levels[32].geometry.receptive_field == 404
    assert backbone.levels[32].geometry.offset == Fraction(25, 2)
    assert backbone.padding == "input_padding"


def test_with_a_small_padding_the_image_is_padded_before():
    assert meta(padding=1).padding == "external"


def test_dropout_is_element_wise_after_fc6_and_fc7():
    torch.manual_seed(0)
    backbone = VGG16(width=1 / 32, dropout=0.5).train()
    seen = []
    backbone.dropout.register_forward_hook(lambda _, given, kept: seen.append((given[0], kept)))
    backbone(torch.rand(1, 3, 200, 200))
    assert len(seen) == 2
    for given, kept in seen:
        shares = [float((k[g > 0] == 0).float().mean()) for g, k in zip(given[0], kept[0], strict=True) if (g > 0).sum() > 20]
        assert shares
        assert all(0.05 < share < 0.95 for share in shares), "whole channels were dropped or kept"
    backbone.eval()
    x = torch.rand(1, 3, 9, 9)
    assert torch.equal(backbone(x)[32], backbone(x)[32])


def test_initial_weights_keep_the_variance():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 224, 224)
    seen = VGG16(width=1 / 4, dropout=0).eval()(x)
    assert 0.2 < seen[8].square().mean() < 5
    assert 0.05 < seen[32].square().mean() < 20


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("width", 0),
        ("width", 5),
        ("width", float("nan")),
        ("dropout", 1),
        ("dropout", -0.1),
        ("padding", -1),
        ("padding", 9999),
        ("padding", 1.5),
        ("batch_norm", "no"),
    ],
)
def test_impossible_arguments_are_refused(argument, value):
    with pytest.raises(ModelError, match=argument):
        VGG16(**{argument: value})


def narrow_torchvision_state(*, batch_norm=False):
    """A state dict as torchvision's VGG16 would have it at 1/64 of the width, built from its layer list."""
    layers, channels = [], 3
    for width in (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]
        channels = width
    features = nn.Sequential(*layers)
    classifier = nn.Sequential(
        nn.Linear(8 * 49, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10)
    )
    return features, classifier, nn.ModuleDict({"features": features, "classifier": classifier}).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_torchvision_files_become_the_same_network(tmp_path, suffix, batch_norm):
    torch.manual_seed(1)
    features, classifier, state = narrow_torchvision_state(batch_norm=batch_norm)
    for name, tensor in state.items():
        if "running_mean" in name:
            tensor.normal_()
    path = write(tmp_path / f"vgg16{suffix}", state)
    backbone = build_backbone("vgg16", weights=path, width=1 / 64, batch_norm=batch_norm, padding=1).eval()
    image = torch.randn(2, 3, 224, 224)
    expected = classifier[:5].eval()(features.eval()(image).flatten(1))
    torch.testing.assert_close(backbone(image)[32][:, :, 0, 0], expected)


def test_linear_layers_are_reshaped_as_linear_to_conv_does(tmp_path):
    _, classifier, state = narrow_torchvision_state()
    backbone = build_backbone("vgg16", weights=write(tmp_path / "vgg16.pth", state), width=1 / 64)
    assert torch.equal(backbone.fc6.weight, linear_to_conv(classifier[0], kernel=7, in_channels=8).weight)
    assert torch.equal(backbone.fc7.weight, linear_to_conv(classifier[3], kernel=1, in_channels=64).weight)


def test_timms_names_are_known():
    from upscore.models.backbones import import_timm
    from upscore.models.weights.key_maps import VGG16_TORCHVISION

    with torch.device("meta"):
        timms = import_timm().create_model("vgg16").state_dict()
        own = VGG16().state_dict()
    renamed = {}
    for key, tensor in timms.items():
        layer, _, kind = key.rpartition(".")
        if layer != "head.fc":
            renamed[f"{VGG16_TORCHVISION[layer]}.{kind}"] = tensor.shape
    assert renamed == {name: tensor.shape for name, tensor in own.items()}


def test_own_names_round_trip(tmp_path):
    backbone = VGG16(width=1 / 64)
    again = build_backbone("vgg16", weights=write(tmp_path / "own.safetensors", backbone.state_dict()), width=1 / 64)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("features.0.weight"), "lacks 'conv1_1.weight'"),
        (lambda s: s.update({"surprise.weight": torch.zeros(1)}), "holds 'surprise.weight', which the network has not"),
        (
            lambda s: s.update({"features.2.weight": torch.zeros(2, 1, 3, 3)}),
            r"has 'conv1_2.weight' of shape \(2, 1, 3, 3\), expected \(1, 1, 3, 3\)",
        ),
        (
            lambda s: s.update({"classifier.0.weight": torch.zeros(64, 8 * 36)}),
            r"'fc6.weight' of shape \(64, 288\), expected \(64, 8, 7, 7\)",
        ),
    ],
)
def test_files_that_do_not_fit_name_the_tensor(tmp_path, change, complaint):
    state = dict(narrow_torchvision_state()[2])
    change(state)
    with pytest.raises(ModelError, match=complaint) as error:
        build_backbone("vgg16", weights=write(tmp_path / "vgg16.pth", state), width=1 / 64)
    assert "\n" not in str(error.value)


def test_no_imagenet_weights_for_another_width():
    with pytest.raises(ModelError, match=re.escape("width 0.5")):
        build_backbone("vgg16", weights="imagenet", width=0.5)


def write(path, state):
    from safetensors.torch import save_file

    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path
