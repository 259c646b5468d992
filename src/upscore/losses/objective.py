"""The objective of a training run: a weighted sum of losses, as a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
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

__all__ = ["LOSSES", "Loss", "Objective", "losses_reading"]


@dataclass(frozen=True)
class Loss:
    """A loss that an objective can contain."""

    name: str  #: in recipes
    function: Callable[..., Tensor]
    """Logits (N, K, H, W), labels (N, H, W) and the settings, to a scalar: a sum over images that the caller divides by the valid
    pixels of the step."""
    description: str  #: one line for help and documents
    paper: str  #: where it is defined
    settings: Mapping[str, str] = field(default_factory=dict)
    """Keyword of ``function`` by field of :class:`Objective`. A loss that reads ``class_weights`` takes ``pixel_weights`` too, one that
    reads ``sampling`` a ``generator``."""


_OF_PIXELS = {"class_weights": "class_weights", "sampling": "sampling"}
"""Sampling is for plain sums over pixels alone: only their expectation is the full loss."""

LOSSES = {
    loss.name: loss
    for loss in (
        Loss(
            "cross_entropy",
            pixel_cross_entropy,
            "pixelwise cross-entropy",
            "Long, Shelhamer and Darrell 2015, §3.4; label smoothing: Szegedy and others 2016, §7",
            {**_OF_PIXELS, "label_smoothing": "label_smoothing"},
        ),
        Loss(
            "focal",
            focal_loss,
            "cross-entropy with less weight on pixels that are already classified well",
            "Lin and others 2017, eq. 5",
            {**_OF_PIXELS, "focal_gamma": "gamma"},
        ),
        Loss(
            "ohem",
            hard_pixel_cross_entropy,
            "cross-entropy over the hardest pixels of each image (online hard example mining)",
            "Shrivastava, Gupta and Girshick 2016; Wu, Shen and van den Hengel 2016, §2",
            {"class_weights": "class_weights", "ohem_fraction": "fraction", "ohem_threshold": "threshold"},
        ),
        Loss("dice", dice_loss, "one minus the soft Dice coefficient of each class", "Milletari, Navab and Ahmadi 2016, §3"),
        Loss(
            "lovasz",
            lovasz_softmax,
            "convex surrogate of one minus the IoU of each class",
            "Berman, Rannen Triki and Blaschko 2018, eq. 11",
        ),
        Loss(
            "boundary",
            boundary_loss,
            "distance between predicted and true contours; add it to another loss",
            "Kervadec and others 2019, eq. 5",
        ),
    )
}
"""Every loss by name, in the order of help and documents."""


def losses_reading(setting: str) -> tuple[str, ...]:
    """Return the names of the losses that read a field of :class:`Objective`.

    >>> losses_reading("sampling")
    ('cross_entropy', 'focal')
    """
    return tuple(loss.name for loss in LOSSES.values() if setting in loss.settings)


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of losses; call it with a batch.

    Parameters
    ----------
    terms : mapping of str to float
        The weight, above 0, of each loss by name; see :data:`LOSSES`.
    class_weights : (K,) floating, optional
        For the losses that read them, as are the following; :func:`losses_reading` lists them.
    sampling : float in (0, 1]
        Probability of including a pixel's loss; each term draws its own sample.
    label_smoothing : float in [0, 1)
        See :func:`~upscore.losses.pixelwise.pixel_cross_entropy`.
    focal_gamma : float
        See :func:`~upscore.losses.focal.focal_loss`.
    ohem_fraction, ohem_threshold : float
        See :func:`~upscore.losses.ohem.hard_pixel_cross_entropy`.

    Raises
    ------
    RecipeError
        There is no term, a name is unknown, or a weight is not above 0 and finite; or a setting
        differs from its default and no term reads it.

    Examples
    --------
    >>> objective = Objective({"cross_entropy": 1.0, "dice": 0.5}, label_smoothing=0.1)
    >>> objective(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)).shape
    torch.Size([])
    """

    terms: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Tensor | None = None
    sampling: float = 1.0
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    ohem_fraction: float = 0.25
    ohem_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.terms:
            raise RecipeError(f"found no loss terms, expected at least one of {', '.join(LOSSES)}")
        for name, weight in self.terms.items():
            if name not in LOSSES:
                raise RecipeError(f"found loss term '{name}'{nearest_name(name, tuple(LOSSES))}, expected one of {', '.join(LOSSES)}")
            if not 0 < weight < math.inf:
                raise RecipeError(f"found weight {weight:g} of loss term '{name}', expected above 0: leave out what is not to count")
        for setting in (item for item in fields(self) if item.name != "terms"):
            value, default = getattr(self, setting.name), setting.default
            if (value is not None if default is None else value != default) and not self.reads(setting.name):
                names, what = ", ".join(losses_reading(setting.name)), setting.name.replace("_", " ")
                raise RecipeError(f"found {what} but no loss term that reads it: add one of {names}, or leave it out")

    def reads(self, setting: str) -> bool:
        """Return whether any term reads a field of this class, such as ``"class_weights"``."""
        return any(setting in LOSSES[name].settings for name in self.terms)

    def __call__(
        self, logits: Tensor, labels: Tensor, *, pixel_weights: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the weighted sum of the terms, a scalar, to be divided by the valid pixels of the step; float32, or float64 as the logits.

        Parameters
        ----------
        logits : (N, K, H, W) floating
        labels : (N, H, W) integer
            Class of each pixel, or 255.
        pixel_weights : (N, H, W) floating, optional
            For the terms that read ``class_weights``.
        generator : torch.Generator, optional
            For the samples.

        Raises
        ------
        DataError, RecipeError
            Shapes or types do not fit together, or a label is neither a class nor 255; a setting is out of its range.
        """
        total = []
        for name, weight in self.terms.items():
            loss = LOSSES[name]
            arguments: dict[str, Any] = {keyword: getattr(self, setting) for setting, keyword in loss.settings.items()}
            if "class_weights" in loss.settings:
                arguments["pixel_weights"] = pixel_weights
            if "sampling" in loss.settings:
                arguments["generator"] = generator
            total.append(weight * loss.function(logits, labels, **arguments))
        return torch.stack(total).sum()
