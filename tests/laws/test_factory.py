"""What every network of the zoo keeps, whatever its paper: one battery for all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.inference.tiling import tiled
from upscore.models.architectures import ARCHITECTURES
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.types import LabelSpace

CLASSES = 3

SMALL = {
    "fcn32s": {"backbone": "vgg16", "width": 1 / 32},
    "fcn16s": {"backbone": "vgg16", "width": 1 / 32, "upsampling": "learned"},
    "fcn8s": {"backbone": "resnet10t"},
    "fcn8s-atonce": {"backbone": "vgg16", "width": 1 / 32, "batch_norm": True},
    "fcn32s-late": {"width": 1 / 32},
    "deconvnet": {"width": 1 / 32},
    "segnet": {"width": 1 / 16},
    "segnet-basic": {"width": 1 / 16},
    "unet": {"width": 1 / 16},
    "unet-backbone": {"backbone": "resnet10t", "channels": 2},
    "sliding-window": {"patch": 17, "width": 4, "hidden": 8},
    "full-resolution": {"depth": 3, "width": 4},
}
"""A small one of each architecture."""

MORE = {
    "fcn32s on alexnet": ("fcn32s", {"backbone": "alexnet", "width": 1 / 32}),
    "fcn8s on alexnet": ("fcn8s", {"backbone": "alexnet", "width": 1 / 32, "variant": "torchvision"}),
    "fcn8s with two heads": ("fcn8s", {"backbone": "alexnet", "width": 1 / 32, "variant": "torchvision", "second_head": "low, high"}),
    "fcn8s on googlenet": ("fcn8s", {"backbone": "googlenet", "width": 1 / 16}),
    "fcn32s on googlenet": ("fcn32s", {"backbone": "googlenet", "width": 1 / 16, "variant": "torchvision"}),
    "unet-backbone on vgg16": ("unet-backbone", {"backbone": "vgg16", "width": 1 / 32, "channels": 2}),
    "unet-backbone on convnext": ("unet-backbone", {"backbone": "convnext_atto", "channels": 2}),
}
"""Other backbones, whose grids lie otherwise."""

ENTRIES = {name: (name, arguments) for name, arguments in SMALL.items()} | MORE

every = pytest.mark.parametrize("name", list(ENTRIES))


def built(name, **changes):
    """A network in which nothing is zero, as after training."""
    torch.manual_seed(0)
    architecture, arguments = ENTRIES[name]
    network = create_model(architecture, num_classes=CLASSES, **arguments | changes)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.8, 1.2)
    return network


def test_the_battery_leaves_no_network_out():
    assert list(SMALL) == list(ARCHITECTURES)


@every
@settings(max_examples=20)
@given(size=st.tuples(st.integers(1, 150), st.integers(1, 150)))
def test_any_size_in_the_same_size_out(name, size):
    assert _on_meta(name)(torch.empty(2, 3, *size, device="meta")).shape == (2, CLASSES, *size)


META = {}


def _on_meta(name):
    if name not in META:
        architecture, arguments = ENTRIES[name]
        with torch.device("meta"):
            META[name] = create_model(architecture, num_classes=CLASSES, **arguments).eval()
    return META[name]


@every
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 20), (45, 64)])
def test_logits_are_finite(name, size):
    with torch.no_grad():
        logits = built(name).eval()(torch.rand(1, 3, *size))
    assert logits.shape == (1, CLASSES, *size)
    assert logits.isfinite().all()


@every
def test_every_parameter_gets_a_gradient(name):
    network = built(name, **{"dropout": 0.0} if name == "unet" else {}).train()
    network(torch.rand(2, 3, 40, 56)).square().mean().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert idle == []


@every
def test_a_batch_equals_its_images(name):
    network, images = built(name).eval(), torch.rand(3, 3, 37, 52)
    with torch.no_grad():
        together, singly = network(images), torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, singly, rtol=1e-5, atol=1e-5)


@every
def test_a_bundle_returns_the_same_bits(name, tmp_path):
    network, images = built(name).eval(), torch.rand(1, 3, 41, 35)
    labels = LabelSpace(("a", "b", "c"))
    Bundle.of(*ENTRIES[name], network, labels).save(tmp_path / "kept")
    again = Bundle.load(tmp_path / "kept").build()
    with torch.no_grad():
        assert torch.equal(network(images), again(images))


@every
def test_tiles_equal_the_whole(name):
    """The margin that a network's geometry names is enough, and its stride is the one to begin tiles on."""
    network = built(name).eval().double()
    margin, stride = network.geometry.margin(), network.stride
    image = torch.rand(1, 3, 2 * stride + 9, 2 * margin + 3 * stride + 5, dtype=torch.float64)
    with torch.no_grad():
        whole = network(image)
        parts = tiled(network, tile=max(2 * stride, margin // 4), margin=margin, stride=stride)(image)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [*SMALL, "fcn32s on alexnet", "fcn32s on googlenet", "fcn8s with two heads"])
@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_onnx_equals_torch_at_any_size(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = built(name).eval()
    free = {0: torch.export.Dim("N", max=64), 2: torch.export.Dim("H", max=4096), 3: torch.export.Dim("W", max=4096)}
    program = torch.onnx.export(network, (torch.rand(2, 3, 67, 94),), dynamo=True, dynamic_shapes={"images": free}, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 67, 94), (1, 3, 37, 61), (1, 3, 231, 120)):
        images = torch.rand(*shape)
        with torch.no_grad():
            expected = network(images)
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
