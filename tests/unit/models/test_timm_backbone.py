import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from upscore.errors import ModelError
from upscore.models.backbone import FeatureLevel
from upscore.models.backbones import build_backbone
from upscore.models.timm_backbone import TimmBackbone, current_name, import_timm, inspect_backbone, pretrained
from upscore.ops.geometry import Geometry


def test_taps_are_what_forward_gives():
    backbone = TimmBackbone("mobilenetv2_050", in_channels=2).eval()
    seen = backbone(torch.rand(1, 2, 65, 97))
    assert {stride: (x.shape[1], *x.shape[2:]) for stride, x in seen.items()} == {
        stride: (tap.channels, 64 // stride + 1, 96 // stride + 1) for stride, tap in backbone.levels.items()
    }


def test_statistics_are_timms():
    assert TimmBackbone("mobilenetv2_050").mean == (0.485, 0.456, 0.406)
    assert inspect_backbone("efficientnet_b0").std == (0.229, 0.224, 0.225)
    assert inspect_backbone("resnetv2_50").mean == (0.5, 0.5, 0.5) or inspect_backbone("resnetv2_50").mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18",
        "local-dir:/etc",
        "../resnet18",
        "timm/resnet18",
        "resnet18@main",
        "",
        ".",
        "RESNET18",
        "resnet18.a1_in1k/../..",
    ],
)
def test_paths_and_addresses_are_no_names(name):
    with pytest.raises(ModelError, match=r"unknown backbone|no weights tagged"):
        TimmBackbone(name)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("levit_128s", "by attention alone"),
        ("inception_v3", "do not divide an image"),
        ("vit_base_patch32_224.gone", "no weights tagged"),
    ],
)
def test_networks_without_a_regular_grid_are_refused_in_words(name, complaint):
    with pytest.raises(ModelError, match=complaint) as error:
        TimmBackbone(name)
    assert "\n" not in str(error.value)


def test_attention_is_located_without_measuring_receptive_fields(monkeypatch):
    """Measuring the largest of these networks takes minutes."""
    from upscore.models import timm_backbone

    monkeypatch.setattr(timm_backbone, "measure_levels", lambda *_, **__: pytest.fail("measured"))
    assert inspect_backbone.__wrapped__("vit_tiny_patch16_224").levels == {16: FeatureLevel(192, Geometry(16, 7.5, math.inf))}


def test_same_padding_is_regular_on_multiples_of_the_stride():
    info = inspect_backbone("tf_efficientnet_lite0")
    assert info.multiple == 32
    assert [level.geometry.offset for level in info.levels.values()] == [7, 15, 31]
    assert all(level.geometry.receptive_field < math.inf for level in info.levels.values())


@pytest.mark.parametrize(
    ("channels", "jump", "complaint"),
    [(64, 32, "32 pixels apart, expected timm's 8"), (7, 8, "returns 7 channels, expected timm's 128")],
)
def test_networks_that_are_not_what_timm_says_are_refused(monkeypatch, channels, jump, complaint):
    from upscore.models import timm_backbone

    levels = [FeatureLevel(channels, Geometry(jump)), FeatureLevel(channels, Geometry(16)), FeatureLevel(channels, Geometry(32))]
    monkeypatch.setattr(timm_backbone, "measure_levels", lambda *_, **__: levels)
    with pytest.raises(ModelError, match=complaint):
        inspect_backbone.__wrapped__("resnet18")


def test_unreachable_weights_are_one_line(monkeypatch):
    import huggingface_hub

    class Offline:
        def head(self, *_, **__):
            raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "get_session", Offline)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*no route to host.*give weights=<file>") as error:
        build_backbone("resnet18", weights="imagenet")
    assert "\n" not in str(error.value)


def test_architectures_without_weights_say_so():
    timm = import_timm()
    bare = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(ModelError, match="no ImageNet weights"):
        pretrained(bare)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "convnext_atto", "regnetx_002"])
def test_files_of_the_whole_network_fit_its_backbone(tmp_path, name):
    """Heads are left out, and the features are those that timm itself gives with these weights."""
    torch.manual_seed(0)
    whole = import_timm().create_model(name, num_classes=3).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    backbone = build_backbone(name, weights=tmp_path / "whole.pth").eval()
    assert all(not parameter.is_meta for parameter in backbone.parameters())
    tensors = {tensor.data_ptr(): tensor for tensor in whole.state_dict().values()}.values()
    known = {(tuple(t.shape), float(t.double().sum())) for t in tensors}
    assert {(tuple(t.shape), float(t.double().sum())) for t in backbone.state_dict().values()} <= known
    if hasattr(whole, "forward_intermediates"):
        image = torch.rand(1, 3, 64, 64)
        deepest = backbone(image)[32]
        every = whole.forward_intermediates(image, intermediates_only=True)
        assert any(x.shape == deepest.shape and torch.equal(x, deepest) for x in every)
    again = build_backbone(name, weights=save(tmp_path / "own.pth", backbone.state_dict())).eval()
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in backbone.state_dict().items())


def test_files_that_do_not_fit_name_the_tensor(tmp_path):
    state = import_timm().create_model("mobilenetv2_050").state_dict()
    state["stranger"] = state.pop("conv_stem.weight")
    with pytest.raises(ModelError, match=r"lacks 'features.conv_stem.weight' and holds 'stranger' instead"):
        build_backbone("mobilenetv2_050", weights=save(tmp_path / "w.pth", state))
    with pytest.raises(ModelError, match="of shape"):
        build_backbone("mobilenetv2_100", weights=save(tmp_path / "w.pth", import_timm().create_model("mobilenetv2_050").state_dict()))


def test_timm_networks_take_no_arguments():
    with pytest.raises(ModelError, match="takes no argument 'dropout'"):
        build_backbone("resnet18", dropout=0.1)


def test_gates_make_the_field_unbounded_and_move_nothing():
    levels = inspect_backbone("mobilenetv3_small_100").levels.values()
    assert [(tap.geometry.stride, tap.geometry.offset, tap.geometry.receptive_field) for tap in levels] == [
        (s, 0, math.inf) for s in (8, 16, 32)
    ]


def test_dissecting_allocates_no_weights(monkeypatch):
    drawn = []
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda tensor, **_: drawn.append(tensor.device.type))
    inspect_backbone.__wrapped__("resnet34")
    assert set(drawn) == {"meta"}


def test_importing_backbones_does_not_import_timm():
    code = "import sys, upscore.models.factory; assert 'timm' not in sys.modules and 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def save(path, state):
    torch.save(dict(state), path)
    return path


@pytest.mark.parametrize(
    ("earlier", "today"),
    [
        ("swsl_resnet18", "resnet18.fb_swsl_ig1b_ft_in1k"),
        ("gluon_resnet18_v1b", "resnet18.gluon_in1k"),
        ("tv_resnet50", "resnet50.tv_in1k"),
        ("xception", "legacy_xception"),
        ("swsl_resnet18.fb_ssl_yfcc100m_ft_in1k", "resnet18.fb_ssl_yfcc100m_ft_in1k"),
        ("vit_base_patch16_224_sam", "vit_base_patch16_224"),
    ],
)
def test_names_that_timm_has_changed_are_taken_and_said(earlier, today):
    said = []
    assert current_name(earlier, report=said.append) == today
    assert said == [f"backbone '{earlier}' is now called '{today}' in timm, and here"]


def test_every_name_that_timm_has_changed_is_taken():
    import_timm()
    from timm.models import get_deprecated_models

    for earlier in get_deprecated_models():
        assert current_name(earlier, report=lambda _: None)


def test_of_a_name_of_today_nothing_is_said():
    said = []
    assert current_name("resnet18", report=said.append) == "resnet18"
    assert said == []


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("mobilenet_v2", "mobilenetv2_100"),
        ("MobileNet_V2", "mobilenetv2_100"),
        ("ResNet-50", "resnet50"),
        ("resnet_50", "resnet50"),
        ("efficientnet-b0", "efficientnet_b0"),
        ("EfficientNetB0", "efficientnet_b0"),
        ("VGG-16", "vgg16"),
        ("resnet5O", "resnet50"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("mobilenetv3-large", "mobilenetv3_large_100"),
    ],
)
def test_hints_name_what_was_meant(wanted, meant):
    with pytest.raises(ModelError, match=rf"did you mean '{meant}'"):
        current_name(wanted, report=print)


@pytest.mark.parametrize("wanted", ["qqqqqq", "", "x", "---"])
def test_no_hint_where_nothing_is_near(wanted):
    with pytest.raises(ModelError, match="unknown backbone") as error:
        current_name(wanted, report=print)
    assert "did you mean" not in str(error.value)
