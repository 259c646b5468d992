"""What a run makes small: a weighted sum of losses, as a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from upscore.errors import RecipeError, nearest_name
from upscore.losses.boundary import boundary_loss
from upscore.losses.dice import dice_loss
from upscore.losses.focal import focal_loss
from upscore.losses.lovasz import lovasz_softmax
from upscore.losses.ohem import hard_pixel_cross_entropy
from upscore.losses.pixelwise import pixel_cross_entropy

__all__ = ["SAMPLED", "TERMS", "WEIGHTED", "Objective"]

TERMS = ("cross_entropy", "focal", "ohem", "dice", "lovasz", "boundary")
"""The losses an objective may be made of."""

WEIGHTED = ("cross_entropy", "focal", "ohem")
"""Those that weights of classes and of pixels apply to."""

SAMPLED = ("cross_entropy", "focal")
"""Those that loss sampling applies to: its expectation is the full loss only where that is a plain sum over pixels."""


@dataclass(frozen=True, eq=False)
class Objective:
    """A sum of losses; call it with a batch.

    Parameters
    ----------
    terms : mapping of str to float
        The weight, above 0, of each loss by name; see :data:`TERMS`.
    class_weights : (K,) floating, optional
        For the terms in :data:`WEIGHTED`.
    sampling : float in (0, 1]
        Probability of keeping a pixel's loss, for the terms in :data:`SAMPLED`; each draws its own.
    focal_gamma : float
        See :func:`~upscore.losses.focal.focal_loss`.
    ohem_share, ohem_threshold : float
        See :func:`~upscore.losses.ohem.hard_pixel_cross_entropy`.

    Raises
    ------
    RecipeError
        There is no term, a name is unknown, or a weight is not above 0 and finite; or a setting
        is given that no term uses.
    """

    terms: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Tensor | None = None
    sampling: float = 1.0
    focal_gamma: float = 2.0
    ohem_share: float = 0.25
    ohem_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.terms:
            raise RecipeError(f"found no loss terms, expected at least one of {', '.join(TERMS)}")
        for name, weight in self.terms.items():
            if name not in TERMS:
                raise RecipeError(f"found loss term '{name}'{nearest_name(name, TERMS)}, expected one of {', '.join(TERMS)}")
            if not 0 < weight < math.inf:
                raise RecipeError(f"found weight {weight:g} of loss term '{name}', expected above 0: leave out what is not to count")
        if self.sampling != 1 and not self.uses(SAMPLED):
            raise RecipeError(f"found sampling {self.sampling:g}, but no term of {', '.join(SAMPLED)} to sample")
        if self.class_weights is not None and not self.uses(WEIGHTED):
            raise RecipeError(f"found class weights, but no term of {', '.join(WEIGHTED)} to weigh")

    def uses(self, names: tuple[str, ...]) -> bool:
        """Return whether any of ``names`` is a term."""
        return any(name in self.terms for name in names)

    def __call__(
        self, logits: Tensor, labels: Tensor, *, pixel_weights: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the weighted sum of the terms, to be divided by the step's valid pixels.

        Parameters
        ----------
        logits : (N, K, H, W) floating
            Scores.
        labels : (N, H, W) integer
            Class of each pixel, or 255.
        pixel_weights : (N, H, W) floating, optional
            For the terms in :data:`WEIGHTED`; the others know none.
        generator : torch.Generator, optional
            Draws the samples.

        Returns
        -------
        Tensor
            Scalar, float32 (float64 for float64 logits).

        Raises
        ------
        DataError
            Shapes or types do not belong together, or a label is neither a class nor 255.
        RecipeError
            A parameter is out of its range.
        """
        weights: dict[str, Any] = {"class_weights": self.class_weights, "pixel_weights": pixel_weights}
        sampled: dict[str, Any] = {"sampling": self.sampling, "generator": generator}
        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "cross_entropy": partial(pixel_cross_entropy, **weights, **sampled),
            "focal": partial(focal_loss, gamma=self.focal_gamma, **weights, **sampled),
            "ohem": partial(hard_pixel_cross_entropy, share=self.ohem_share, threshold=self.ohem_threshold, **weights),
            "dice": dice_loss,
            "lovasz": lovasz_softmax,
            "boundary": boundary_loss,
        }
        return torch.stack([weight * losses[name](logits, labels) for name, weight in self.terms.items()]).sum()
