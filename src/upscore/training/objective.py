"""What a step minimises: the losses of a recipe, its weights of classes, and what their sum is divided by."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from upscore.data.dataset_statistics import DatasetStatistics
from upscore.errors import RecipeError
from upscore.losses import Objective, class_weights, count_valid, losses_reading
from upscore.training.recipe_sections import LossSection

__all__ = ["build_class_weights", "build_objective", "count_units"]


def build_class_weights(settings: LossSection, census: DatasetStatistics) -> Tensor | None:
    """Return the weight of each class (K,) float32, or None where all are 1; raises RecipeError unless each class has a valid number."""
    if settings.class_weights in (None, "none"):
        return None
    return class_weights(census.class_pixels, census.pixels_with_class, weighting=settings.class_weights)


def build_objective(settings: LossSection, *, class_weights: Tensor | None = None) -> Objective:
    """Return the objective that a complete ``[loss]`` section describes.

    The (K,) ``class_weights`` are left to the weights of pixels where the section asks for U-Net's: w(x) is a sum with them.
    Raises RecipeError where a setting would have no effect: no term uses it.
    """
    objective = Objective(
        settings.terms,
        class_weights=class_weights,
        sampling=settings.sampling,
        label_smoothing=settings.label_smoothing,
        focal_gamma=settings.focal_gamma,
        ohem_fraction=settings.ohem_fraction,
        ohem_threshold=settings.ohem_threshold,
    )
    if not settings.border_weight:
        return objective
    if not objective.reads("class_weights"):
        names = ", ".join(losses_reading("class_weights"))
        raise RecipeError(f"found loss.border_weight {settings.border_weight:g} but no loss term that reads it: add one of {names}")
    return replace(objective, class_weights=None)


def count_units(settings: LossSection, labels: Tensor) -> Tensor:
    """Return what the losses of ``labels`` (N, H, W) are divided by: their labelled pixels, or N; an int64 scalar."""
    return count_valid(labels) if settings.normalize == "valid" else torch.tensor(len(labels), device=labels.device)
