"""Predictors that look at proposals: by themselves, in ensembles, under averaging and the CRF."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from upscore.errors import BundleError, DataError, RecipeError
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.pipeline import NO_PROPOSALS
from upscore.inference.predictor import Predictor
from upscore.inference.proposal_aggregation import over_boxes
from upscore.inference.segmenter import NetworkSegmenter
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.models.factory import create_model
from upscore.ops.box_crop import resize
from upscore.proposals import Boxes, EdgeBoxes, SlidingWindows, create_proposer, enlarge_boxes
from upscore.settings import InferenceSettings, ProposalSettings
from upscore.types import LabelSpace

LABELS = LabelSpace(("ground", "cat", "dog"))
FEW = {"max_proposals": 3, "proposer": "windows", "crop_side": 32, "enlarge": 1.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def bundle(seed=0, labels=LABELS, **values):
    torch.manual_seed(seed)
    arguments = {"depth": 2, "width": 6}
    model = create_model("full-resolution", num_classes=len(labels), **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Bundle.of("full-resolution", arguments, model, labels, **values)


def make_image(size=(40, 56), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def probs(predictor, image, **values):
    return predictor.predict(image, probs=True, **values).probs


def by_hand(one, image, count=3, **values):
    boxes = SlidingWindows()(image).best(count)
    return over_boxes(NetworkSegmenter(one.build()).scores, image_to_tensor(image), boxes, ProposalSettings(crop_side=32, **values)).numpy()


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_a_predictor_looks_at_its_proposals(aggregate):
    one, image = bundle(), make_image()
    found = probs(Predictor(one, proposals=FEW | {"aggregate": aggregate}), image)
    np.testing.assert_allclose(found, by_hand(one, image, aggregate=aggregate), atol=1e-6)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_settings_are_stored_with_the_bundle_and_changed_by_name():
    one, image = bundle(inference=InferenceSettings.from_stored({"proposals": FEW})), make_image()
    np.testing.assert_allclose(probs(Predictor(one), image), by_hand(one, image), atol=1e-6)
    np.testing.assert_allclose(probs(Predictor(one, proposals=1), image), by_hand(one, image, count=1), atol=1e-6)
    assert Predictor(one, proposals=5).settings.proposals == ProposalSettings(**FEW | {"max_proposals": 5})
    whole = Predictor(one, proposals=False)
    assert whole.settings.proposals is None
    np.testing.assert_array_equal(probs(whole, image), probs(Predictor(bundle()), image))
    assert Predictor(bundle(), proposals=True).settings.proposals == ProposalSettings()


def test_an_ensemble_averages_what_each_member_sees_its_own_way():
    boxed, whole, image = bundle(0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(1), make_image()
    both = probs(Predictor([boxed, whole]), image)
    np.testing.assert_allclose(both, (by_hand(boxed, image) + probs(Predictor(whole), image)) / 2, atol=1e-6)


def test_asked_for_proposals_go_to_those_made_for_them_or_else_to_the_first():
    boxed, whole, image = bundle(0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(1), make_image()
    second = probs(Predictor([whole, boxed], proposals=2), image)
    np.testing.assert_allclose(second, (by_hand(boxed, image, count=2) + probs(Predictor(whole), image)) / 2, atol=1e-6)
    first = probs(Predictor([whole, bundle(2)], proposals=FEW), image)
    np.testing.assert_allclose(first, (by_hand(whole, image) + probs(Predictor(bundle(2)), image)) / 2, atol=1e-6)


def test_the_release_multiplies_scores():
    boxed, whole, image = bundle(0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(1), make_image()
    product = probs(Predictor([boxed, whole], combine="product"), image)
    x = image_to_tensor(image)
    boxes = SlidingWindows()(image).best(3)
    score = NetworkSegmenter(boxed.build()).scores
    canvas = torch.full((3, *image.shape[:2]), -torch.inf)
    for left, top, right, bottom in boxes.corners.tolist():
        cut = resize(x[:, top:bottom, left:right].double(), (32, 32)).float()
        back = resize(score(cut[None])[0].double(), (bottom - top, right - left)).float()
        part = canvas[:, top:bottom, left:right]
        part.copy_(torch.maximum(part, back))
    canvas[canvas == -torch.inf] = 0
    fcn = NetworkSegmenter(whole.build()).scores(x[None])[0]
    expected = (canvas.clamp_min(0) * fcn.clamp_min(0)).softmax(0)
    np.testing.assert_allclose(product, expected.numpy(), atol=1e-5)
    assert not np.allclose(product, probs(Predictor([boxed, whole]), image), atol=1e-2)


def test_a_saved_ensemble_is_what_it_was(tmp_path):
    boxed, whole, image = bundle(0, inference=InferenceSettings.from_stored({"proposals": FEW})), bundle(1), make_image()
    together = Ensemble.of([boxed, whole], inference=InferenceSettings.from_stored({"combine": "product", "crf": {"iterations": 2}}))
    place = together.save(tmp_path / "both")
    live = Predictor([boxed, whole], combine="product", crf={"iterations": 2})
    saved = Predictor(place)
    assert saved.settings == live.settings
    np.testing.assert_array_equal(probs(saved, image), probs(live, image))
    assert saved.source == str(place)


def test_mirrored_looks_are_within_the_boxes():
    one, image = bundle(), make_image()
    score = NetworkSegmenter(one.build()).scores
    boxes = SlidingWindows()(image).best(3)

    def both(x):
        return (score(x) + score(x.flip(-1)).flip(-1)) / 2

    expected = over_boxes(both, image_to_tensor(image), boxes, ProposalSettings(crop_side=32)).numpy()
    np.testing.assert_allclose(probs(Predictor(one, proposals=FEW, flips=True), image), expected, atol=1e-6)


def test_whole_images_beside_proposals_may_be_cut_into_tiles():
    boxed = bundle(0, inference=InferenceSettings.from_stored({"proposals": FEW}))
    arguments = {"backbone": "vgg16", "width": 1 / 64}
    torch.manual_seed(1)
    fcn = Bundle.of("fcn32s", arguments, create_model("fcn32s", num_classes=3, **arguments), LABELS)
    image = make_image((300, 420))
    tiled, whole = (probs(Predictor([boxed, fcn], tile=tile), image) for tile in (64, "whole"))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_crf_comes_last():
    one, image = bundle(inference=InferenceSettings.from_stored({"proposals": FEW})), make_image()
    compared = Predictor(one, crf=True).compare(image)
    np.testing.assert_array_equal(compared.before.label_map, by_hand(one, image).argmax(0))
    np.testing.assert_array_equal(compared.after.label_map, Predictor(one, crf=True).predict(image).label_map)


def test_a_image_without_proposals_is_looked_at_whole_and_that_is_said():
    image = np.full((40, 56, 3), 90, np.uint8)
    predictor = Predictor(bundle(), proposals={"crop_side": 32})
    prediction = predictor.predict(image, probs=True)
    assert prediction.warnings == (NO_PROPOSALS,)
    whole = over_boxes(
        NetworkSegmenter(bundle().build()).scores, image_to_tensor(image), Boxes([[0, 0, 56, 40]]), ProposalSettings(crop_side=32)
    )
    np.testing.assert_allclose(prediction.probs, whole.numpy(), atol=1e-6)
    assert predictor.predict(make_image()).warnings == () or predictor.predict(make_image()).warnings == (NO_PROPOSALS,)
    assert Predictor(bundle(), proposals={"proposer": "windows", "crop_side": 32}).predict(image).warnings == ()
    assert Predictor(bundle(), proposals={"crop_side": 32}, crf=True).compare(image).after.warnings == (NO_PROPOSALS,)


def test_boxes_are_kept_for_the_next_time(cache):
    image = make_image()
    predictor = Predictor(bundle(), proposals=FEW)
    first = probs(predictor, image)
    assert len(list((cache / "proposals").iterdir())) == 1
    np.testing.assert_array_equal(probs(predictor, image), first)
    assert len(list((cache / "proposals").iterdir())) == 1


def test_boxes_of_a_file_are_taken_by_the_images_name(tmp_path, cache):
    one, image = bundle(), make_image()
    corners = [[0, 0, 30, 20], [10, 10, 56, 40]]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"street/a": {"size": [40, 56], "boxes": corners}, "b": {"size": [40, 57], "boxes": []}}))
    predictor = Predictor(one, proposals=FEW | {"enlarge": 1.2}, boxes=file)
    expected = over_boxes(
        NetworkSegmenter(one.build()).scores, image_to_tensor(image), enlarge_boxes(Boxes(corners), 1.2), ProposalSettings(crop_side=32)
    )
    np.testing.assert_allclose(probs(predictor, image, name="street/a"), expected.numpy(), atol=1e-6)
    assert not cache.exists()
    for name, said in (("c", "holds no boxes for 'c'"), ("b", "for an image of \\[40, 57\\]"), ("", "found by an image's name")):
        with pytest.raises((DataError, RecipeError), match=said):
            predictor.predict(image, name=name)


def test_the_proposer_is_made_with_its_settings():
    own = {"candidates": 300, "alpha": 0.5, "beta": 0.75, "min_area": 40.0}
    predictor = Predictor(nn.Conv2d(3, 2, 1), labels=["a", "b"], proposals=FEW | own | {"proposer": "edge-boxes"})
    assert predictor.proposer(predictor.settings.proposals).proposer == EdgeBoxes(300, 0.5, 0.75, 40.0)
    assert ProposalSettings().proposer_settings() == {"max_proposals": 2000, "alpha": 0.65, "beta": 0.6, "min_area": 0.002}
    assert create_proposer("edge-boxes", **ProposalSettings().proposer_settings()) == EdgeBoxes()


def test_ones_own_proposer_is_taken():
    one, image = bundle(), make_image()
    predictor = Predictor(one, proposals=FEW, propose=lambda image: Boxes([[3, 4, 40, 30]]))
    expected = over_boxes(
        NetworkSegmenter(one.build()).scores, image_to_tensor(image), Boxes([[3, 4, 40, 30]]), ProposalSettings(crop_side=32)
    )
    np.testing.assert_allclose(probs(predictor, image), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"proposals": 0}, "'proposals.max_proposals': found 0"),
        ({"proposals": {"max_proposals": 1.5}}, "'proposals.max_proposals': found 1.5"),
        ({"proposals": {"aggregate": "median"}}, "'proposals.aggregate': found 'median'"),
        ({"proposals": {"proposer": "magic"}}, "'proposals.proposer': found 'magic'"),
        ({"proposals": {"enlarge": float("nan")}}, "'proposals.enlarge': found nan"),
        ({"proposals": {"crop_side": 0}}, "'proposals.crop_side': found 0"),
        ({"proposals": {"number": 3}}, "'proposals.number'"),
        ({"proposals": "many"}, "'proposals': found 'many'"),
        ({"combine": "max"}, "'combine': found 'max'"),
        ({"boxes": "nowhere.json"}, "no network that uses proposals"),
        ({"boxes": "nowhere.json", "proposals": 3}, "nowhere.json: cannot be read as boxes"),
        ({"boxes": "a", "propose": SlidingWindows(), "proposals": 3}, "leave all but one out"),
        ({"edges": "a", "propose": SlidingWindows(), "proposals": 3}, "leave all but one out"),
        ({"edges": "nowhere.yml"}, "no network that uses proposals"),
        ({"edges": "nowhere.yml", "proposals": 3}, "nowhere.yml: no such file"),
        ({"edges": "nowhere.yml", "proposals": {"proposer": "windows"}}, "which uses no edges"),
        ({"preset": "edeconvnet-relase"}, "no preset 'edeconvnet-relase'.*edeconvnet-release"),
        ({"proposals": {"proposer": "windows", "beta": 0.9}}, "found beta 0.9 for boxes by windows, which has none"),
        ({"proposals": {"crop_side": 4096}}, "'proposals.crop_side': found 4096"),
        (
            {"proposals": {"crop_side": 1024, "batch_size": 8}},
            "'proposals': found batches of 8 crops of 1024×1024 .* a batch_size of at most 4",
        ),
        (
            {"proposals": {"crop_side": 1024, "batch_size": 4, "max_proposals": 2000}},
            "found 2000 crops of 1024×1024 .* at most 1024 proposals",
        ),
        ({"proposals": {}, "scales": (1, 8)}, "found batches of 8 crops of 224×224 pixels at scale 8.* a batch_size of at most 1"),
        (
            {"proposals": {"crop_side": 2048, "batch_size": 1}, "scales": (4,)},
            "at scale 4.* a batch_size of 1 and a crop_side of at most 512",
        ),
    ],
)
def test_bad_settings_are_one_line(values, said):
    with pytest.raises((RecipeError, DataError), match=said) as caught:
        Predictor(bundle(), **values)
    assert "\n" not in str(caught.value)


def test_a_bundle_with_impossible_proposals_is_refused():
    with pytest.raises(BundleError, match="inference settings cannot be used"):
        InferenceSettings.from_stored({"proposals": {"max_proposals": -1}})
    with pytest.raises(BundleError, match="inference settings cannot be used"):
        InferenceSettings.from_stored({"proposals": {"model": "/etc/passwd"}})


def test_different_classes_are_refused():
    with pytest.raises(BundleError, match="classes differ"):
        Predictor([bundle(), bundle(labels=LabelSpace(("ground", "cat", "cow")))])


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_side": 1024, "batch_size": 4, "max_proposals": 1024},
        {"crop_side": 2048, "batch_size": 1},
        {"crop_side": 64, "batch_size": 1024},
    ],
)
def test_what_the_errors_say_to_use_is_taken(settings):
    assert Predictor(bundle(), proposals=settings).settings.proposals.crop_side == settings["crop_side"]
    assert Predictor(bundle(), proposals={"crop_side": 512, "batch_size": 1}, scales=(4,)).settings.scales == (4,)


def test_a_member_whose_boxes_the_others_scales_make_too_large_is_refused():
    zoomed = replace(bundle(), inference=InferenceSettings.from_stored({"scales": (8,)}))
    large = replace(bundle(1), inference=InferenceSettings.from_stored({"proposals": {"crop_side": 512}}))
    with pytest.raises(RecipeError, match="found batches of 8 crops of 512×512 pixels at scale 8"):
        Predictor([zoomed, large])


def test_an_image_too_large_for_its_canvas_is_refused_before_it_is_searched(monkeypatch):
    def never(image):
        raise AssertionError("searched")

    large = np.broadcast_to(np.uint8(3), (12_000, 9_000, 3))  # a few real bytes
    with pytest.raises(
        DataError, match=r"found an image of 12000×9000 pixels and 3 classes, expected at most 89478485 pixels.*--no-proposals"
    ):
        Predictor(bundle(), proposals={"crop_side": 32}, propose=never).predict(large)
    monkeypatch.setattr("upscore.inference.proposal_aggregation.MAX_CANVAS_VALUES", 3 * 40 * 56)
    assert Predictor(bundle(), proposals={"crop_side": 32, "proposer": "windows"}).predict(make_image()).label_map.shape == (40, 56)
    with pytest.raises(DataError, match="and 4 classes, expected at most 1680 pixels"):
        over_boxes(
            lambda x: x[:, :2].repeat(1, 2, 1, 1), image_to_tensor(make_image()), Boxes([[0, 0, 9, 9]]), ProposalSettings(crop_side=8)
        )
