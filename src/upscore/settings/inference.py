"""How a network labels images: a value, stored in its bundle and overridden by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from upscore.errors import BundleError, RecipeError, nearest_name
from upscore.settings.crf import CRFSettings
from upscore.settings.proposals import ProposalSettings
from upscore.settings.scales import MAX_SCALES, scale_fractions
from upscore.text import literal

__all__ = ["MAX_TILE", "Combine", "InferenceSettings", "Precision"]

Precision: TypeAlias = Literal["fp32", "bf16"]
"""How a network computes; probabilities are float32 either way."""

Combine: TypeAlias = Literal["mean", "product"]
"""How an ensemble's networks are combined: the mean of their probabilities, or the softmax of the product of their scores."""

MAX_TILE = 65536
"""Pixels: the longest side of a tile, and its widest margin."""


class InferenceSettings(BaseModel):
    """How a network labels images; stored in its bundle, overridden by keyword.

    Parameters
    ----------
    tile : "auto", "whole" or int
        ``"auto"`` labels small images whole and larger ones in tiles (the limits are
        ``upscore.inference.tile_choice.WHOLE_PIXELS``); ``"whole"`` never tiles; a number is the side of a tile in
        pixels, 1 to 65536, rounded up to the network's stride.
        A network with an unbounded receptive field (squeeze-and-excitation, attention, global pooling) gets
        overlapping tiles, which are blended: the result is near that of the whole image, with a
        warning (:mod:`upscore.inference.blended_tiles`). Their side is at least 256 pixels.
    margin : int, optional
        Context around a tile in pixels, 0 to 65536. The network's own when not given, with which tiles
        equal the whole image; less is faster and only nearly equal. A network with an unbounded receptive field
        has none of its own; with a given one its tiles are not blended.
    proposals : ProposalSettings, optional
        Label the image by its object proposals. As an override also their number, True (as
        stored, or the defaults), False, or a mapping of the settings to change. In an ensemble
        each network has its own: see :meth:`upscore.models.ensemble.Ensemble.resolve_settings`.
    crf : CRFSettings, optional
        Refine the probabilities last. As an override also True (as stored, or the defaults),
        False, or a mapping of the settings to change, which enables it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    tile: Literal["auto", "whole"] | int = "auto"
    margin: int | None = Field(default=None, ge=0, le=MAX_TILE)
    flips: bool = False  #: average with the mirrored image; twice the time
    rotations: bool = False  #: average over the four quarter turns, with flips over the eight symmetries of the square; four times the time
    scales: Annotated[tuple[float, ...], Field(max_length=MAX_SCALES)] = (1.0,)  #: sizes of the image to average over
    precision: Precision = "fp32"
    proposals: ProposalSettings | None = None
    combine: Combine = "mean"
    crf: CRFSettings | None = None

    @property
    def uses_crf(self) -> bool:
        """Whether the CRF refines the probabilities."""
        return self.crf is not None and self.crf.enabled

    @field_validator("tile")
    @classmethod
    def _check_tile(cls, tile: str | int) -> str | int:
        if isinstance(tile, int) and not 1 <= tile <= MAX_TILE:
            raise ValueError(f"expected 'auto', 'whole' or a side from 1 to {MAX_TILE} pixels")
        return tile

    @field_validator("scales")
    @classmethod
    def _check_scales(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        scale_fractions(scales)
        return scales

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        if self.proposals is not None:
            self.proposals.check_pixels(max_scale=max(self.scales))
        return self

    @classmethod
    def from_stored(cls, values: Mapping[str, object]) -> Self:
        """Return the settings that a bundle or an ensemble stores; raises BundleError where a setting is unknown or impossible.

        >>> InferenceSettings.from_stored({"tile": 512}).tile
        512
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise BundleError(f"the inference settings cannot be used: {_first_error(error)}") from None

    def with_overrides(self, **overrides: object) -> Self:
        """Return these settings with ``overrides`` in place of some of them.

        Overrides that are None change nothing, so that flags which were not given can be passed on. Raises RecipeError where an
        override is unknown or impossible.

        >>> InferenceSettings(flips=True).with_overrides(tile=None, proposals={"min_size": 112}).proposals.min_size
        112
        """
        known = list(type(self).model_fields)
        if unknown := next((name for name in overrides if name not in known), None):
            raise RecipeError(f"unknown inference setting '{unknown}'{nearest_name(unknown, known)}: expected one of {', '.join(known)}")
        changes = {name: value for name, value in overrides.items() if value is not None}
        if "crf" in changes:
            changes["crf"] = _changed_crf(self.crf, changes["crf"])
        if "proposals" in changes:
            changes["proposals"] = _changed_proposals(self.proposals, changes["proposals"])
        try:
            return self.model_validate({name: getattr(self, name) for name in known} | changes)
        except ValidationError as error:
            raise RecipeError(_first_error(error)) from None


def _changed_crf(stored: CRFSettings | None, change: object) -> object:
    """Return the CRF's settings, as values yet to be checked, after an override."""
    if isinstance(change, bool):
        return (stored or CRFSettings()).model_copy(update={"enabled": change}) if stored or change else None
    if isinstance(change, Mapping):
        return dict(stored or CRFSettings()) | {"enabled": True} | dict(change)
    return change


def _changed_proposals(stored: ProposalSettings | None, change: object) -> object:
    """Return the settings of proposals, as values yet to be checked, after an override."""
    if isinstance(change, bool):
        return (stored or ProposalSettings()) if change else None
    if isinstance(change, int):
        change = {"max_proposals": change}
    if isinstance(change, Mapping):
        return dict(stored or ProposalSettings()) | dict(change)
    return change


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    # The rest of tile's location is pydantic's names of types; that of crf and proposals is the setting.
    depth = 2 if first["loc"][:1] in (("crf",), ("proposals",)) else 1
    name = ".".join(str(part) for part in first["loc"][:depth]) or "inference"
    reason = first["msg"].removeprefix("Value error, ")
    return f"inference setting '{name}': " + (reason if reason.startswith("found ") else f"found {literal(first['input'], 80)}, {reason}")
