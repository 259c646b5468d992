"""What holds for the smallest network of each family of timm's: any size, no shift, gradients everywhere, bundles, tiles.

The families are those of docs/models.md; the slowest to build are run with UPSCORE_ZOO=1.
"""

import math
import os

import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.inference.blended_tiles import blend_tiles
from upscore.inference.tiling import tiled
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.models.timm_backbone import TimmBackbone
from upscore.types import LabelSpace

QUICK = ("tf_mobilenetv3_small_minimal_100", "hrnet_w18_small", "swin_tiny_patch4_window7_224", "pvt_v2_b0", "efficientvit_m0",
         "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "coatnet_nano_rw_224")  # fmt: skip
"""One of each kind: "same" padding, maps that are upsampled, windows, channels first, a stride missing, plain, another patch, one size."""

SLOW = ("resnet10t", "seresnext26t_32x4d", "regnety_002", "densenet121", "efficientnet_b0", "tf_efficientnet_b0", "mobilenetv2_050",
        "mobilenetv3_small_050", "mobilenetv4_conv_small_050", "ghostnetv2_100", "repvgg_a0", "convnext_atto", "convnextv2_atto",
        "dla46_c", "vgg11_bn", "xception41", "res2net50_14w_8s", "cspresnet50", "swinv2_tiny_window8_256", "efficientvit_b0",
        "nextvit_small", "edgenext_xx_small", "maxvit_rmlp_pico_rw_256", "hiera_tiny_224", "eva02_tiny_patch14_224", "mobilevit_xxs",
        "twins_svt_small", "davit_tiny", "focalnet_tiny_srf", "xcit_nano_12_p16_224", "vit_small_patch16_dinov3")  # fmt: skip

slow = pytest.mark.skipif(not os.environ.get("UPSCORE_ZOO"), reason="set UPSCORE_ZOO=1 to try every family")
every = pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=slow) for name in SLOW)])

FINER_ONLY = {"hrnet_w18_small": ("backbone.features.stage4.0.fuse_layers.0.", "backbone.features.incre_modules.0.")}
"""Parameters that only maps of finer strides need, by the beginning of their names."""


def built(name):
    """A network in which nothing is zero, as after training."""
    torch.manual_seed(0)
    network = create_model("fcn8s", backbone=name, num_classes=2)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for layer in network.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) or type(layer).__name__ == "DropPath":
            layer.p = layer.drop_prob = 0.0
    return network


@every
def test_the_battery(name, tmp_path):
    network = built(name).eval()
    with torch.no_grad():
        for size in ((1, 1), (33, 57), (97, 130)):
            logits = network(torch.rand(1, 3, *size))
            assert logits.shape == (1, 2, *size)
            assert logits.isfinite().all()

    images = torch.rand(1, 3, 41, 35)
    Bundle.of("fcn8s", {"backbone": name}, network, LabelSpace(("a", "b"))).save(tmp_path / "saved")
    again = Bundle.load(tmp_path / "saved").build()
    with torch.no_grad():
        assert torch.equal(network(images), again(images))

    images = torch.rand(2, 3, 64, 96, requires_grad=True)
    network.train()(images).square().mean().backward()
    ignored = FINER_ONLY.get(name, ())
    idle = [n for n, p in network.named_parameters() if (p.grad is None or not p.grad.any()) and not n.startswith(ignored)]
    assert idle == []
    assert images.grad.abs().sum((0, 1)).all()

    _check_tiles(network.eval())


def _check_tiles(network):
    """Bounded: equal to the whole. Unbounded: finite and near, since no margin would make them equal."""
    side = network.stride * 2
    with torch.no_grad():
        if network.geometry.receptive_field == math.inf:
            images = torch.rand(1, 3, 256, 2 * 256 + 64)
            windows = blend_tiles(
                lambda w: network(images[..., w.top : w.bottom, w.left : w.right]), 256, 576, tile=256, stride=network.stride
            )
            found = torch.full((1, 2, 256, 576), math.nan)
            for w, values in windows:
                found[..., w.top : w.bottom, w.left : w.right] = values
            assert found.isfinite().all()
        elif (margin := network.geometry.margin()) < 400:
            network.double()
            images = torch.rand(1, 3, side + 9, 2 * margin + 3 * network.stride + 5, dtype=torch.float64)
            parts = tiled(network, tile=max(side, margin // 4), margin=margin, stride=network.stride)(images)
            torch.testing.assert_close(parts, network(images), rtol=0, atol=1e-9)


@every
def test_cells_lie_where_the_geometry_says(name):
    """No shift: the pixels that matter to a cell, by the squares of gradients, are centred where it is."""
    torch.manual_seed(0)
    backbone = built(name).eval().backbone
    side = -(-224 // math.lcm(backbone.multiple, 32)) * math.lcm(backbone.multiple, 32)
    images = torch.randn(4, 3, side, side, requires_grad=True)
    maps = backbone(images)
    for stride, level in backbone.levels.items():
        if name == "hrnet_w18_small" and stride < 32:
            continue  # coarser maps, upsampled to the nearest cell, weigh more than the map's own, and lie up to a cell beside it
        cell = maps[stride].shape[-1] // 2
        weights = torch.randn(maps[stride].shape[1])
        (gradient,) = torch.autograd.grad((maps[stride][:, :, cell, cell] * weights[:, None].T).sum(), images, retain_graph=True)
        energy = gradient.square().sum((0, 1))
        expected = float(level.geometry.offset) + cell * stride
        for profile in (energy.sum(0), energy.sum(1)):
            median = int((profile.cumsum(0) < profile.sum() / 2).sum())
            assert abs(median - expected) <= stride * 3 / 8


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "pvt_v2_b0"])
def test_whole_networks_load_and_a_pyramid_is_trained(name, tmp_path):
    from upscore.models.backbones import build_backbone
    from upscore.models.timm_backbone import import_timm

    torch.manual_seed(0)
    whole = import_timm().create_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = build_backbone(name, weights=tmp_path / "whole.pth", in_channels=4).eval()
    state = {key: t for key, t in backbone.state_dict().items() if key.startswith("features.")}
    known = {(tuple(t.shape), float(t.double().sum())) for t in whole.state_dict().values()}
    strangers = [key for key, t in state.items() if (tuple(t.shape), float(t.double().sum())) not in known]
    assert len(strangers) == 1  # the first convolution, adapted to four channels
    assert (backbone.pyramid is not None) == name.startswith("vit")
    assert all(t.isfinite().all() for t in backbone(torch.rand(1, 4, 64, 96)).values())


def test_a_network_without_positions_is_refused():
    with pytest.raises(ModelError, match="attention alone"):
        TimmBackbone("levit_128s")
