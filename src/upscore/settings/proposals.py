"""How a network labels an image by its object proposals."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from upscore.errors import RecipeError

__all__ = ["MAX_BATCH_PIXELS", "MAX_IMAGE_PIXELS", "Aggregate", "Enlarge", "ProposalSettings", "ProposerName"]

Aggregate: TypeAlias = Literal["max", "mean"]
"""How the scores of the boxes over a pixel become one: their maximum, or their mean."""

ProposerName: TypeAlias = Literal["edge-boxes", "selective-search", "windows"]
"""The proposers of :func:`upscore.proposals.create_proposer`."""

Enlarge: TypeAlias = Annotated[float, Field(ge=1, le=10)]
"""Sides of a crop over those of its box."""

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

    max_proposals: int = Field(default=50, ge=1, le=10_000)  #: the best boxes; the paper's 50
    aggregate: Aggregate = "max"
    proposer: ProposerName = "edge-boxes"
    enlarge: Enlarge = 1.2  #: as in training
    min_side: int = Field(default=1, ge=1, le=100_000)  #: boxes with a shorter side, in pixels, are dropped; DeconvNet's release has 112
    clip: bool = False  #: count scores below zero as zero, as the release does by taking its maximum with the empty canvas
    crop_side: int = Field(default=224, ge=1, le=2048)  #: height and width of a crop as the network sees it, in pixels
    batch_size: int = Field(default=8, ge=1, le=1024)  #: crops the network sees at a time

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        self.check_pixels()
        return self

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
