"""The papers' classifiers against torchvision's and timm's definitions of them, and a layer written out in NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscore.models.alexnet import AlexNet
from upscore.models.classifier import create_classifier
from upscore.models.timm_backbone import import_timm

import_timm()
models = pytest.importorskip("torchvision.models")


def stirred(network):
    """Give every layer something to get wrong: biases and running statistics that are not zero and one."""
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("weight") and tensor.ndim > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
    return network.eval()


def googlenet():
    return models.GoogLeNet(init_weights=False, aux_logits=True, transform_input=True)


STAGES = [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
"""VGG16 at a sixteenth of its width."""


def torchvisions_vgg16(*, batch_norm=False):
    network = models.VGG(models.vgg.make_layers(STAGES, batch_norm=batch_norm), init_weights=False)
    for place, (given, made) in {0: (32 * 49, 256), 3: (256, 256), 6: (256, 1000)}.items():
        network.classifier[place] = nn.Linear(given, made)
    return network


def timms_vgg16():
    import timm.models.vgg

    network = timm.models.vgg.VGG(tuple(STAGES))
    network.pre_logits = timm.models.vgg.ConvMlp(32, 256, 7)
    network.head.fc = nn.Linear(256, 1000)
    return network


@pytest.mark.parametrize(
    ("name", "definition", "arguments"),
    [
        ("alexnet", lambda: models.alexnet(), {"variant": "torchvision"}),
        ("vgg16", torchvisions_vgg16, {"width": 1 / 16}),
        ("vgg16", lambda: torchvisions_vgg16(batch_norm=True), {"width": 1 / 16, "batch_norm": True}),
        ("vgg16", timms_vgg16, {"width": 1 / 16}),
        ("googlenet", googlenet, {"variant": "torchvision"}),
    ],
    ids=["alexnet", "vgg16", "vgg16_bn", "timm's vgg16", "googlenet"],
)
@torch.no_grad()
def test_with_their_weights_ours_give_their_logits(tmp_path, name, definition, arguments):
    theirs = stirred(definition())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = create_classifier(name, weights=tmp_path / "weights.pth", **arguments).eval()
    images = torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = theirs((images - mean) / std)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_papers_have_their_sizes():
    with torch.device("meta"):
        caffenet, googlenet = create_classifier("alexnet"), create_classifier("googlenet")
        assert caffenet(torch.empty(2, 3, 227, 227)).shape == (2, 1000)
        assert caffenet.backbone(torch.empty(1, 3, 227, 227))[32].shape == (1, 4096, 1, 1)
        assert googlenet.backbone(torch.empty(1, 3, 224, 224))[32].shape == (1, 1024, 7, 7)
    assert sum(p.numel() for p in caffenet.parameters()) == 60_965_224
    assert sum(p.numel() for p in googlenet.parameters()) == 6_998_552


def normalize_locally(x, size=5, alpha=1e-4, beta=0.75):
    """Krizhevsky et al. (2012), §3.3, with Caffe's alpha / n and k = 1."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        out[:, c] = x[:, c] / (1 + alpha / size * (near**2).sum(1)) ** beta
    return out


def test_local_response_normalisation():
    x = np.random.default_rng(0).normal(scale=200, size=(2, 12, 3, 4))
    found = AlexNet(width=1 / 64).norm(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, normalize_locally(x), rtol=1e-12)
    assert np.abs(found / x).min() < 0.5


def test_caffes_alexnet_pools_before_it_normalises():
    torch.manual_seed(0)
    backbone = AlexNet(width=1 / 8, padding=0).eval().double()
    x = torch.randn(1, 3, 227, 227, dtype=torch.float64) * 100
    levels = backbone(x)

    def convolve(x, layer, groups):
        halves = [F.conv2d(h, w, padding=layer.padding) for h, w in zip(x.chunk(groups, 1), layer.weight.chunk(groups), strict=True)]
        return F.relu(torch.cat(halves, 1) + layer.bias.view(-1, 1, 1))

    pool1 = nn.MaxPool2d(3, 2)(F.relu(F.conv2d(x, backbone.conv1.weight, backbone.conv1.bias, stride=4)))
    torch.testing.assert_close(levels[8], pool1)
    norm1 = torch.from_numpy(normalize_locally(pool1.detach().numpy()))
    pool2 = nn.MaxPool2d(3, 2)(convolve(norm1, backbone.conv2, 2))
    torch.testing.assert_close(levels[16], pool2)
    norm2 = torch.from_numpy(normalize_locally(pool2.detach().numpy()))
    conv5 = convolve(convolve(convolve(norm2, backbone.conv3, 1), backbone.conv4, 2), backbone.conv5, 2)
    fc6 = F.relu(nn.MaxPool2d(3, 2)(conv5).flatten(1) @ backbone.fc6.weight.flatten(1).T + backbone.fc6.bias)
    fc7 = F.relu(fc6 @ backbone.fc7.weight.flatten(1).T + backbone.fc7.bias)
    torch.testing.assert_close(levels[32].flatten(1), fc7)
