"""The list of architectures: what a record promises is what the network does, and documents are made from the records."""

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch

from upscore.errors import ModelError
from upscore.models.architectures import ARCHITECTURES, find_architecture
from upscore.models.backbone import FeatureLevel
from upscore.models.backbones import OWN_BACKBONES
from upscore.models.factory import create_model, list_models
from upscore.models.normalization import Normalization
from upscore.models.on_backbone import OnBackbone
from upscore.ops.geometry import Geometry

ROOT = Path(__file__).resolve().parents[3]

every = pytest.mark.parametrize("name", ARCHITECTURES)


@every
def test_a_record_is_complete(name):
    architecture = find_architecture(name)
    assert architecture.name == name
    assert architecture.description
    assert architecture.paper
    assert "\n" not in architecture.description


ON_BACKBONES = {name for name, architecture in ARCHITECTURES.items() if architecture.encoder == "backbone"}


@every
def test_only_what_takes_a_backbone_is_put_on_one(name):
    assert find_architecture(name).takes_backbone == (name in ON_BACKBONES)
    with torch.device("meta"):
        model = create_model(name, num_classes=2)
        assert isinstance(model, OnBackbone) == (name in ON_BACKBONES)
        if name not in ON_BACKBONES:
            with pytest.raises(ModelError, match="has its own encoder"):
                create_model(name, num_classes=2, backbone="resnet18")


@every
def test_settings_and_their_defaults_are_the_networks(name):
    for setting, default in find_architecture(name).settings.items():
        with torch.device("meta"):
            create_model(name, num_classes=2, **{setting: default})
    with pytest.raises(ModelError, match="takes no argument 'finest'"):
        create_model(name, num_classes=2, finest=8)


@every
def test_imagenet_weights_are_taken_where_the_record_promises_it(name, monkeypatch):
    """Those of VGG16 are made up here; a network without them refuses in words."""
    import upscore.models.backbones
    import upscore.models.factory

    with torch.device("meta"):
        whole = {"num_classes": 2} | ({"backbone": "vgg16"} if name in ON_BACKBONES else {})
        own = OWN_BACKBONES["vgg16"].build().state_dict()
    asked = []

    class Pretrained:
        def state_dict(self):
            return own

    def pretrained(timm_name, **_):
        asked.append(timm_name)
        return Pretrained()

    monkeypatch.setattr(upscore.models.backbones, "pretrained", pretrained)
    monkeypatch.setattr(upscore.models.factory, "pretrained", pretrained)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of copying to tensors without numbers, which does nothing
        assert find_architecture(name).takes_imagenet_weights == (name in {*ON_BACKBONES, "fcn32s-late", "deconvnet", "segnet"})
        if find_architecture(name).takes_imagenet_weights:
            create_model(name, weights="imagenet", **whole)
            assert asked == ["vgg16"]
        else:
            with pytest.raises(ModelError, match=f"no ImageNet weights for '{name}'"):
                create_model(name, weights="imagenet", **whole)
            assert asked == []


def test_imagenet_weights_with_batch_normalisation_are_another_network_of_timms(monkeypatch):
    import upscore.models.backbones

    asked = []

    def pretrained(timm_name, **_):
        asked.append(timm_name)
        raise ModelError("not here")

    monkeypatch.setattr(upscore.models.backbones, "pretrained", pretrained)
    with torch.device("meta"), pytest.raises(ModelError, match="not here"):
        create_model("fcn8s", num_classes=2, weights="imagenet", batch_norm=True)
    assert asked == ["vgg16_bn"]


def test_the_normalization_of_a_record_is_the_networks_where_nothing_else_is_given():
    for name, expected in (("segnet-basic", Normalization.raw()), ("segnet", Normalization.imagenet())):
        found = create_model(name, num_classes=2, width=1 / 32).normalization
        assert (found.span, found.bgr) == (expected.span, expected.bgr)
    assert create_model("segnet-basic", num_classes=2, width=1 / 32, in_channels=4).normalization.span == 1


@pytest.mark.parametrize("backbone", ["vgg16", "resnet10t"])
def test_finer_levels_are_asked_for_where_the_record_says_so(backbone):
    for name, strides in (("fcn8s", [8, 16, 32]), ("unet-backbone", [2, 4, 8, 16, 32])):
        with torch.device("meta"):
            levels = create_model(name, backbone=backbone, num_classes=2).backbone.levels
        assert sorted(levels) == strides


class Strided(torch.nn.Module):
    """The smallest backbone: one average for each level, of cells centred between pixels."""

    mean = std = (0.5, 0.5, 0.5)
    padding = "external"

    def __init__(self):
        super().__init__()
        self.levels = {stride: FeatureLevel(3, Geometry().pool(stride, stride)) for stride in (8, 16, 32)}

    def forward(self, x):
        return {stride: torch.nn.functional.avg_pool2d(x, stride) for stride in self.levels}


class Finest(torch.nn.Module):
    """The smallest decoder: the level of stride 8 as scores, and a head at the images' size."""

    stride, context, upsamplings = 32, 2, ()

    def __init__(self, backbone, *, num_classes):
        super().__init__()
        self.num_classes, self.channels = num_classes, backbone.levels[8].channels
        self.geometry = backbone.levels[8].geometry
        self.head = torch.nn.Conv2d(self.channels, num_classes, 3, padding=1)

    def forward(self, levels):
        return levels[8]


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 96)])
def test_a_decoder_of_a_few_lines_on_a_backbone_of_a_few_lines(size):
    backbone = Strided()
    model = OnBackbone(backbone, Finest(backbone, num_classes=5), Normalization.imagenet())
    assert model(torch.rand(2, 3, *size)).shape == (2, 5, *size)
    assert model.geometry == Geometry(stride=32, offset=model.geometry.offset, receptive_field=32 + 2)
    assert (model.stride, model.num_classes) == (32, 5)


def test_a_head_runs_at_the_images_size_and_no_pixel_is_shifted():
    backbone = Strided()
    decoder = Finest(backbone, num_classes=3)
    decoder.head = torch.nn.Identity()
    model = OnBackbone(backbone, decoder, torch.nn.Identity())
    ramp = torch.arange(96.0).expand(1, 3, 64, 96)
    torch.testing.assert_close(model(ramp)[..., 8:-8], ramp[..., 8:-8])


def test_the_list_has_the_records_and_the_page_of_networks_is_up_to_date():
    assert [row.architecture for row in list_models(("vgg16",))] == list(ARCHITECTURES.values())
    spec = importlib.util.spec_from_file_location("make_models", ROOT / "docs" / "make_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "models.md").read_text()
    assert page == module.models_page(), "run: python docs/make_models.py"
    assert all(f"`{name}`" in page for name in (*ARCHITECTURES, *OWN_BACKBONES))
