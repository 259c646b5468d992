"""The networks beside the tables of their papers: names, shapes, sizes and numbers of parameters, written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from upscore.errors import ModelError
from upscore.models.deconvnet import DeconvNet
from upscore.models.normalization import Normalization
from upscore.models.segnet import SegNet, SegNetBasic
from upscore.models.unet import UNet

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def built(kind, **arguments):
    with torch.device("meta"):
        return kind(normalization=Normalization.imagenet(arguments.get("in_channels", 3)), **arguments)


def parameters(network, kinds):
    return sum(p.numel() for layer in network.modules() if isinstance(layer, kinds) for p in layer.parameters(recurse=False))


def table(network):
    """Layer names without the stages they are in, each with (in, out, kernel)."""
    found = {}
    for name, layer in network.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            found[name.rpartition(".")[2]] = (layer.in_channels, layer.out_channels, layer.kernel_size[0])
    return found


def rows(text):
    return {name: (int(a), int(b), int(k)) for name, a, b, k in (line.split() for line in text.strip().splitlines())}


VGG16 = """
conv1_1 3 64 3
conv1_2 64 64 3
conv2_1 64 128 3
conv2_2 128 128 3
conv3_1 128 256 3
conv3_2 256 256 3
conv3_3 256 256 3
conv4_1 256 512 3
conv4_2 512 512 3
conv4_3 512 512 3
conv5_1 512 512 3
conv5_2 512 512 3
conv5_3 512 512 3
"""

DECONVNET = (
    VGG16
    + """
fc6 512 4096 7
fc7 4096 4096 1
fc6_deconv 4096 512 7
deconv5_1 512 512 3
deconv5_2 512 512 3
deconv5_3 512 512 3
deconv4_1 512 512 3
deconv4_2 512 512 3
deconv4_3 512 256 3
deconv3_1 256 256 3
deconv3_2 256 256 3
deconv3_3 256 128 3
deconv2_1 128 128 3
deconv2_2 128 64 3
deconv1_1 64 64 3
deconv1_2 64 64 3
seg_score_voc 64 21 1
"""
)

SEGNET = (
    VGG16
    + """
conv5_3_D 512 512 3
conv5_2_D 512 512 3
conv5_1_D 512 512 3
conv4_3_D 512 512 3
conv4_2_D 512 512 3
conv4_1_D 512 256 3
conv3_3_D 256 256 3
conv3_2_D 256 256 3
conv3_1_D 256 128 3
conv2_2_D 128 128 3
conv2_1_D 128 64 3
conv1_2_D 64 64 3
conv1_1_D 64 11 3
"""
)


def test_deconvnet_is_the_papers():
    network = built(DeconvNet, num_classes=21)
    assert list(table(network).items()) == list(rows(DECONVNET.replace("\n\n", "\n")).items())
    assert parameters(network, CONVOLUTIONS) == 251_772_245
    assert parameters(network, nn.BatchNorm2d) == 33_408
    transposed = [name.rpartition(".")[2] for name, layer in network.named_modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert transposed == [name for name in table(network) if "deconv" in name]


def test_deconvnets_norms_follow_each_layer_but_the_score_under_the_releases_names():
    network = built(DeconvNet, num_classes=21)
    norms = [name.rpartition(".")[2] for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    expected = []
    for layer in list(table(network))[:-1]:
        if layer == "fc6_deconv":
            expected.append("fc6_deconv_bn")
        elif layer.startswith("fc"):
            expected.append(f"bn{layer}")
        else:
            expected.append(layer.replace("deconv", "debn").replace("conv", "bn") if "de" in layer else layer.replace("conv", "bn"))
    assert norms == expected


def test_deconvnet_narrows_to_one_cell_and_returns_to_224_pixels():
    network, seen = built(DeconvNet, num_classes=21), {}
    for name, layer in network.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            short = name.rpartition(".")[2]
            layer.register_forward_hook(lambda _, __, out, name=short: seen.update({name: out.shape[-1]}))
    with torch.device("meta"):
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, 21, 224, 224)
    sizes = {"conv1_2": 224, "conv2_2": 112, "conv3_3": 56, "conv4_3": 28, "conv5_3": 14, "fc6": 1, "fc7": 1, "fc6_deconv": 7}
    sizes |= {"deconv5_3": 14, "deconv4_3": 28, "deconv3_3": 56, "deconv2_2": 112, "deconv1_2": 224}
    assert {name: seen[name] for name in sizes} == sizes


def test_segnet_is_the_releases():
    network = built(SegNet, num_classes=11)
    assert list(table(network).items()) == list(rows(SEGNET.replace("\n\n", "\n")).items())
    assert parameters(network, CONVOLUTIONS) == 29_433_483
    norms = [name.rpartition(".")[2] for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms == [f"{layer}_bn" for layer in list(table(network))[:-1]]


def test_segnet_takes_camvids_odd_sizes_back_to_where_they_were():
    network, seen = built(SegNet, num_classes=11), []
    for stage in (*network.encoder, *network.decoder):
        stage.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[-2:])))
    with torch.device("meta"):
        assert network(torch.empty(1, 3, 360, 480)).shape == (1, 11, 360, 480)
    down = [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    assert seen == [*down, *down[::-1]]


def test_segnet_basic_is_the_releases():
    network = built(SegNetBasic, num_classes=11)
    convolutions = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in network.modules() if isinstance(layer, nn.Conv2d)
    ]
    assert convolutions == [(3, 64, 7), *[(64, 64, 7)] * 7, (64, 11, 1)]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 8
    assert not any(isinstance(layer, nn.ReLU) for layer in network.decoder.modules())
    # The paper says 1.425 million; the release's layers, biases included, have:
    assert parameters(network, CONVOLUTIONS) == 3 * 64 * 49 + 64 + 7 * (64 * 64 * 49 + 64) + 64 * 11 + 11 == 1_415_563


def test_segnet_basic_begins_with_local_response_normalisation():
    network = SegNetBasic(num_classes=2, normalization=Normalization.raw(), width=1 / 32).eval()
    seen = []
    network.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, 4, 5)
    network(image)
    bgr = 255 * image.flip(1).double()
    power = torch.stack([bgr.square().sum(1)] * 3, 1)  # three channels: the window of five holds them all
    torch.testing.assert_close(seen[0].double(), bgr / (1 + 1e-4 / 5 * power) ** 0.75, rtol=1e-5, atol=1e-5)


def test_unet_is_the_papers():
    network = built(UNet, num_classes=2, in_channels=1)
    assert parameters(network, CONVOLUTIONS) == sum(p.numel() for p in network.parameters()) == 31_030_658
    kernels = [layer.kernel_size[0] for layer in network.modules() if isinstance(layer, CONVOLUTIONS)]
    assert (kernels.count(3), kernels.count(2), kernels.count(1)) == (18, 4, 1)


def test_unets_sizes_are_those_of_figure_1():
    network, seen = built(UNet, num_classes=2, in_channels=1), []
    for layer in (*network.contracting, *network.up, *network.expanding):
        for part in layer.modules():
            if isinstance(part, CONVOLUTIONS):
                part.register_forward_hook(lambda _, __, out: seen.append(out.shape[-1]))
    with torch.device("meta"):
        assert network.valid(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    down = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28]
    assert seen == [*down, 56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388]


def test_unet_passes_the_middle_of_each_map_across():
    """One pass written out from the figure, in float64."""
    network = UNet(num_classes=2, in_channels=1, normalization=nn.Identity(), width=1 / 32).double().eval()
    tile = torch.randn(1, 1, 188, 188, dtype=torch.float64)
    x, across = tile, []
    for number, convolve in enumerate(network.contracting):
        x = F.relu(F.conv2d(F.relu(F.conv2d(x, convolve.conv1.weight, convolve.conv1.bias)), convolve.conv2.weight, convolve.conv2.bias))
        across.append(x)
        x = F.max_pool2d(x, 2) if number < 4 else x
    for up, convolve, whole, cut in zip(network.up, network.expanding, across[3::-1], (4, 16, 40, 88), strict=True):
        x = F.conv_transpose2d(x, up.weight, up.bias, stride=2)
        x = torch.cat((whole[..., cut:-cut, cut:-cut], x), 1)
        x = F.relu(F.conv2d(F.relu(F.conv2d(x, convolve.conv1.weight, convolve.conv1.bias)), convolve.conv2.weight, convolve.conv2.bias))
    torch.testing.assert_close(network.valid(tile), F.conv2d(x, network.score.weight, network.score.bias), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [16, 187, 189, 200, 571])
def test_unet_refuses_tiles_that_do_not_pool_evenly(side):
    network = built(UNet, num_classes=2, in_channels=1)
    with pytest.raises(ModelError, match=f"found a tile of {side}×572 pixels, expected sides of 188, 204"):
        network.valid(torch.empty(1, 1, side, 572, device="meta"))
