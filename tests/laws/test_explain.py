"""Explanations do not contradict the networks: fields end where they must, and terms add up to the logits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upscore.explain.receptive_fields import effective_receptive_fields, theoretical_receptive_field, theoretical_side
from upscore.explain.skip_contributions import accumulate_terms, predict_by_skips, split_logits
from upscore.models.factory import create_model

SMALL = {
    "fcn32s": {"width": 1 / 64},
    "fcn16s": {"width": 1 / 64},
    "fcn8s": {"width": 1 / 64},
    "fcn32s-late": {"width": 1 / 64},
    "segnet": {"width": 1 / 64},
    "segnet-basic": {"width": 1 / 32},
    "deconvnet": {"width": 1 / 64},
    "unet": {"width": 1 / 64},
    "unet-backbone": {"width": 1 / 64, "channels": 1},
}


def positive(name: str, arguments: dict[str, object]) -> nn.Module:
    """Return a network all of whose weights are above 0, so that nothing that is seen cancels out."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, **arguments).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand_like(parameter) / parameter[0].numel() if parameter.ndim > 1 else torch.ones_like(parameter))
    return model.eval()


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=2)
@given(data=st.data())
def test_nothing_outside_the_theoretical_receptive_field_changes_a_score(name: str, data: st.DataObject) -> None:
    model = positive(name, SMALL[name])
    column, beyond = data.draw(st.integers(0, 70)), 40
    width = column + int(theoretical_side(model)) // 2 + 1 + beyond
    images = torch.rand(1, 3, 12, width, dtype=torch.float64)
    field = effective_receptive_fields(model, images, [(5, column)])[0]
    inside = np.zeros_like(field, bool)
    inside[theoretical_receptive_field(model, (5, column), (12, width)).slices] = True
    assert not inside[:, -beyond:].any()
    assert not field[~inside].any()
    assert field[inside].any()


def test_an_fcns_theoretical_receptive_field_is_reached() -> None:
    model = positive("fcn16s", SMALL["fcn16s"])
    images = torch.rand(1, 3, 12, 400, dtype=torch.float64)
    reach = [
        int(np.nonzero(effective_receptive_fields(model, images, [(5, column)])[0].sum(0))[0].max()) - column for column in range(0, 32, 4)
    ]
    assert theoretical_side(model) // 2 - 4 < max(reach) <= theoretical_side(model) // 2


FCNS = [
    ("fcn32s", {"width": 1 / 32}),
    ("fcn16s", {"width": 1 / 32, "upsampling": "learned"}),
    ("fcn8s", {"width": 1 / 32}),
    ("fcn8s-atonce", {"width": 1 / 32}),
    ("fcn8s", {"width": 1 / 32, "padding": 1}),
]


def scoring(name: str, arguments: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, **arguments).double()
    for layer, part in model.decoder.named_children():
        if layer.startswith("score"):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return model.eval()


@pytest.mark.parametrize(("name", "arguments"), FCNS)
@torch.no_grad()
def test_the_terms_of_an_fcn_add_up_to_its_logits(name: str, arguments: dict[str, object]) -> None:
    model, images = scoring(name, arguments), torch.rand(2, 3, 37, 50, dtype=torch.float64)
    terms = split_logits(model, images)
    assert len(terms) == {"32": 1, "16": 2, "8s": 3}[name[3:5]]
    assert all(term.abs().max() > 0 for term in terms.values())
    sums = accumulate_terms(terms)
    torch.testing.assert_close(list(sums.values())[-1], model(images))
    # The sums before the last are the networks whose finer score layers say nothing.
    for layer in ("score_pool3", "score_pool4"):
        if layer in terms:
            nn.init.zeros_(model.decoder.get_submodule(layer).weight)
            nn.init.zeros_(model.decoder.get_submodule(layer).bias)
            named = [prediction for prediction in sums if prediction != f"+ {layer.removeprefix('score_')}"]
            sums = {prediction: sums[prediction] for prediction in named}
            torch.testing.assert_close(sums[named[-1]], model(images))


@torch.no_grad()
def test_skip_predictions_show_what_changed() -> None:
    model, images = scoring("fcn8s", {"width": 1 / 32}), torch.rand(1, 3, 37, 50, dtype=torch.float64)
    predictions = predict_by_skips(model, images)
    assert [prediction.name for prediction in predictions] == ["32s", "+ pool4", "+ pool3"]
    np.testing.assert_array_equal(predictions[-1].label_map, model(images)[0].argmax(0).numpy())
    assert not predictions[0].changed.any()
    for before, after in itertools.pairwise(predictions):
        np.testing.assert_array_equal(after.changed, before.label_map != after.label_map)
    np.testing.assert_allclose(predictions[-1].confidence, model(images).softmax(1)[0].max(0).values.numpy(), rtol=1e-6)


def test_networks_without_terms_have_none_and_keep_no_hooks() -> None:
    assert split_logits(create_model("segnet", num_classes=2, width=1 / 64), torch.rand(1, 3, 9, 9)) == {}
    model = scoring("fcn8s", {"width": 1 / 32}).train()
    split_logits(model, torch.rand(1, 3, 9, 9, dtype=torch.float64))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training
