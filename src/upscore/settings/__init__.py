"""The settings that bundles, recipes and flags share, as typed values: every name, range and default of them stands here once.

::

    bundle.json, ensemble.json ── from_stored ──┐
    preset, flags, keywords ─── with_overrides ─┴─► InferenceSettings ── model_dump(mode="json") ──► JSON

>>> settings = InferenceSettings(flips=True).with_overrides(crf=True, proposals=20)
>>> settings.crf.iterations, settings.proposals.max_proposals
(5, 20)
"""

from upscore.settings.crf import CRFSettings
from upscore.settings.inference import Combine, InferenceSettings, Precision
from upscore.settings.presets import PRESETS, Preset, with_preset
from upscore.settings.proposals import Aggregate, ProposalSettings, ProposerName

__all__ = [
    "PRESETS",
    "Aggregate",
    "CRFSettings",
    "Combine",
    "InferenceSettings",
    "Precision",
    "Preset",
    "ProposalSettings",
    "ProposerName",
    "with_preset",
]
