"""AlexNet and GoogLeNet as backbones: the papers' numbers, and grids that are where they are said to be."""

from fractions import Fraction

import pytest
import torch

from upscore.errors import ModelError
from upscore.models.alexnet import AlexNet
from upscore.models.backbone import measure_levels
from upscore.models.backbones import OWN_BACKBONES, build_backbone
from upscore.models.classifier import create_classifier
from upscore.models.factory import create_model
from upscore.models.googlenet import GoogLeNet
from upscore.models.vgg16 import VGG16
from upscore.ops.geometry import Geometry

BACKBONES = [
    lambda: AlexNet(),
    lambda: AlexNet(variant="torchvision"),
    lambda: AlexNet(padding=0),
    lambda: AlexNet(skips="convolution"),
    lambda: VGG16(width=1 / 8),
    lambda: VGG16(width=1 / 8, skips="convolution"),
    lambda: GoogLeNet(),
    lambda: GoogLeNet(variant="torchvision"),
]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_fcn_alexnet_is_the_papers():
    with torch.device("meta"):
        model = create_model("fcn32s", backbone="alexnet", num_classes=21)
    assert parameters(model) == 56_954_261
    assert model.upscore.kernel == 63
    assert model.crop == (18, 18)
    assert model.backbone.levels[32].geometry == Geometry(Fraction(32), Fraction(13), Fraction(355))


def test_fcn_googlenet_is_the_papers():
    with torch.device("meta"):
        model = create_model("fcn32s", backbone="googlenet", num_classes=21)
    assert round(parameters(model) / 1e6) == 6
    assert model.backbone.levels[32].geometry.pool(7).receptive_field == 907, "with the classifier's average, as the authors count"


@pytest.mark.parametrize("build", BACKBONES)
def test_the_arithmetic_is_what_is_measured(build):
    with torch.device("meta"):
        backbone = build().eval()
    measured = measure_levels(lambda x: list(backbone(x).values()))
    assert dict(zip((8, 16, 32), measured, strict=True)) == backbone.levels


def test_alexnets_crops_are_legal_for_every_size():
    """Of doubled scores from pool2 and pool1, and of the image: what is cropped must be there."""
    for size in range(1, 2001):
        conv1 = (size + 200 - 11) // 4 + 1
        pool1 = -((3 - conv1) // 2) + 1
        pool2 = -((3 - pool1) // 2) + 1
        fc7 = -((3 - pool2) // 2) + 1 - 5
        doubled = 2 * fc7 + 1
        assert fc7 >= 1
        assert 5 + doubled <= pool2
        assert 10 + 2 * doubled + 1 <= pool1
        assert 18 + size <= (fc7 - 1) * 32 + 63
        assert 18 + size <= (2 * doubled + 1 - 1) * 8 + 15


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
@pytest.mark.parametrize("variant", ["caffe", "torchvision"])
@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
@torch.no_grad()
def test_any_size_in_the_same_size_out(name, backbone, variant):
    model = create_model(name, backbone=backbone, num_classes=2, width=1 / 32, variant=variant).eval()
    for size in ((1, 1), (1, 70), (33, 64)):
        assert model(torch.rand(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
def test_it_learns(backbone):
    torch.manual_seed(0)
    model = create_model("fcn8s", backbone=backbone, num_classes=2, width=1 / 16, dropout=0.0)
    images, labels = torch.rand(2, 3, 40, 40), torch.zeros(2, 40, 40, dtype=torch.int64)
    labels[:, :, 20:] = 1
    images[:, :, :, 20:] += 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", OWN_BACKBONES)
def test_dropout_is_element_wise(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, width=1 / 8, dropout=0.5).train()
    backbone.norm = torch.nn.Identity()
    seen = []
    backbone.dropout.register_forward_hook(lambda _, given, kept: seen.append((given[0], kept)))
    backbone(torch.rand(1, 3, 200, 200))
    for given, kept in seen:
        shares = [float((k[g > 0] == 0).float().mean()) for g, k in zip(given[0], kept[0], strict=True) if (g > 0).sum() > 20]
        assert shares
        assert all(0.05 < share < 0.95 for share in shares)


@pytest.mark.parametrize("network", [AlexNet, GoogLeNet])
@pytest.mark.parametrize(("argument", "value"), [("width", 0), ("dropout", 1), ("variant", "paper"), ("width", float("nan"))])
def test_impossible_arguments_are_refused(network, argument, value):
    with pytest.raises(ModelError, match=argument) as error:
        network(**{argument: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("backbone", ["alexnet", "googlenet"])
def test_there_is_nothing_to_download(backbone):
    with pytest.raises(ModelError, match=f"no ImageNet weights to download for '{backbone}'"):
        build_backbone(backbone, weights="imagenet")


@pytest.mark.parametrize("name", OWN_BACKBONES)
def test_own_names_round_trip(tmp_path, name):
    variants = [{}] if name == "vgg16" else [{"variant": "caffe"}, {"variant": "torchvision"}]
    for arguments in variants:
        backbone = build_backbone(name, width=1 / 64, **arguments)
        torch.save(backbone.state_dict(), tmp_path / "own.pth")
        again = build_backbone(name, weights=tmp_path / "own.pth", width=1 / 64, **arguments)
        assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in backbone.state_dict().items())


def test_classifiers_that_are_not_ours_are_refused():
    with pytest.raises(ModelError, match=r"unknown classifier 'vgg61' \(did you mean 'vgg16'\?\)"):
        create_classifier("vgg61")
    with pytest.raises(ModelError, match="'vgg16' does not take these arguments"):
        create_classifier("vgg16", variant="torchvision")
    with pytest.raises(ModelError, match="found 0 classes"):
        create_classifier("alexnet", num_classes=0, width=1 / 64)


@torch.no_grad()
def test_a_classifier_averages_over_the_cells_of_a_larger_image():
    torch.manual_seed(0)
    model = create_classifier("alexnet", num_classes=3, width=1 / 32).eval()
    image = torch.rand(1, 3, 259, 227)
    features = model.backbone(model.normalization(image))[32]
    assert features.shape[2:] == (2, 1)
    torch.testing.assert_close(model(image), torch.stack([model.fc8(features[..., i, 0]) for i in (0, 1)]).mean(0))


@pytest.mark.parametrize(("backbone", "pooling", "convolution"), [("vgg16", (44, 100), (92, 196)), ("alexnet", (19, 67), (51, 163))])
def test_skips_are_read_after_pooling_or_after_the_last_convolution_of_their_stride(backbone, pooling, convolution):
    """The same grid, and so the same crops; deeper, and so larger receptive fields."""
    with torch.device("meta"):
        models = [create_model("fcn8s", backbone=backbone, num_classes=21, skips=skips) for skips in ("pooling", "convolution")]
    for model, fields in zip(models, (pooling, convolution), strict=True):
        assert tuple(model.backbone.levels[stride].geometry.receptive_field for stride in (8, 16)) == fields
        assert model(torch.empty(1, 3, 61, 90, device="meta")).shape == (1, 21, 61, 90)
    first, second = (
        {stride: (level.geometry.stride, level.geometry.offset) for stride, level in model.backbone.levels.items()} for model in models
    )
    assert first == second


def test_skips_are_refused_in_one_line_where_they_mean_nothing():
    with pytest.raises(ModelError, match=r"^found skips 'pool5', expected 'pooling' \(as the FCN paper\) or 'convolution'$"):
        create_model("fcn8s", backbone="vgg16", num_classes=2, width=1 / 32, skips="pool5")
    for backbone in ("googlenet", "resnet18"):
        with pytest.raises(ModelError, match=f"^'fcn8s' with backbone '{backbone}' takes no argument 'skips'"):
            create_model("fcn8s", backbone=backbone, num_classes=2, skips="convolution")
