"""What holds for the smallest network of each family of timm's: any size, no shift, gradients everywhere, bundles, tiles.

The families are those of docs/models.md; the slowest to build are run with UPSCORE_ZOO=1.
"""

import copy
import math
import os
import re

import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.inference.blended_tiles import blend_tiles
from upscore.inference.tiling import tiled
from upscore.models.alignment import Padding
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.models.timm_backbone import TimmBackbone, inspect_backbone
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

QUICK = ("tf_mobilenetv3_small_minimal_100", "hrnet_w18_small", "swin_tiny_patch4_window7_224", "pvt_v2_b0", "efficientvit_m0",
         "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "coatnet_nano_rw_224")  # fmt: skip
"""One of each kind: "same" padding, maps that are upsampled, windows, channels first, a stride missing, plain, another patch, one size."""

SLOW = ("resnet10t", "seresnext26t_32x4d", "regnety_002", "densenet121", "efficientnet_b0", "tf_efficientnet_b0", "mobilenetv2_050",
        "mobilenetv3_small_050", "mobilenetv4_conv_small_050", "ghostnetv2_100", "repvgg_a0", "convnext_atto", "convnextv2_atto",
        "dla46_c", "vgg11_bn", "xception41", "res2net50_14w_8s", "cspresnet50", "swinv2_tiny_window8_256", "efficientvit_b0",
        "nextvit_small", "edgenext_xx_small", "maxvit_rmlp_pico_rw_256", "hiera_tiny_224", "eva02_tiny_patch14_224", "mobilevit_xxs",
        "mvitv2_tiny", "twins_svt_small", "davit_tiny", "focalnet_tiny_srf", "xcit_nano_12_p16_224", "cait_xxs24_224",
        "deit_tiny_patch16_224", "vit_small_patch16_dinov3", "beit_base_patch16_224")  # fmt: skip

slow = pytest.mark.skipif(not os.environ.get("UPSCORE_ZOO"), reason="set UPSCORE_ZOO=1 to try every family")

FINER_ONLY = {"hrnet_w18_small": ("backbone.features.stage4.0.fuse_layers.0.", "backbone.features.incre_modules.0.")}
"""Parameters that only maps of finer strides need, by the beginning of their names."""


@pytest.fixture(scope="module", params=[*QUICK, *(pytest.param(name, marks=slow) for name in SLOW)])
def name(request):
    """The family; pytest runs all tests of one before the next."""
    return request.param


@pytest.fixture(scope="module")
def network(name):
    """A network in which nothing is zero, as after training, and nothing is random; in eval mode, not to be changed."""
    torch.manual_seed(0)
    network = create_model("fcn8s", backbone=name, num_classes=2)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for layer in network.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) or type(layer).__name__ == "DropPath":
            layer.p = layer.drop_prob = 0.0
    return network.eval()


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (97, 130), (224, 224)])
def test_images_of_any_size(network, size):
    with torch.no_grad():
        logits = network(torch.rand(1, 3, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.isfinite().all()


def test_a_bundle_predicts_bit_for_bit(name, network, tmp_path):
    images = torch.rand(1, 3, 41, 35)
    Bundle.of("fcn8s", {"backbone": name}, network, LabelSpace(("a", "b"))).save(tmp_path / "saved")
    again = Bundle.load(tmp_path / "saved").build()
    with torch.no_grad():
        assert torch.equal(network(images), again(images))


def test_gradients_reach_every_parameter_and_every_pixel(name, network):
    trained, images = copy.deepcopy(network).train(), torch.rand(2, 3, 33, 57, requires_grad=True)
    trained(images).square().mean().backward()
    ignored = FINER_ONLY.get(name, ())
    idle = [n for n, p in trained.named_parameters() if (p.grad is None or not p.grad.any()) and not n.startswith(ignored)]
    assert idle == []
    assert images.grad.abs().sum((0, 1)).all()


def test_tiles(network):
    """Bounded: equal to the whole. Unbounded: where a pixel is in a single tile, equal to that tile as an image, and complete."""
    stride, bounded = network.stride, network.geometry.receptive_field != math.inf
    with torch.no_grad():
        if bounded:
            margin, exact = network.geometry.margin(), copy.deepcopy(network).double()
            images = torch.rand(1, 3, stride + 9, 2 * margin + 3 * stride + 5, dtype=torch.float64)
            parts = tiled(exact, tile=max(2 * stride, margin // 4), margin=margin, stride=stride)(images)
            torch.testing.assert_close(parts, exact(images), rtol=0, atol=1e-9)
            return
        images = torch.rand(1, 3, 64, 160)
        windows = blend_tiles(lambda w: network(images[(..., *w.slices)]), 64, 160, tile=64, stride=stride)
        found = torch.full((1, 2, 64, 160), math.nan)
        for window, values in windows:
            found[(..., *window.slices)] = values
        assert found.isfinite().all()
        torch.testing.assert_close(found[..., :32], network(images[..., :64])[..., :32], rtol=0, atol=1e-5)


WIDE = re.compile(r"\.(attn|se|grn|xca|e_mhsa|context_module|modulation|short_conv)\.")
"""Layers that see the whole image, or add what does: attention, gates and their like, by timm's names."""


def _without_wide_layers(backbone):
    """A copy in which layers that see the whole image, and maps that are upsampled to finer ones, are constant: their weights are zero."""
    local = copy.deepcopy(backbone)
    for key, parameter in local.named_parameters():
        fused = re.search(r"\.fuse_layers\.(\d)\.(\d)\.", key)
        if WIDE.search(key) or (fused and fused[2] > fused[1]):
            nn.init.zeros_(parameter)
    return local


def test_cells_lie_exactly_where_the_geometry_says(network):
    """No shift: the pixels on which a cell depends, by the gradients of the network itself, lie symmetrically about the cell.

    Nothing is measured with positive numbers and replaced layers, as the geometry is: what sees the whole image is switched off by its
    weights. A transposed convolution gives the cells that it makes of a coarser one the same surroundings, so those are averaged.
    """
    local, levels = _without_wide_layers(network.backbone), network.backbone.levels
    multiple, only = math.lcm(local.multiple, 32), local.extractor.side
    bounds = [level.geometry.receptive_field for level in levels.values()]
    smallest = 256 if max(bounds) == math.inf else int(max(bounds)) + 160
    for size in (only,) if only else (smallest, 512, 1024, 2048, 4096):
        length = -(-size // multiple) * multiple
        width = only or max(multiple, 64)
        if length > 1024:
            local.double()  # a field's ends have the product of as many small weights as there are layers
        found = [_supports(local, (width, length), 3), _supports(local, (length, width), 2)]
        if all(first > 0 and last < length - 1 for supports in found for cells in supports.values() for first, last in cells):
            break
    for supports in found:
        for stride, cells in supports.items():
            geometry = levels[stride].geometry
            begin = _first_cell(local, stride, length)
            expected = [float(geometry.offset) + (begin + i) * stride for i in range(len(cells))]
            centres = [(first + last) / 2 for first, last in cells]
            assert sum(centres) == sum(expected)
            if _run(local, stride) == 1:
                assert centres == expected
            if geometry.receptive_field != math.inf:
                assert {last - first + 1 for first, last in cells} == {geometry.receptive_field}


def _run(backbone, stride):
    """The number of cells that are made of one of the network's own."""
    return max(1, min(backbone.sources) // stride)


def _first_cell(backbone, stride, length):
    return length // stride // 2 // _run(backbone, stride) * _run(backbone, stride)


def _supports(backbone, size, axis):
    """First and last pixel along ``axis`` that neighbouring cells in the middle depend on, by stride."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, *size, dtype=next(backbone.parameters()).dtype, requires_grad=True)
    found = {}
    for stride, cells in backbone(images).items():
        begin = _first_cell(backbone, stride, size[axis - 2])
        scores = cells * torch.randn_like(cells)
        found[stride] = []
        for index in range(begin, begin + 2 * _run(backbone, stride)):
            (gradient,) = torch.autograd.grad(scores.select(axis, index).sum(), images, retain_graph=True)
            reached = gradient.abs().sum((0, 1, 5 - axis)).nonzero().flatten()
            found[stride].append((int(reached[0]), int(reached[-1])))
    return found


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_padding_to_a_multiple_is_exported_for_every_size():
    onnxruntime = pytest.importorskip("onnxruntime")

    class Padded(nn.Module):
        def forward(self, images):
            return Padding.of(Geometry(32), "external", 32).pad(images)

    free = {2: torch.export.Dim("H", max=4096), 3: torch.export.Dim("W", max=4096)}
    program = torch.onnx.export(Padded(), (torch.rand(1, 1, 67, 94),), dynamo=True, dynamic_shapes={"images": free}, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((1, 1), (63, 64), (65, 96), (97, 130)):
        images = torch.rand(1, 1, *size)
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        assert torch.equal(torch.from_numpy(found), Padded()(images))


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
@slow  # half a minute each; docs/backbones.json has all
@pytest.mark.parametrize("name", ["convnextv2_atto", "pvt_v2_b0", "vit_tiny_patch16_224", "dla46_c"], indirect=True, scope="module")
def test_onnx_equals_torch_at_any_size(network):
    onnxruntime = pytest.importorskip("onnxruntime")
    free = {2: torch.export.Dim("H", max=4096), 3: torch.export.Dim("W", max=4096)}
    program = torch.onnx.export(network, (torch.rand(1, 3, 67, 94),), dynamo=True, dynamic_shapes={"images": free}, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((67, 94), (37, 130)):
        images = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = network(images)
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("backbone", "words"), [("dla46_c", "287 pixels"), ("pvt_v2_b0", "the whole image")])
def test_a_bundle_says_how_much_of_an_image_it_sees(backbone, words, tmp_path):
    network = create_model("fcn32s", backbone=backbone, num_classes=2)
    saved = Bundle.of("fcn32s", {"backbone": backbone}, network, LabelSpace(("a", "b"))).save(tmp_path / "saved")
    assert f'"receptive_field": "{words}"' in (saved / "bundle.json").read_text()
    Bundle.load(saved).save(tmp_path / "again")
    assert (tmp_path / "again" / "bundle.json").read_text() == (saved / "bundle.json").read_text()


def test_a_network_whose_positions_end_labels_windows():
    info = inspect_backbone("mvitv2_tiny")
    assert (info.multiple, info.extractor.side) == (224, 224)
    assert {stride: int(level.geometry.offset) for stride, level in info.levels.items()} == {8: 0, 16: 0, 32: 0}


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
