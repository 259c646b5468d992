"""What an objective is made of, and what it refuses."""

from dataclasses import fields
from inspect import signature

import pytest
import torch

from upscore.errors import RecipeError
from upscore.losses import LOSSES, Objective, dice_loss, focal_loss, hard_pixel_cross_entropy, pixel_cross_entropy


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (2, 6, 7), generator=generator)
    labels[:, 0] = 255
    return torch.randn(2, 3, 6, 7, generator=generator), labels


def test_it_is_cross_entropy_unless_told_otherwise(batch):
    assert Objective()(*batch) == pixel_cross_entropy(*batch)


def test_settings_reach_their_terms(batch):
    weights, pixels = torch.tensor([1.0, 2.0, 3.0]), torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(1))
    objective = Objective(
        {"focal": 2.0, "ohem": 0.5, "dice": 3.0},
        class_weights=weights,
        sampling=0.5,
        focal_gamma=1.5,
        ohem_fraction=0.1,
        ohem_threshold=0.3,
    )
    both = {"class_weights": weights, "pixel_weights": pixels}
    expected = (
        2.0 * focal_loss(*batch, gamma=1.5, sampling=0.5, generator=torch.Generator().manual_seed(3), **both)
        + 0.5 * hard_pixel_cross_entropy(*batch, fraction=0.1, threshold=0.3, **both)
        + 3.0 * dice_loss(*batch)
    )
    torch.testing.assert_close(objective(*batch, pixel_weights=pixels, generator=torch.Generator().manual_seed(3)), expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"terms": {}}, "no loss terms"),
        ({"terms": {"dise": 1.0}}, "did you mean 'dice'"),
        ({"terms": {"dice": 0.0}}, "expected above 0"),
        ({"terms": {"dice": float("nan")}}, "expected above 0"),
        ({"terms": {"dice": 1.0}, "sampling": 0.5}, "no loss term that reads it: add one of cross_entropy, focal, or"),
        ({"terms": {"focal": 1.0}, "label_smoothing": 0.1}, "label smoothing but no loss term that reads it: add one of cross_entropy, or"),
        ({"terms": {"dice": 1.0}, "focal_gamma": 1.0}, "focal gamma but no loss term that reads it: add one of focal, or"),
        ({"terms": {"focal": 1.0}, "ohem_threshold": 0.5}, "ohem threshold but no loss term that reads it: add one of ohem, or"),
        (
            {"terms": {"lovasz": 1.0}, "class_weights": torch.ones(3)},
            "no loss term that reads it: add one of cross_entropy, focal, ohem, or",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(settings, words):
    with pytest.raises(RecipeError, match=words) as caught:
        Objective(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("term", "setting", "words"),
    [
        ("focal", {"focal_gamma": -1.0}, "focal gamma"),
        ("ohem", {"ohem_fraction": 0.0}, "OHEM fraction"),
        ("ohem", {"ohem_threshold": 1.0}, "threshold"),
        ("cross_entropy", {"sampling": 0.0}, "sampling"),
        *(("cross_entropy", {"label_smoothing": wrong}, "label smoothing") for wrong in (-0.1, 1.0, float("nan"))),
    ],
)
def test_parameters_out_of_range_are_refused(batch, term, setting, words):
    with pytest.raises(RecipeError, match=words):
        Objective({term: 1.0}, **setting)(*batch)


def test_label_smoothing_reaches_cross_entropy_alone(batch):
    smoothed = Objective({"cross_entropy": 2.0, "focal": 1.0}, label_smoothing=0.3)(*batch)
    torch.testing.assert_close(smoothed, 2 * pixel_cross_entropy(*batch, label_smoothing=0.3) + focal_loss(*batch))


def test_each_record_names_its_function_and_what_it_reads(batch):
    settings = {field.name for field in fields(Objective)} - {"terms"}
    for name, loss in LOSSES.items():
        keywords = signature(loss.function).parameters
        assert loss.name == name
        assert loss.description
        assert loss.paper
        assert set(loss.settings) <= settings
        assert set(loss.settings.values()) <= set(keywords)
        assert set(keywords) - {"logits", "labels", "pixel_weights", "generator"} == set(loss.settings.values())
        assert ("pixel_weights" in keywords, "generator" in keywords) == ("class_weights" in loss.settings, "sampling" in loss.settings)
    assert settings == {setting for loss in LOSSES.values() for setting in loss.settings}
