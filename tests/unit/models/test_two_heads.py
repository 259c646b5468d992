"""Two heads on one backbone are two networks that share its weights."""

import pytest
import torch

from upscore.errors import BundleError, ModelError, RecipeError
from upscore.inference.predictor import Predictor
from upscore.models.bundle import Bundle
from upscore.models.factory import create_model
from upscore.models.single_head import with_single_head
from upscore.models.two_heads import TwoHeads, second_labels
from upscore.types import LabelSpace

FIRST, SECOND = LabelSpace(("tree", "road", "sea")), "low, high"
BOTH = {"backbone": "vgg16", "width": 1 / 32, "second_head": SECOND}


def built(name="fcn8s", **changes):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, **BOTH | changes)
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "changes"), [("fcn32s", {}), ("fcn8s", {"upsampling": "learned"}), ("unet-backbone", {"channels": 2, "batch_norm": True})]
)
def test_it_equals_two_networks_that_share_weights(name, changes):
    model, images = built(name, **changes), torch.rand(2, 3, 45, 52)
    arguments = {"backbone": "vgg16", "width": 1 / 32} | changes
    shared = model.state_dict()
    with torch.no_grad():
        for classes, logits in zip((slice(0, 3), slice(3, 5)), model(images, both=True), strict=True):
            alone = create_model(name, num_classes=logits.shape[1], **arguments).eval()
            own = alone.state_dict()
            alone.load_state_dict({key: shared[key] if shared[key].shape == own[key].shape else shared[key][classes] for key in own})
            torch.testing.assert_close(logits, alone(images), rtol=1e-4, atol=1e-5)
        assert torch.equal(model(images), model(images, both=True)[0])


def test_gradients_of_both_heads_reach_the_backbone():
    model, images = built(), torch.rand(1, 3, 40, 40)
    gradients = []
    for head in range(2):
        model.zero_grad()
        model(images, both=True)[head].square().sum().backward()
        gradients.append(model.backbone.conv1_1.weight.grad.clone())
        scores = model.decoder.score_fr.weight.grad
        assert scores[:3].any() == (head == 0)
        assert scores[3:].any() == (head == 1)
    assert gradients[0].any()
    assert gradients[1].any()
    assert not torch.allclose(gradients[0], gradients[1])


def test_a_bundle_gives_either_head(tmp_path):
    model, images = built(), torch.rand(1, 3, 33, 47)
    Bundle.of("fcn8s", BOTH, model, FIRST).save(tmp_path / "both")
    bundle = Bundle.load(tmp_path / "both")
    assert isinstance(bundle.build(), TwoHeads)
    with torch.no_grad():
        logits = model(images, both=True)
    for second, labels in ((False, FIRST), (True, second_labels(SECOND))):
        predictor = Predictor(tmp_path / "both", device="cpu", second_head=second)
        assert predictor.labels == labels
        torch.testing.assert_close(predictor.predict_probs(images), logits[second].softmax(1), rtol=1e-3, atol=1e-5)
        with_single_head(bundle, second=second).save(tmp_path / "one")
        assert Bundle.load(tmp_path / "one").labels == labels


def test_the_second_head_has_no_crf_of_the_first():
    bundle = Bundle.of("fcn32s", BOTH, built("fcn32s"), FIRST)
    refined = bundle.inference.with_overrides(crf=True)
    tuned = Bundle.of("fcn32s", BOTH, built("fcn32s"), FIRST, inference=refined)
    assert with_single_head(tuned).inference.uses_crf
    assert not with_single_head(tuned, second=True).inference.uses_crf


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fcn8s", {"upsampling": "full"}, "found a second head for upsampling 'full', which mixes the classes of both"),
        ("segnet", {"backbone": None}, "found a second head for 'segnet', which takes no backbone"),
        ("fcn8s", {"second_head": "low, low"}, "found second_head 'low, low', expected names of classes separated by commas"),
        ("fcn8s", {"second_head": "low,"}, "found second_head 'low,', expected names"),
        ("fcn8s", {"second_head": 3}, "found second_head 3, expected names"),
    ],
)
def test_a_second_head_that_cannot_be_is_refused(name, changes, message):
    with pytest.raises(ModelError, match=message):
        create_model(name, num_classes=3, **BOTH | changes)


def test_a_network_with_one_head_has_no_second():
    arguments = {"width": 1 / 32}
    one = Bundle.of("fcn32s", arguments, create_model("fcn32s", num_classes=3, **arguments), FIRST)
    assert with_single_head(one) is one
    with pytest.raises(BundleError, match="found 'fcn32s' with one head, expected two"):
        Predictor(one, second_head=True)
    with pytest.raises(RecipeError, match="found second_head for TwoHeads, expected a bundle"):
        Predictor(built(), labels=FIRST, second_head=True)


def test_the_release_s_names_are_read(tmp_path):
    """Its heads are layers of their own, and its upsampling kernels lead from every class to every class."""
    model = built("fcn8s")
    theirs = {}
    for name, tensor in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        short = layer.rpartition(".")[2]
        if short.startswith("score"):
            theirs |= {f"{short}_sem.{kind}": tensor[:3], f"{short}_geo.{kind}": tensor[3:]}
        elif not name.startswith("normalization"):
            theirs[f"{short}.{kind}"] = tensor
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for head, classes in (("sem", 3), ("geo", 2)):
        theirs[f"upscore2_{head}.weight"] = torch.eye(classes)[:, :, None, None] * torch.outer(line, line)
    torch.save(theirs, tmp_path / "both.pth")
    again = create_model("fcn8s", num_classes=3, weights=tmp_path / "both.pth", **BOTH)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items() if "normal" not in name)
    theirs["upscore2_geo.weight"] = theirs["upscore2_geo.weight"].flip(0)
    torch.save(theirs, tmp_path / "mixed.pth")
    with pytest.raises(ModelError, match=r"mix classes in 'upscore2\.weight'"):
        create_model("fcn8s", num_classes=3, weights=tmp_path / "mixed.pth", **BOTH)
