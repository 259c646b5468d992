"""How a network is used: a value, stored in its bundle and overridden by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from upscore.crf import Bilateral, DenseCRF, Gaussian
from upscore.errors import BundleError, RecipeError, nearest_name
from upscore.inference.averaging import check_scales
from upscore.inference.proposal_aggregation import Aggregate, check_work
from upscore.inference.segmenter import Precision
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble
from upscore.text import literal

__all__ = ["CRFSettings", "Combine", "InferenceSettings", "ProposalSettings", "settled"]

Sigma: TypeAlias = Annotated[float, Field(ge=0.5, le=1000)]
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1000)]


Combine: TypeAlias = Literal["mean", "product"]
"""How an ensemble's members are put together: the mean of their probabilities, or the product of their scores."""


class ProposalSettings(BaseModel):
    """How a network looks at an image object by object; see :func:`upscore.inference.proposal_aggregation.over_proposals`.

    Parameters
    ----------
    most : int
        How many of the best boxes are looked at, 1 to 10000.
    aggregate : {"max", "mean"}
        Greatest score over a pixel, or the mean of them.
    by : {"edge-boxes", "selective-search", "windows"}
        What finds the boxes.
    enlarge : float
        Sides of what is cut over those of the box, 1 to 10.
    least_side : int
        Boxes of which a side is shorter are passed over; DeconvNet's release has 112 pixels.
    clip : bool
        Count scores below zero as zero, as the release does.
    side, batch : int
        Height and width at which the network sees a box, 1 to 2048, and how many at a time, 1 to 1024; together
        they have limits that do not let memory or work run away (:func:`upscore.inference.proposal_aggregation.check_work`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    most: int = Field(default=50, ge=1, le=10_000)
    aggregate: Aggregate = "max"
    by: Literal["edge-boxes", "selective-search", "windows"] = "edge-boxes"
    enlarge: float = Field(default=1.2, ge=1, le=10)
    least_side: int = Field(default=1, ge=1, le=100_000)
    clip: bool = False
    side: int = Field(default=224, ge=1, le=2048)
    batch: int = Field(default=8, ge=1, le=1024)

    @model_validator(mode="after")
    def _check_work(self) -> ProposalSettings:
        check_work(most=self.most, side=self.side, batch=self.batch)
        return self


class CRFSettings(BaseModel):
    """How probabilities are refined by the fully connected CRF; see :class:`upscore.crf.DenseCRF`.

    Those who tune a network's CRF and find that it does not help keep what they found with ``on``
    false, and whoever asks for the CRF all the same gets those numbers.

    Parameters
    ----------
    on : bool
        Whether it is used.
    iterations : int
        Steps of mean field, 1 to 100.
    gaussian_sigma : float
        Within how many pixels neighbours agree, 0.5 to 1000.
    gaussian_weight : float
        What disagreement with them costs, 0 to 1000; 0 leaves this kernel out.
    bilateral_sigma : float
        Within how many pixels those of one colour agree, 0.5 to 1000.
    bilateral_sigma_colour : float
        How far apart colours of 0 to 255 may be for that, 0.5 to 1000.
    bilateral_weight : float
        What disagreement with them costs, 0 to 1000; 0 leaves this kernel out.

    The numbers not given are those that everyone begins with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    on: bool = True
    iterations: int = Field(default=5, ge=1, le=100)
    gaussian_sigma: Sigma = 3.0
    gaussian_weight: Weight = 3.0
    bilateral_sigma: Sigma = 80.0
    bilateral_sigma_colour: Sigma = 13.0
    bilateral_weight: Weight = 10.0

    def dense(self) -> DenseCRF:
        """Return the CRF that these settings describe."""
        smooth = Gaussian(sigma=self.gaussian_sigma, compatibility=self.gaussian_weight)
        alike = Bilateral(sigma=self.bilateral_sigma, sigma_colour=self.bilateral_sigma_colour, compatibility=self.bilateral_weight)
        kernels = ((smooth, self.gaussian_weight), (alike, self.bilateral_weight))
        return DenseCRF(kernels=tuple(kernel for kernel, weight in kernels if weight), iterations=self.iterations)

    def __str__(self) -> str:
        """Return the numbers in one line of words."""
        return (
            f"{self.iterations} iteration{'s' * (self.iterations > 1)}; "
            f"Gaussian sigma {self.gaussian_sigma:.3g}, weight {self.gaussian_weight:.3g}; "
            f"bilateral sigma {self.bilateral_sigma:.3g}, colour {self.bilateral_sigma_colour:.3g}, weight {self.bilateral_weight:.3g}"
        )


class InferenceSettings(BaseModel):
    """How a network is used; stored in its bundle, overridden by keyword.

    Parameters
    ----------
    tile : "auto", "whole" or int
        ``"auto"`` labels small images whole and larger ones in tiles (the limits are
        ``upscore.inference.predictor.WHOLE_PIXELS``); ``"whole"`` never cuts; a number is the side of a tile in
        pixels, rounded up to the network's stride.
        A network that looks at the whole image (squeeze-and-excitation, attention, global pooling) is shown
        overlapping tiles, which are blended: the result is near that of the whole image, and that is
        noted (:mod:`upscore.inference.blended_tiles`). Their side is at least 256 pixels.
    margin : int, optional
        Context around a tile in pixels. The network's own when not given, with which tiles
        equal the whole image; less is faster and only nearly equal. A network that looks at the whole
        image has none; given one, its tiles do not overlap otherwise.
    flips : bool
        Average with the mirror image; twice the time.
    scales : sequence of float
        Average over these sizes of the image, at most 16 of them (:func:`upscore.inference.averaging.check_scales`).
    precision : {"fp32", "bf16"}
        As in :class:`upscore.inference.segmenter.NetworkSegmenter`.
    proposals : ProposalSettings, optional
        Look at the image object by object. As an override also a number of boxes, True (as
        stored, or the usual numbers) or False, or a mapping of the numbers to change. In an ensemble
        each network has its own: see :class:`upscore.inference.predictor.Predictor`.
    combine : {"mean", "product"}
        How the networks of an ensemble are put together: the mean of their probabilities, or the
        softmax of the product of their scores.
    crf : CRFSettings, optional
        Refine the probabilities last. As an override also True (as stored, or the usual numbers)
        or False, or a mapping of the numbers to change, which switches it on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    tile: Literal["auto", "whole"] | int = "auto"
    margin: int | None = Field(default=None, ge=0, le=65536)
    flips: bool = False
    scales: tuple[float, ...] = Field(default=(1.0,), max_length=16)
    precision: Precision = "fp32"
    proposals: ProposalSettings | None = None
    combine: Combine = "mean"
    crf: CRFSettings | None = None

    @property
    def refines(self) -> bool:
        """Whether the CRF has the last word."""
        return self.crf is not None and self.crf.on

    @field_validator("tile")
    @classmethod
    def _check_tile(cls, tile: str | int) -> str | int:
        if isinstance(tile, int) and not 1 <= tile <= 65536:
            raise ValueError("expected 'auto', 'whole' or a side from 1 to 65536 pixels")
        return tile

    @field_validator("scales")
    @classmethod
    def _check_scales(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        check_scales(scales)
        return scales

    @model_validator(mode="after")
    def _check_work(self) -> InferenceSettings:
        if (boxes := self.proposals) is not None:
            check_work(most=boxes.most, side=boxes.side, batch=boxes.batch, zoom=max(self.scales))
        return self

    @classmethod
    def of(cls, stored: object = None, **overrides: object) -> InferenceSettings:
        """Return settings from what a bundle stores (a mapping, or settings) with ``overrides`` put over it.

        Overrides that are None leave the setting as it is, so that options which were not
        given can be passed on.

        Raises
        ------
        BundleError
            What is stored is not a mapping, or holds something impossible.
        RecipeError
            An override is unknown or impossible.
        """
        known = list(cls.model_fields)
        for name in overrides:
            if name not in known:
                raise RecipeError(f"unknown inference setting '{name}'{nearest_name(name, known)}: expected one of {', '.join(known)}")
        try:
            settings = stored if isinstance(stored, cls) else cls.model_validate(stored or {})
        except ValidationError as error:
            raise BundleError(f"the bundle's inference settings are not usable: {_first_line(error)}") from None
        given = {name: value for name, value in overrides.items() if value is not None}
        if "crf" in given:
            given["crf"] = _changed_crf(settings.crf, given["crf"])
        if "proposals" in given:
            given["proposals"] = _changed_proposals(settings.proposals, given["proposals"])
        try:
            return cls.model_validate(settings.model_dump() | given)
        except ValidationError as error:
            raise RecipeError(_first_line(error)) from None


def settled(models: Sequence[Bundle | Ensemble], *, settings: InferenceSettings | None = None, **overrides: object) -> Ensemble:
    """Return all networks of ``models`` as an ensemble in which it is decided how they are used.

    The settings of the first model, or ``settings``, hold for all networks, but for ``proposals``, which
    each network has of its own: EDeconvNet is DeconvNet over proposals and FCN over whole images. As
    an override they go to the networks that look at proposals anyway, or if none does to the first.

    Returns
    -------
    Ensemble
        Its ``inference`` holds what is in force, with the proposals of the first network that
        looks at some; each member's holds its own.

    Raises
    ------
    BundleError
        There is no model, their classes differ, or what one stores is not usable.
    RecipeError
        An override is unknown or impossible.
    """
    together = Ensemble.of(models)
    chosen = InferenceSettings.of(settings or together.inference, **overrides)
    wanted = overrides.get("proposals", settings.proposals if settings is not None else None)
    own = [InferenceSettings.of(member.inference) for member in together.members]
    meant = [i for i, one in enumerate(own) if one.proposals is not None] or [0]
    looks = [InferenceSettings.of(one, proposals=wanted) if i in meant else one for i, one in enumerate(own)]
    for boxes in (one.proposals for one in looks if one.proposals is not None):  # each member's own, under the scales of all
        check_work(most=boxes.most, side=boxes.side, batch=boxes.batch, zoom=max(chosen.scales))
    first = next((one.proposals for one in looks if one.proposals is not None), None)
    members = tuple(replace(member, inference=one.model_dump(mode="json")) for member, one in zip(together.members, looks, strict=True))
    return replace(together, members=members, inference=chosen.model_copy(update={"proposals": first}).model_dump(mode="json"))


def _changed_crf(stored: CRFSettings | None, change: object) -> object:
    """Return what an override makes of the stored settings of the CRF."""
    if isinstance(change, bool):
        return (stored or CRFSettings()).model_dump() | {"on": change} if stored or change else None
    if isinstance(change, Mapping):
        return (stored or CRFSettings()).model_dump() | {"on": True} | dict(change)
    return change


def _changed_proposals(stored: ProposalSettings | None, change: object) -> object:
    """Return what an override makes of the stored settings of proposals."""
    if isinstance(change, bool):
        return (stored or ProposalSettings()) if change else None
    if isinstance(change, int):
        change = {"most": change}
    if isinstance(change, Mapping):
        return (stored or ProposalSettings()).model_dump() | dict(change)
    return change


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    # Of tile, the rest of the place is pydantic's names of types; of crf and proposals, it is the setting.
    place = ".".join(str(part) for part in first["loc"][: 2 if first["loc"][:1] in (("crf",), ("proposals",)) else 1]) or "inference"
    said = first["msg"].removeprefix("Value error, ")
    return f"inference setting '{place}': " + (said if said.startswith("found ") else f"found {literal(first['input'], 80)}, {said}")
