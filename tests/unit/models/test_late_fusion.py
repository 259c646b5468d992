"""Fusion of colour with depth: late, by the scores of two networks, and early, by a fourth band of the first convolution."""

import pytest
import torch

from upscore.errors import ModelError
from upscore.input_spec import InputSpec
from upscore.models.factory import create_model
from upscore.models.vgg16 import VGG16

COLOUR_HHA = InputSpec(("red", "green", "blue", "disparity", "height", "angle"), mean=(0.5, 0.4, 0.3, 0.2, 0.1, 0.6), std=(0.2,) * 6)
COLOUR_DEPTH = InputSpec(("red", "green", "blue", "log depth"), "float32", mean=(120, 100, 90, 7.8), std=(60, 60, 60, 1))


@pytest.fixture
def vgg16(tmp_path):
    """A narrow VGG16 in a file as Caffe's names have it."""
    torch.manual_seed(0)
    path = tmp_path / "vgg16.pth"
    state = VGG16(width=1 / 32).state_dict()
    torch.save(state | {"fc8.weight": torch.zeros(5, 128), "fc8.bias": torch.zeros(5)}, path)
    return path, state


def filled(model):
    """Give score layers, which begin with zeros, some weights."""
    for name, parameter in model.named_parameters():
        if "score" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.double().eval()


def test_scores_are_half_the_sum_of_two_networks():
    torch.manual_seed(1)
    late = filled(create_model("fcn32s-late", num_classes=3, input=COLOUR_HHA, normalization="caffe", width=1 / 32))
    images = torch.rand(1, 6, 45, 70, dtype=torch.float64)
    logits = []
    for bands, stream in zip((slice(0, 3), slice(3, 6)), late.streams, strict=True):
        spec = InputSpec(COLOUR_HHA.bands[bands], mean=COLOUR_HHA.mean[bands], std=COLOUR_HHA.std[bands])
        alone = create_model("fcn32s", num_classes=3, input=spec, normalization="caffe", width=1 / 32).double().eval()
        alone.load_state_dict(stream.state_dict(), strict=False)
        logits.append(alone(images[:, bands]))
    torch.testing.assert_close(late(images), 0.5 * logits[0] + 0.5 * logits[1], rtol=0, atol=1e-9)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_weights_of_a_classifier_go_into_both_streams(vgg16):
    path, state = vgg16
    model = create_model("fcn32s-late", num_classes=3, input=COLOUR_HHA, weights=path, width=1 / 32)
    assert (model.normalization.span, model.normalization.bgr) == (255, True)  # what the file's names show
    for stream in model.streams:
        assert all(torch.equal(tensor, state[name]) for name, tensor in stream.backbone.state_dict().items())
        assert not stream.decoder.score_fr.weight.any()


def test_the_release_s_names_are_read(tmp_path):
    model = filled(create_model("fcn32s-late", num_classes=3, input=COLOUR_HHA, normalization="caffe", width=1 / 32)).float()
    theirs = {}
    for suffix, stream in zip(("color", "hha"), model.streams, strict=True):
        for name, tensor in stream.state_dict().items():
            _, layer, kind = name.split(".")
            theirs[f"{layer}{suffix}.{kind}"] = tensor
    torch.save(theirs, tmp_path / "late.pth")
    again = create_model("fcn32s-late", num_classes=3, input=COLOUR_HHA, normalization="caffe", width=1 / 32, weights=tmp_path / "late.pth")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_depth_begins_with_the_mean_of_the_filters_of_colour(vgg16):
    path, state = vgg16
    sentences = []
    model = create_model("fcn32s", num_classes=3, input=COLOUR_DEPTH, weights=path, width=1 / 32, report=sentences.append)
    kernel = model.backbone.conv1_1.weight
    assert torch.equal(kernel[:, :3], state["conv1_1.weight"])
    torch.testing.assert_close(kernel[:, 3], state["conv1_1.weight"].mean(1), rtol=0, atol=0)
    assert any("followed by their mean for each band from 4 to 4" in sentence for sentence in sentences)
    images = torch.tensor([130.0, 110.0, 100.0, float("nan")]).view(1, 4, 1, 1)
    assert model.normalization(images).flatten().tolist() == [10, 10, 10, 0]  # blue, green, red; no depth is the mean
    assert model.normalization(torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)).flatten().tolist() == pytest.approx([-87, -98, -119, -3.8])


def test_the_release_s_early_fusion_is_read(tmp_path, vgg16):
    model = create_model("fcn32s", num_classes=3, input=COLOUR_DEPTH, normalization="caffe", width=1 / 32)
    theirs = {name.partition(".")[2]: tensor for name, tensor in model.state_dict().items() if not name.startswith("normalization")}
    theirs = {name.replace("conv1_1.", "conv1_1_bgrd."): tensor for name, tensor in theirs.items()}
    torch.save(theirs, tmp_path / "early.pth")
    again = create_model("fcn32s", num_classes=3, input=COLOUR_DEPTH, normalization="caffe", width=1 / 32, weights=tmp_path / "early.pth")
    assert torch.equal(again.backbone.conv1_1.weight, model.backbone.conv1_1.weight)


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (COLOUR_HHA, {"split": 6}, "found split 6 of 6 bands, expected fewer"),
        (COLOUR_HHA, {"split": True}, "found split True of 6 bands"),
        (InputSpec(("grey",)), {}, "found split 0 of 1 bands"),
        (
            InputSpec(("height", "red", "green", "blue"), mean=(0,) * 4, std=(1,) * 4),
            {"normalization": "caffe"},
            "and red, green and blue first",
        ),
        (InputSpec(("a", "b"), "uint16", (0, 0), (1, 1)), {"normalization": "caffe"}, "expected values from 0 to 255, or floats"),
        (InputSpec(("a", "b")), {"normalization": "caffe"}, "found 2 input channels with normalization 'caffe'"),
    ],
)
def test_what_cannot_be_fused_is_refused(spec, arguments, message):
    with pytest.raises(ModelError, match=message):
        create_model("fcn32s-late", num_classes=2, input=spec, width=1 / 32, **arguments)
