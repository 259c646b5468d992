"""How a network labels an image by its object proposals."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from upscore.errors import RecipeError

__all__ = ["EDGE_BOXES", "MAX_BATCH_PIXELS", "MAX_IMAGE_PIXELS", "Aggregate", "Enlarge", "ProposalSettings", "ProposerName"]

Aggregate: TypeAlias = Literal["max", "mean", "sum"]
"""How the scores of the boxes over a pixel become one: their maximum (equation 1 of DeconvNet), mean, or sum (equation 2)."""

ProposerName: TypeAlias = Literal["edge-boxes", "selective-search", "windows"]
"""The proposers of :func:`upscore.proposals.create_proposer`."""

Enlarge: TypeAlias = Annotated[float, Field(ge=1, le=10)]
"""Sides of a crop over those of its box."""

EDGE_BOXES = ("alpha", "beta", "min_area")
"""The settings that only ``edge-boxes`` reads."""

MAX_BATCH_PIXELS = 2**22
"""Pixels of a batch of crops: 83 crops of 224×224. DeconvNet takes about 2 GB for them."""

MAX_IMAGE_PIXELS = 2**30
"""Pixels of all crops of an image: 21,000 crops of 224×224."""


class ProposalSettings(BaseModel):
    """How a network labels an image by its object proposals; see :mod:`upscore.inference.proposal_aggregation`.

    The network sees at most ``MAX_BATCH_PIXELS`` at a time and ``MAX_IMAGE_PIXELS`` of an image (:meth:`check_pixels`),
    so that no file's settings let memory or time run away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_proposals: int = Field(default=50, ge=1, le=10_000)  #: the best boxes that are used; the paper's 50
    aggregate: Aggregate = "max"
    proposer: ProposerName = "edge-boxes"
    candidates: int = Field(default=2000, ge=1, le=100_000)  #: boxes that the proposer finds, from which the best are used
    alpha: float = Field(default=0.65, gt=0, lt=1)  #: of edge-boxes: IoU of neighbouring sliding windows
    beta: float = Field(default=0.6, gt=0, le=1)  #: of edge-boxes: largest IoU of a box with a better one; its paper has 0.75
    min_area: float = Field(default=0.002, ge=1e-5, le=1e8)  #: of edge-boxes: fraction of the image up to 1, above it pixels
    enlarge: Enlarge = 1.2  #: as in training
    min_size: int = Field(default=1, ge=1, le=100_000)
    """Boxes with a shorter side once they are enlarged, in pixels, are skipped and do not count; DeconvNet's release has 112."""
    clip: bool = False  #: count scores below zero as zero, as the release does by taking its maximum with the empty canvas
    crop_side: int = Field(default=224, ge=1, le=2048)  #: height and width of a crop as the network sees it, in pixels
    batch_size: int = Field(default=8, ge=1, le=1024)  #: crops the network sees at a time

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        self.check_pixels()
        return self

    @model_validator(mode="after")
    def _check_proposer(self) -> Self:
        own = {name: type(self).model_fields[name].default for name in EDGE_BOXES}
        if self.proposer != "edge-boxes" and (given := [name for name in own if getattr(self, name) != own[name]]):
            raise RecipeError(f"found {given[0]} {getattr(self, given[0]):g} for boxes by {self.proposer}, which has none: leave it out")
        return self

    def proposer_settings(self) -> dict[str, Any]:
        """Return what the proposer is made with, by the names of :func:`upscore.proposals.create_proposer`."""
        own = EDGE_BOXES if self.proposer == "edge-boxes" else ()
        return {"max_proposals": self.candidates} | {name: getattr(self, name) for name in own}

    def check_pixels(self, *, max_scale: float = 1.0) -> None:
        """Raise RecipeError, with what to change, where the network would see too many pixels, at a time or in all.

        ``max_scale`` is the largest scale at which it sees each crop (:func:`upscore.inference.tta.tta`).
        """
        zoom = max(1.0, max_scale)
        area = self.crop_side**2 * zoom**2
        size = f"of {self.crop_side}×{self.crop_side} pixels" + (f" at scale {zoom:g}" if zoom > 1 else "")
        if self.batch_size * area > MAX_BATCH_PIXELS:
            fits = int(MAX_BATCH_PIXELS // area)
            remedy = (
                f"a batch_size of at most {fits}"
                if fits
                else f"a batch_size of 1 and a crop_side of at most {int(MAX_BATCH_PIXELS**0.5 / zoom)}"
            )
            raise RecipeError(
                f"found batches of {self.batch_size} crops {size}, more than {MAX_BATCH_PIXELS} pixels at a time: use {remedy}"
            )
        if self.max_proposals * area > MAX_IMAGE_PIXELS:
            raise RecipeError(
                f"found {self.max_proposals} crops {size}, more than {MAX_IMAGE_PIXELS} pixels for an image: "
                f"use at most {int(MAX_IMAGE_PIXELS // area)} proposals"
            )
