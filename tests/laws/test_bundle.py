"""What is bundled comes back, bit by bit, or not at all."""

import functools
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.errors import BundleError
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.settings import CRFSettings, InferenceSettings, ProposalSettings
from upscore.settings.crf import MAX_SIGMA, MIN_SIGMA
from upscore.settings.inference import MAX_TILE
from upscore.types import LabelSpace

law = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])

NETS = {
    "vgg16": ("fcn8s", {"backbone": "vgg16", "width": 1 / 64, "upsampling": "learned", "dropout": 0.25, "normalization": "caffe"}),
    "bn": ("fcn16s", {"backbone": "vgg16", "width": 1 / 64, "batch_norm": True, "in_channels": 1}),
    "timm": ("fcn32s", {"backbone": "mobilenetv2_035"}),
    "atonce": ("fcn8s-atonce", {"backbone": "vgg16", "width": 1 / 64, "padding": 120}),
}


@functools.cache
def trained(net):
    """A network whose every number, statistics of batch norm too, is random."""
    torch.manual_seed(0)
    name, arguments = NETS[net]
    model = create_model(name, num_classes=2, **arguments)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    for key, buffer in model.named_buffers():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            buffer.copy_(torch.randint(1, 9, buffer.shape))
    return model.eval()


plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
documents = st.dictionaries(
    st.text(max_size=10),
    st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_size=4,
)
settings = st.builds(
    InferenceSettings,
    tile=st.sampled_from(["auto", "whole"]) | st.integers(1, MAX_TILE),
    margin=st.none() | st.integers(0, MAX_TILE),
    flips=st.booleans(),
    scales=st.sampled_from([(1.0,), (0.5, 1.0, 4 / 3)]),
    precision=st.sampled_from(["fp32", "bf16"]),
    proposals=st.none() | st.builds(ProposalSettings, max_proposals=st.integers(1, 500), enlarge=st.floats(1, 10)),
    combine=st.sampled_from(["mean", "product"]),
    crf=st.none() | st.builds(CRFSettings, enabled=st.booleans(), bilateral_sigma=st.floats(MIN_SIGMA, MAX_SIGMA)),
)
names = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=2, unique=True)
colours = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=2, max_size=2)


@pytest.mark.parametrize("net", NETS)
def test_logits_survive_bit_by_bit(net, tmp_path):
    name, arguments = NETS[net]
    model = trained(net)
    Bundle.of(name, arguments, model, LabelSpace(("a", "b"))).save(tmp_path / "m")
    again = Bundle.load(tmp_path / "m").build()
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) and tensor.dtype == state[key].dtype for key, tensor in model.state_dict().items())
    image = torch.rand(1, arguments.get("in_channels", 3), 40, 33)
    with torch.inference_mode():
        assert torch.equal(again(image), model(image))
    assert again.geometry == model.geometry


@law
@given(names, colours, settings, documents)
def test_everything_else_survives(tmp_path, class_names, palette, inference, card):
    name, arguments = NETS["vgg16"]
    labels = LabelSpace(tuple(class_names), tuple(palette))
    bundle = Bundle.of(name, arguments, trained("vgg16"), labels, inference=inference, card=card)
    bundle.save(tmp_path / "m")
    again = Bundle.load(tmp_path / "m")
    assert (again.architecture, again.arguments, again.labels) == (name, bundle.arguments, labels)
    assert again.inference == inference
    assert json.dumps(again.card) == json.dumps(card)
    first = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    again.save(tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == first


@law
@given(st.data())
def test_no_altered_weights_are_used(tmp_path, data):
    name, arguments = NETS["vgg16"]
    folder = tmp_path / "m"
    if not folder.exists():
        Bundle.of(name, arguments, trained("vgg16"), LabelSpace(("a", "b"))).save(folder)
    path = folder / "weights.safetensors"
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    altered = bytearray(whole)
    if data.draw(st.booleans()):
        altered[place] ^= data.draw(st.integers(1, 255))
    else:
        del altered[place:]
    path.write_bytes(altered)
    try:
        with pytest.raises(BundleError) as error:
            Bundle.load(folder)
        assert "\n" not in str(error.value)
    finally:
        path.write_bytes(whole)
