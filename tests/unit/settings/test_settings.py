"""The settings of the CRF: stored, switched, changed and refused."""

import json
from typing import get_args

import pytest

from upscore.crf import Bilateral, DenseCRF, Gaussian, engines, kernels
from upscore.errors import BundleError, RecipeError
from upscore.settings import CRFSettings, InferenceSettings
from upscore.settings.crf import EngineName, Normalization

TUNED = {"enabled": False, "iterations": 4, "bilateral_sigma": 40.0}


def test_the_defaults_are_the_usual_numbers():
    dense = CRFSettings().build()
    assert dense.kernels == (Gaussian(3.0, 3.0), Bilateral(80.0, 13.0, 10.0)) == tuple(DenseCRF().kernels)
    assert dense.iterations == 5


def test_normalization_and_engine_reach_the_crf():
    for normalization in get_args(Normalization):
        kernels = CRFSettings(normalization=normalization).build().kernels
        assert [kernel.normalization for kernel in kernels] == [normalization] * 2
    dense = CRFSettings(engine="torch_exact", device="cpu").build()
    assert (dense.engine, dense.threads, dense.device) == ("torch_exact", None, "cpu")
    assert CRFSettings(threads=3).build().threads == 3


def test_the_names_are_those_of_the_crf():
    assert get_args(EngineName) == get_args(engines.EngineName)
    assert get_args(Normalization) == get_args(kernels.Normalization)


def test_a_kernel_of_no_weight_is_left_out():
    assert CRFSettings(gaussian_weight=0).build().kernels == (Bilateral(),)
    assert CRFSettings(gaussian_weight=0, bilateral_weight=0).build().kernels == ()


def test_a_bundle_from_before_the_crf_has_none():
    settings = InferenceSettings.from_stored({"tile": 64, "flips": True})
    assert settings.crf is None
    assert not settings.uses_crf


def test_they_survive_a_bundle():
    settings = InferenceSettings(crf=CRFSettings(**TUNED))
    assert InferenceSettings.from_stored(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings
    assert not settings.uses_crf


@pytest.mark.parametrize("stored", [{}, {"crf": TUNED}, {"crf": TUNED | {"enabled": True}}])
def test_on_off_and_silence(stored):
    kept = CRFSettings(**stored.get("crf", {}))
    assert InferenceSettings.from_stored(stored).with_overrides(crf=True).crf == kept.model_copy(update={"enabled": True})
    assert not InferenceSettings.from_stored(stored).with_overrides(crf=False).uses_crf
    assert InferenceSettings.from_stored(stored).with_overrides(crf=None) == InferenceSettings.from_stored(stored)
    assert InferenceSettings.from_stored(stored).with_overrides(flips=True).crf == InferenceSettings.from_stored(stored).crf


def test_single_numbers_are_changed_and_switch_it_on():
    changed = InferenceSettings.from_stored({"crf": TUNED}).with_overrides(crf={"iterations": 7}).crf
    assert changed == CRFSettings(iterations=7, bilateral_sigma=40)
    assert InferenceSettings.from_stored({"crf": TUNED}).with_overrides(crf={"enabled": False, "iterations": 7}).crf.enabled is False
    assert InferenceSettings.from_stored({"crf": TUNED}).with_overrides(crf=CRFSettings()).crf == CRFSettings()


IMPOSSIBLE = [
    ({"iterations": 10**9}, "crf.iterations"),
    ({"iterations": 0}, "crf.iterations"),
    ({"bilateral_sigma": -1.0}, "crf.bilateral_sigma"),
    ({"bilateral_sigma_colour": float("nan")}, "crf.bilateral_sigma_colour"),
    ({"gaussian_sigma": float("inf")}, "crf.gaussian_sigma"),
    ({"gaussian_weight": -0.1}, "crf.gaussian_weight"),
    ({"bilateral_weight": 1e30}, "crf.bilateral_weight"),
    ({"engine": "exact"}, "crf.engine"),
    ({"normalization": "rows"}, "crf.normalization"),
    ({"threads": 0}, "crf.threads"),
    ({"threads": 65}, "crf.threads"),
    ({"engine": "torch_exact", "device": "tpu"}, "crf.device"),
    ({"device": "cuda"}, "found device 'cuda' for engine 'lattice'"),
    ({"enabled": "perhaps"}, "crf.enabled"),
]


@pytest.mark.parametrize(("values", "place"), IMPOSSIBLE)
def test_impossible_numbers_are_refused_in_bundles_and_overrides(values, place):
    with pytest.raises(BundleError, match=place) as stored:
        InferenceSettings.from_stored({"crf": values})
    with pytest.raises(RecipeError, match=place) as given:
        InferenceSettings().with_overrides(crf=values)
    assert "\n" not in str(stored.value) + str(given.value)


@pytest.mark.parametrize("value", ["yes", 3, [1]])
def test_other_values_are_refused(value):
    with pytest.raises(BundleError, match="crf"):
        InferenceSettings.from_stored({"crf": value})
    with pytest.raises(RecipeError, match="crf"):
        InferenceSettings().with_overrides(crf=value)


def test_they_say_themselves_in_words():
    assert str(CRFSettings(iterations=1, bilateral_sigma=40)) == (
        "1 iteration; Gaussian sigma 3, weight 3; bilateral sigma 40, colour 13, weight 10"
    )
    assert str(CRFSettings(normalization="none")).endswith("weight 10; not normalized")
    assert str(CRFSettings(normalization="before", engine="torch_exact", device="cuda")).endswith(
        "; normalized before; torch_exact on cuda"
    )


@pytest.mark.parametrize("scales", [(100,), (0.01,), (float("nan"),), (1, 1), (), (2**0.5,), (1.05, 18 / 17, 14 / 13), (1.0,) * 17])
def test_scales_that_cannot_be_averaged_over_are_refused_where_they_are_set(scales):
    with pytest.raises(RecipeError, match="scales"):
        InferenceSettings().with_overrides(scales=scales)
    with pytest.raises(BundleError, match="scales"):
        InferenceSettings.from_stored({"scales": list(scales)})


def test_proposals_that_the_scales_make_too_large_are_refused_where_they_are_set():
    with pytest.raises(BundleError, match=r"found batches of 8 crops of 224×224 pixels at scale 8.* a batch_size of at most 1"):
        InferenceSettings.from_stored({"scales": [8], "proposals": {}})
    with pytest.raises(RecipeError, match=r"at scale 8"):
        InferenceSettings(scales=(8,)).with_overrides(proposals=True)
    with pytest.raises(RecipeError, match=r"at scale 8"):
        InferenceSettings().with_overrides(proposals=5, scales=(1, 8))


def test_an_override_of_none_changes_nothing_and_one_of_a_number_keeps_the_rest():
    settings = InferenceSettings(flips=True).with_overrides(proposals={"min_size": 112, "aggregate": "mean"})
    assert settings.with_overrides(tile=None, proposals=None) == settings
    assert settings.with_overrides(proposals=7).proposals == settings.proposals.model_copy(update={"max_proposals": 7})
    assert settings.with_overrides(proposals=True) == settings
    assert settings.with_overrides(proposals=False).proposals is None


def test_usual_scales_go_together():
    for scales in ((0.5, 0.75, 1, 1.25, 1.5, 1.75), (0.7, 1, 1.3), (1 / 3, 0.5, 0.8, 1), (0.95, 1.05), (0.1, 8)):
        assert InferenceSettings().with_overrides(scales=scales).scales == scales
