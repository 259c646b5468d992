"""What must hold for every fully convolutional network, whatever its backbone."""

import functools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.errors import GeometryError, ModelError
from upscore.models.backbone import FeatureLevel
from upscore.models.factory import create_model
from upscore.models.fcn import FCN
from upscore.models.on_backbone import OnBackbone
from upscore.models.weights.transplant import start_from
from upscore.ops.geometry import Geometry

law = settings(deadline=None, max_examples=20)
side = st.integers(1, 100)

BACKBONES = {
    "vgg16": {"backbone": "vgg16", "width": 1 / 32},
    "vgg16-narrow-pad": {"backbone": "vgg16", "width": 1 / 32, "padding": 1},
    "vgg16-bn": {"backbone": "vgg16", "width": 1 / 32, "batch_norm": True},
    "odd": {"backbone": "mobilenetv2_035"},
    "even": {"backbone": "convnext_atto"},
}


@functools.cache
@torch.inference_mode(False)
def network(name, backbone):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, **BACKBONES[backbone]).eval()
    for layer in model.decoder.children():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
    return model


every_network = pytest.mark.parametrize(
    ("name", "backbone"),
    [("fcn8s", backbone) for backbone in BACKBONES] + [("fcn16s", "vgg16"), ("fcn32s", "vgg16"), ("fcn16s", "odd"), ("fcn32s", "odd")],
)


@every_network
@law
@given(side, side)
def test_any_image_gives_finite_logits_of_its_own_size(name, backbone, height, width):
    with torch.inference_mode():
        logits = network(name, backbone)(torch.rand(1, 3, height, width))
    assert logits.shape == (1, 3, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize("backbone", ["odd", "even", "vgg16-bn"])
def test_one_pixel_can_be_trained_on(backbone):
    model = create_model("fcn8s", num_classes=3, **BACKBONES[backbone]).train()
    loss = model(torch.rand(1, 3, 1, 1)).square().sum() + model(torch.rand(1, 3, 1, 1)).sum()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_network
def test_a_tile_with_its_margin_equals_the_whole_image(name, backbone):
    """Shifts by the stride shift the output, and the margin of ``geometry`` is enough."""
    model = network(name, backbone)
    margin, stride = model.geometry.margin(), model.stride
    begin, length = margin + stride, 64
    image = torch.rand(1, 3, 33, begin + length + margin + 40)
    with torch.inference_mode():
        whole = model(image)[..., begin : begin + length]
        tile = model(image[..., begin - margin : begin + length + margin])[..., margin : margin + length]
    torch.testing.assert_close(tile, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
    assert whole.std() > 0


@pytest.mark.parametrize(("name", "backbone"), [("fcn8s", "vgg16"), ("fcn16s", "vgg16"), ("fcn8s", "odd")])
def test_no_pixel_is_reached_from_beyond_the_margin(name, backbone):
    model = network(name, backbone)
    reach = Fraction(model.geometry.receptive_field) / 2 + model.geometry.stride
    middle = 640
    image = torch.rand(1, 3, 8, 2 * middle, requires_grad=True)
    logits = model(image)
    furthest = 0
    for pixel in range(middle, middle + 32, 4):
        (gradient,) = torch.autograd.grad(logits[..., pixel].sum(), image, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        furthest = max(furthest, pixel - int(seen[0]), int(seen[-1]) - pixel)
    assert furthest <= reach
    assert furthest > reach - model.geometry.stride - 2, "the margin is larger than needed, or the receptive field is not reached"


class Ruler(nn.Module):
    """A backbone whose features are the column at which each cell is centred."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, offsets, padding):
        super().__init__()
        self.padding = padding
        self.levels = {stride: FeatureLevel(1, Geometry(Fraction(stride), offset, Fraction(64))) for stride, offset in offsets.items()}

    def forward(self, x):
        maps = {}
        for stride, level in self.levels.items():
            offset = float(level.geometry.offset)
            rows, columns = (int((n - 1 - 2 * offset) // stride) + 1 for n in x.shape[-2:])
            maps[stride] = (offset + stride * torch.arange(columns, dtype=x.dtype)).expand(1, 1, rows, columns)
        return maps


def offsets_of(phase, extra):
    """Cells centred as after pooling 2×2 (1/2) or after odd kernels of stride 2 (0), on ``extra`` pixels of missing or present padding."""
    return {stride: phase * (stride - 1) + extra * 8 for stride in (8, 16, 32)}


@law
@given(
    st.sampled_from([32, 16, 8]),
    st.sampled_from([Fraction(0), Fraction(1, 2)]),
    st.sampled_from([-2, 0, 1, 4]),
    st.integers(130, 260),
)
def test_scores_land_where_their_cells_are(finest, phase, extra, width):
    """A ramp measured by any of the levels comes out as the ramp: nothing is shifted by half a pixel."""
    backbone = Ruler(offsets_of(phase, extra), "external")
    model = OnBackbone(backbone, FCN(backbone, num_classes=1, finest=finest), nn.Identity())
    scores = [layer for layer_name, layer in model.decoder.named_children() if layer_name.startswith("score")]
    for score in scores:
        for other in scores:
            nn.init.constant_(other.weight, float(other is score))
        logits = model(torch.zeros(1, 3, 70, width))
        ramp = torch.arange(width) + model.padding.before
        inside = slice(40, width - 72)
        torch.testing.assert_close(logits[0, 0, 35, inside], ramp[inside].to(logits.dtype), rtol=0, atol=1e-3)


def test_geometry_is_in_pixels_of_the_image():
    """Without padding of its own, VGG16's cell 0 lies 111.5 pixels in; zeros before the image bring it to 15.5."""
    model = network("fcn8s", "vgg16-narrow-pad")
    assert (model.padding.before, model.geometry.offset) == (96, Fraction(31, 2))
    assert network("fcn8s", "vgg16").geometry.offset == Fraction(25, 2)


def test_grids_out_of_step_are_refused():
    offsets = {8: Fraction(1, 3), 16: Fraction(0), 32: Fraction(0)}
    with pytest.raises(GeometryError):
        FCN(Ruler(offsets, "external"), num_classes=1, finest=8)


def test_a_backbone_without_the_stride_is_refused():
    with pytest.raises(ModelError, match=r"no feature map of stride 8, only \[32\]"):
        FCN(Ruler({32: Fraction(0)}, "external"), num_classes=1, finest=8)


@pytest.mark.parametrize("backbone", ["vgg16", "odd"])
def test_stages_begin_where_the_last_one_ended(backbone):
    coarse = network("fcn32s", backbone)
    image = torch.rand(1, 3, 97, 129)
    with torch.inference_mode():
        before = coarse(image)
        for name in ("fcn16s", "fcn8s"):
            finer = create_model(name, num_classes=3, **BACKBONES[backbone]).eval()
            start_from(finer, coarse.state_dict())
            spread = float(before.max() - before.min())
            assert float((finer(image) - before).abs().mean()) < 0.1 * spread
            assert float(finer.decoder.score_pool4.weight.abs().max()) == 0
            assert all(torch.equal(finer.state_dict()[key], tensor) for key, tensor in coarse.state_dict().items())


def test_learned_upsampling_begins_bilinear_in_a_later_stage():
    coarse = network("fcn32s", "vgg16").state_dict()
    learned, frozen = (create_model("fcn16s", num_classes=3, upsampling=how, **BACKBONES["vgg16"]).eval() for how in ("learned", "frozen"))
    for finer in (learned, frozen):
        start_from(finer, coarse)
    image = torch.rand(1, 3, 40, 60)
    with torch.inference_mode():
        torch.testing.assert_close(learned(image), frozen(image), rtol=1e-4, atol=1e-4)


def test_stages_of_another_network_are_refused():
    coarse = network("fcn32s", "vgg16").state_dict()

    def finer(**arguments):
        return create_model("fcn16s", **{"num_classes": 3, "width": 1 / 32} | arguments)

    with pytest.raises(ModelError, match=r"'decoder.score_fr.weight' is .*, expected"):
        start_from(finer(num_classes=4), coarse)
    with pytest.raises(ModelError, match="which this one has not"):
        start_from(create_model("fcn16s", num_classes=3, backbone="mobilenetv2_035"), coarse)
    with pytest.raises(ModelError, match=r"it lacks 'backbone\.fc7\.bias'"):
        start_from(finer(), {key: tensor for key, tensor in coarse.items() if key != "backbone.fc7.bias"})
    with pytest.raises(ModelError, match="another normalization"):
        start_from(finer(normalization="caffe"), coarse)
    with pytest.raises(ModelError, match="which this one has not"):
        start_from(create_model("fcn32s", num_classes=3, width=1 / 32), finer().state_dict())


def test_new_score_layers_learn_from_zero():
    """Zero-initialised skips still get a gradient: their inputs are not zero."""
    model = create_model("fcn8s", num_classes=3, backbone="vgg16", width=1 / 32)
    nn.init.normal_(model.decoder.score_fr.weight)
    model(torch.rand(1, 3, 40, 40))[:, 0].sum().backward()
    assert model.decoder.score_pool4.weight.grad.abs().sum() > 0
    assert model.decoder.score_pool3.weight.grad.abs().sum() > 0
    assert all(layer.weight is None for layer in (model.decoder.upscore2, model.decoder.upscore_pool4, model.upscore))


@pytest.mark.parametrize("backbone", ["vgg16", "odd"])
def test_channels_last_and_bf16_change_nothing_but_rounding(backbone):
    model = network("fcn8s", backbone)
    image = torch.rand(2, 3, 50, 70)
    with torch.inference_mode():
        expected = model(image)
        torch.testing.assert_close(model(image.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(image).float()
    assert float((rounded - expected).abs().mean()) < 0.05 * float(expected.max() - expected.min())
