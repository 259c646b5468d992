"""What a step minimises: the losses of a recipe, its weights of classes, and what their sum is divided by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from upscore.data.dataset_statistics import DatasetStatistics
from upscore.errors import RecipeError, nearest_name
from upscore.losses import Objective, class_weights, count_valid, losses_reading
from upscore.text import listed, reason, shortened
from upscore.training.recipe_sections import LossSection
from upscore.types import IGNORE

__all__ = ["OwnObjective", "build_class_weights", "build_objective", "check_own_loss", "count_units", "divisors"]


def build_class_weights(settings: LossSection, census: DatasetStatistics) -> Tensor | None:
    """Return the weight of each class (K,) float32, or None where all are 1; raises RecipeError unless each class has a valid number."""
    weighting = settings.class_weights
    if weighting in (None, "none"):
        return None
    if isinstance(weighting, dict):
        weighting = _in_order(weighting, census.labels.names)
    return class_weights(census.class_pixels, census.pixels_with_class, weighting=weighting)


def _in_order(weights: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Return weights by name in the order of the data's classes; RecipeError names those that are missing or unknown."""
    missing = [name for name in names if name not in weights]
    unknown = [f"'{shortened(name)}'{nearest_name(name, missing)}" for name in weights if name not in names]
    if missing or unknown:
        faults = [f"no weight for {listed(missing)}"] * bool(missing) + [f"no class {listed(unknown)}"] * bool(unknown)
        raise RecipeError(f"loss.class_weights: {' and '.join(faults)}: expected a number for each of {', '.join(names)}")
    return [weights[name] for name in names]


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
    return torch.tensor(len(labels), device=labels.device) if settings.normalize == "none" else count_valid(labels)


def divisors(settings: LossSection, units: Tensor) -> Tensor:
    """Return what the loss of each part of a step is divided by, (P,), for their sum to be the step's objective.

    The (P,) ``units`` are those of :func:`count_units`, each over all processes. A part without a labelled pixel counts as a mean of 0.

    >>> divisors(LossSection(normalize="part"), torch.tensor([10, 30])).tolist(), divisors(LossSection(), torch.tensor([10, 30])).tolist()
    ([20, 60], [40, 40])
    """
    if settings.normalize == "part":
        return units.clamp(min=1) * len(units)
    return units.sum().clamp(min=1).expand(len(units))


@dataclass(frozen=True)
class OwnObjective:
    """A caller's own loss in the form of an objective: the sum over labelled pixels, of a mean over them.

    A step's objective is then the mean of its parts' losses, weighted by their labelled pixels: for a loss that is a mean over pixels
    exactly that of the whole step. A part without a labelled pixel does not count.
    """

    loss: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def on(cls, device: torch.device, loss: Callable[[Tensor, Tensor], Tensor]) -> OwnObjective:
        """Return the objective of a loss; of a module it is a copy on a device."""
        return cls(copy.deepcopy(loss).to(device) if isinstance(loss, nn.Module) else loss)

    def __call__(self, logits: Tensor, labels: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits (N, K, H, W) and labels (N, H, W), times the labelled pixels; a scalar."""
        valid = count_valid(labels)
        return self.loss(logits.float(), labels) * valid if valid else logits.sum() * 0


def check_own_loss(loss: Callable[[Tensor, Tensor], Tensor], num_classes: int) -> None:
    """Try a caller's own loss on small logits; RecipeError where it is no mean over the labelled pixels that can be minimised."""
    if isinstance(loss, nn.Module):
        if any(parameter.requires_grad for parameter in loss.parameters()):
            raise RecipeError("loss= has trainable parameters, which no optimiser gets: make them part of the network")
        loss = copy.deepcopy(loss).cpu()
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (2, 8, 8), generator=generator)
    labels[:, :, :3] = IGNORE
    logits = torch.randn(2, num_classes, 8, 8, generator=generator).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        try:
            value, doubled = loss(logits, labels), loss(torch.cat([logits, logits]), torch.cat([labels, labels]))
        except Exception as error:  # anybody's code
            raise RecipeError(
                f"loss= raised {type(error).__name__} ({reason(error)}) for logits (2, {num_classes}, 8, 8) and labels (2, 8, 8) int64, "
                f"{IGNORE} where ignored, as in CrossEntropyLoss(ignore_index={IGNORE})"
            ) from error
    wanted = "expected a scalar tensor, the mean over the labelled pixels"
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RecipeError(f"loss= returned {found}, {wanted}")
    if not bool(value.isfinite()):
        raise RecipeError(f"loss= returned {value.item()} for plain logits, {wanted}")
    if not value.requires_grad:
        raise RecipeError(f"loss= returned a number without a gradient, {wanted}: compute it from the logits, without .item() or .detach()")
    (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    if gradient is not None and bool(gradient[:, :, :, :3].any()):
        raise RecipeError(
            f"loss= counts pixels of label {IGNORE}, which are ignored, {wanted}: leave them out, as ignore_index={IGNORE} does"
        )
    if value != 0 and abs(float((doubled / value).detach()) - 2) < 1e-3:
        raise RecipeError(f"loss= is twice as large for the same images twice, as a sum is, {wanted}: divide it by their number")
