"""Measured geometry is the arithmetic one wherever there is one."""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.errors import GeometryError
from upscore.models.backbone import measure_levels
from upscore.models.timm_backbone import import_timm, inspect_backbone
from upscore.ops.geometry import Geometry

law = settings(deadline=None, max_examples=40)


@st.composite
def layers(draw):
    """A layer and what it does to the geometry; padded by half a kernel or less."""
    kind = draw(st.sampled_from(["conv", "depthwise", "dilated", "max", "average", "gate", "norm", "residual"]))
    kernel, stride = draw(st.sampled_from([(1, 1), (3, 1), (5, 1), (3, 2), (2, 2), (4, 2), (7, 2)]))
    padding = draw(st.integers(0, kernel // 2))
    if kind == "conv":
        return nn.Conv2d(4, 4, kernel, stride, padding), lambda g: g.conv(kernel, stride, padding)
    if kind == "depthwise":
        return nn.Conv2d(4, 4, kernel, stride, padding, groups=4, bias=False), lambda g: g.conv(kernel, stride, padding)
    if kind == "dilated":
        return nn.Conv2d(4, 4, 3, 1, 2, dilation=2), lambda g: g.conv(3, 1, 2, dilation=2)
    if kind == "max":
        ceil = draw(st.booleans())
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil), lambda g: g.pool(kernel, stride, padding)
    if kind == "average":
        return nn.AvgPool2d(kernel, stride, padding), lambda g: g.pool(kernel, stride, padding)
    if kind == "gate":
        return Gate(), lambda g: Geometry(g.stride, g.offset, math.inf)
    if kind == "residual":
        odd = draw(st.sampled_from([3, 5]))
        return Residual(odd), lambda g: g.conv(odd, 1, odd // 2)
    return draw(st.sampled_from([nn.BatchNorm2d(4), nn.ReLU6(), nn.GELU(), nn.Hardswish(), ChannelNorm()])), lambda g: g


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))


class Residual(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, kernel, padding=kernel // 2)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 1e-6))

    def forward(self, x):
        y = F.relu(self.conv(x), inplace=True)
        y += x
        return (x + y) * self.scale


class ChannelNorm(nn.LayerNorm):
    def __init__(self):
        super().__init__(4)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@law
@given(st.lists(layers(), min_size=1, max_size=7))
def test_stacks_of_layers(stack):
    expected, levels = Geometry(), []
    for _, step in stack:
        expected = step(expected)
        levels.append(expected)
    # jumps above 32 leave too few cells on an image one cell wide
    assume(expected.stride <= 16)
    with torch.device("meta"):
        first = nn.Conv2d(3, 4, 1)
    modules = nn.ModuleList([first, *(layer.to("meta") for layer, _ in stack)]).eval()

    def features(x):
        x = modules[0](x)
        seen = []
        for module in list(modules)[1:]:
            x = module(x)
            seen.append(x)
        return seen

    found = [tap.geometry for tap in measure_levels(features)]
    if any(g.receptive_field == math.inf for g in levels):
        assert [(g.stride, g.offset) for g in found] == [(g.stride, g.offset) for g in levels]
        assert found[-1].receptive_field == math.inf
    else:
        assert found == levels


def test_the_callers_mode_does_not_matter():
    expected = [tap.geometry for tap in measure_levels(lambda x: [F.max_pool2d(x, 3, 2, 1)])]
    with torch.inference_mode(), torch.device("meta"):
        found = [tap.geometry for tap in measure_levels(lambda x: [F.max_pool2d(x, 3, 2, 1)])]
    assert found == expected == [Geometry().pool(3, 2, 1)]


def stem_and_blocks(stem, blocks):
    geometry = Geometry()
    for arguments in stem:
        geometry = geometry.conv(*arguments)
    levels = {}
    for kernel, stride in blocks:
        geometry = geometry.conv(kernel, stride, (kernel - 1) // 2)
        levels[int(geometry.stride)] = geometry
    return [levels[stride] for stride in (8, 16, 32)]


def by_hand(name):
    """The layers of published architectures, from their papers' tables."""
    if name == "resnet18":  # 7×7/2, 3×3/2, then four stages of two basic blocks
        blocks = [(3, 2 if stage and not i else 1) for stage in range(4) for i in range(4)]
        return stem_and_blocks([(7, 2, 3), (3, 2, 1)], blocks)
    if name == "mobilenetv2_100":  # strides 1 2 2 2 1 2 1 of stages of 1 2 3 4 3 3 1 blocks
        counts, strides = (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
        blocks = [(3, stride if not i else 1) for count, stride in zip(counts, strides, strict=True) for i in range(count)]
        return stem_and_blocks([(3, 2, 1)], blocks)
    if name == "vgg13":  # two 3×3 and a 2×2 pooling, five times; timm levels the last convolution of each stride
        geometry, levels = Geometry(), []
        for _ in range(5):
            geometry = geometry.conv(3, 1, 1).conv(3, 1, 1)
            levels.append(geometry)
            geometry = geometry.pool(2, 2)
        return [*levels[3:], geometry]
    if name == "convnext_tiny":  # 4×4/4, then 3 3 9 3 depthwise 7×7, 2×2/2 between
        geometry, levels = Geometry().conv(4, 4), []
        for stage, count in enumerate((3, 3, 9, 3)):
            geometry = geometry.conv(2, 2) if stage else geometry
            for _ in range(count):
                geometry = geometry.conv(7, 1, 3)
            levels.append(geometry)
        return levels[1:]
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "start", "field"), [("resnet18", 0, 435), ("mobilenetv2_100", 0, 491), ("vgg13", 15.5, 156), ("convnext_tiny", 15.5, 1688)]
)
def test_published_networks(name, start, field):
    found = [tap.geometry for tap in inspect_backbone(name).levels.values()]
    assert found == by_hand(name)
    assert (found[-1].offset, found[-1].receptive_field) == (start, field)


@pytest.mark.parametrize("name", ["resnet18", "regnetx_002", "mobilenetv2_035"])
def test_real_weights_see_no_more_and_hardly_less(name):
    """The support of the true gradient, with random weights and real activations."""
    torch.manual_seed(0)
    network = import_timm().create_model(name, features_only=True, out_indices=(4,)).eval().double()
    geometry = inspect_backbone(name).levels[32].geometry
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # some end every branch with a scale of zero
            nn.init.ones_(module.weight)
    image = torch.rand(1, 3, 33, 1025, dtype=torch.float64, requires_grad=True)
    (cells,) = network(image)
    middle = cells.shape[-1] // 2
    (gradient,) = torch.autograd.grad(cells[..., middle].sum(), image)
    seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    centre = geometry.offset + middle * geometry.stride
    reach = (Fraction(geometry.receptive_field) - 1) / 2
    assert centre - reach <= int(seen[0])
    assert int(seen[-1]) <= centre + reach
    assert int(seen[-1]) - int(seen[0]) > 0.8 * float(geometry.receptive_field)


@pytest.mark.parametrize(
    ("features", "complaint"),
    [
        (
            lambda x: [F.conv2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)), torch.ones(1, 3, 3, 3).double(), stride=2, padding=0)],
            None,
        ),
        (
            lambda x: [F.conv2d(F.pad(x, (1 + x.shape[-1] % 2, 1, 1 + x.shape[-2] % 2, 1)), torch.ones(1, 3, 3, 3).double(), stride=2)],
            "depends on the size",
        ),
        (lambda x: [F.conv2d(F.pad(x, (1, 1, 2, 0)), torch.ones(1, 3, 3, 3).double(), stride=2)], "depends on the size"),
        (lambda x: [F.interpolate(F.avg_pool2d(x, 4), scale_factor=2)], "unequal receptive fields"),
        (lambda x: [F.scaled_dot_product_attention(x, x, x)], "attention"),
        (lambda x: [x.cumsum(-1).cumsum(-2)], "or more"),
        (lambda x: [x.mean(1)], "3 axes"),
        (lambda x: [F.conv2d(x, torch.ones(1, 3, 1, 1).double(), stride=512)], "stride is more than 256 pixels"),
    ],
)
def test_irregular_grids_are_refused_in_words(features, complaint):
    if complaint is None:
        assert measure_levels(features)[0].geometry == Geometry().conv(3, 2)
        return
    with pytest.raises(GeometryError, match=complaint):
        measure_levels(features)
