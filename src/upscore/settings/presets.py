"""Inference settings under one name, as a paper or its authors' release has them; single settings beside a preset take precedence.

>>> overrides = with_preset("edeconvnet-release", {"proposals": 20, "crf": {"iterations": 5}})
>>> overrides["proposals"]["max_proposals"], overrides["proposals"]["min_size"], overrides["crf"]["iterations"]
(20, 112, 5)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upscore.errors import RecipeError, nearest_name

__all__ = ["PRESETS", "Preset", "with_preset"]


@dataclass(frozen=True)
class Preset:
    """Settings that belong together."""

    name: str
    description: str  #: one clause, for the help
    source: str  #: where the values were read
    values: Mapping[str, Any]  #: as :meth:`upscore.settings.InferenceSettings.with_overrides` takes them


# The boxes of both: found by EdgeBoxes with its authors' values, since the settings of the boxes that the release reads are not published.
_BOXES = {
    "proposer": "edge-boxes", "candidates": 2000, "alpha": 0.65, "beta": 0.75, "min_area": 1000.0,
    "max_proposals": 50, "enlarge": 1.2, "aggregate": "max", "clip": True, "crop_side": 224,
}  # fmt: skip

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "edeconvnet-paper",
            "DeconvNet over 50 of 2000 edge boxes, averaged with FCN-8s by probability; the CRF's numbers are not in the paper",
            "Noh, Hong, Han, ICCV 2015, §5.1 (equation 1, whose zeros outside a box count) and §5.2; Zitnick, Dollár, ECCV 2014",
            {"proposals": _BOXES | {"min_size": 1}, "combine": "mean"},
        ),
        Preset(
            "edeconvnet-release",
            "as the authors' code: enlarged boxes of 112 pixels and more, scores multiplied with those of FCN-8s, and their CRF",
            "generate_EDeconvNet_CRF_results.m of HyeonwooNoh/DeconvNet; Densecrf.m of johannesu/meanfield-matlab for the normalization",
            {
                "proposals": _BOXES | {"min_size": 112},
                "combine": "product",
                "crf": {
                    "enabled": True, "iterations": 10, "gaussian_sigma": 3.0, "gaussian_weight": 3.0,
                    "bilateral_sigma": 20.0, "bilateral_sigma_colour": 3.0, "bilateral_weight": 5.0, "normalization": "none",
                },
            },
        ),
    )
}  # fmt: skip
"""By name; ``--preset`` and ``Predictor(preset=…)`` take one."""


def with_preset(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset with ``overrides`` in place of some, for :meth:`~upscore.settings.InferenceSettings.with_overrides`.

    An override of a section changes what it names in it: a mapping, or a number of proposals. False switches the section off, and other
    values replace it. RecipeError where there is no preset of that name.
    """
    if name not in PRESETS:
        raise RecipeError(f"no preset '{name}'{nearest_name(name, list(PRESETS))}: expected one of {', '.join(PRESETS)}")
    values = dict(PRESETS[name].values)
    for setting, given in overrides.items():
        section = values.get(setting)
        if given is None or (given is True and isinstance(section, Mapping)):
            continue
        if setting == "proposals" and isinstance(given, int) and given is not False:
            given = {"max_proposals": given}
        values[setting] = {**section, **given} if isinstance(section, Mapping) and isinstance(given, Mapping) else given
    return values
