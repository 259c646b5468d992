"""The settings of proposals: stored, overridden, and bounded by what the network would see of an image."""

import pytest

from upscore.errors import BundleError, RecipeError
from upscore.settings import InferenceSettings, ProposalSettings

STORED = InferenceSettings(proposals=ProposalSettings(max_proposals=7, aggregate="mean"))


@pytest.mark.parametrize(
    ("override", "from_none", "from_stored"),
    [
        (None, None, (7, "mean")),
        (True, (50, "max"), (7, "mean")),
        (False, None, None),
        (3, (3, "max"), (3, "mean")),
        ({"aggregate": "max"}, (50, "max"), (7, "max")),
        (ProposalSettings(max_proposals=9), (9, "max"), (9, "max")),
    ],
)
def test_an_override_changes_what_it_names(override, from_none, from_stored):
    for settings, expected in ((InferenceSettings(), from_none), (STORED, from_stored)):
        found = settings.with_overrides(proposals=override).proposals
        assert (found and (found.max_proposals, found.aggregate)) == expected


@pytest.mark.parametrize("scales", [(1, 8), (8, 1), (0.5, 8)])
def test_the_largest_scale_bounds_a_batch(scales):
    few = {"batch_size": 1, "max_proposals": 1, "crop_side": 256}
    assert InferenceSettings().with_overrides(scales=scales, proposals=few).scales == scales
    for change in ({"batch_size": 8}, {"max_proposals": 10_000}, {"crop_side": 2048}):
        assert InferenceSettings().with_overrides(proposals=few | change).scales == (1,)
        with pytest.raises(RecipeError, match="at scale 8, more than"):
            InferenceSettings().with_overrides(scales=scales, proposals=few | change)
        with pytest.raises(BundleError, match="at scale 8, more than"):
            InferenceSettings.from_stored({"scales": list(scales), "proposals": few | change})
