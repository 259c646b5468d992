"""From losses to steps: the objective, parameter groups, the learning rate's course, the running mean of the weights."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from upscore.errors import RecipeError
from upscore.losses import Objective, losses_reading
from upscore.training.recipe import LossSection, OptimizerSection, ScheduleSection

__all__ = ["average_weights", "build_optimizer", "learning_rate", "objective_of"]


def objective_of(settings: LossSection, *, class_weights: Tensor | None = None) -> Objective:
    """Return the objective that a ``[loss]`` section describes.

    Parameters
    ----------
    settings : LossSection
        Complete.
    class_weights : (K,) floating, optional
        Left to the weights of pixels where U-Net's are asked for: w(x) is a sum with them.

    Raises
    ------
    RecipeError
        A setting would have no effect: no term uses it.
    """
    objective = Objective(
        cast(dict[str, float], settings.terms),  # by name: a mapping's keys do not widen
        class_weights=class_weights,
        sampling=settings.sampling,
        focal_gamma=settings.focal_gamma,
        ohem_fraction=settings.ohem_share,
        ohem_threshold=settings.ohem_threshold,
    )
    if not settings.border_weight:
        return objective
    if not objective.reads("class_weights"):
        raise RecipeError(
            f"found loss.border_weight {settings.border_weight:g}, but no term of {', '.join(losses_reading('class_weights'))} to weigh"
        )
    return replace(objective, class_weights=None)


def build_optimizer(model: nn.Module, settings: OptimizerSection) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the model's trainable parameters.

    Weights of two or more dimensions decay; biases and norms do not, and learn at
    ``settings.bias_lr`` times the rate (2 in Long et al. 2015, and in Caffe's nets before
    it). Each group carries its factor as ``"scale"`` for :func:`learning_rate`.

    Parameters
    ----------
    model : Module
        Frozen parameters are left out.
    settings : OptimizerSection
        Complete: nothing left to choose.
    """
    assert settings.lr is not None
    assert settings.weight_decay is not None
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay, "scale": 1.0},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "scale": settings.bias_lr},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(settings: ScheduleSection, *, step: int, steps: int, steps_an_epoch: int) -> float:
    """Return the factor, in [0, 1], that the peak learning rate is multiplied by at ``step``.

    A function of the step alone, so that a resumed run needs no scheduler's state.

    Parameters
    ----------
    settings : ScheduleSection
        Complete.
    step : int
        From 0.
    steps : int
        Of the whole run.
    steps_an_epoch : int
        Unit of ``step_epochs``.
    """
    warmup = settings.warmup_steps or 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.name == "poly":
        return float((1 - step / steps) ** settings.power)
    if settings.name == "step":
        every = settings.step_every or settings.step_epochs * steps_an_epoch
        return float(settings.gamma ** (step // every))
    return 1.0


@torch.no_grad()
def average_weights(average: dict[str, Tensor], model: nn.Module, *, decay: float, step: int) -> None:
    """Move the running mean a step towards the model's parameters and buffers, in place.

    The decay grows with the steps, ``min(decay, (1 + step) / (10 + step))``, so that the
    random beginning is forgotten. Counters (integer buffers) are copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    state = model.state_dict()
    floats = [name for name in average if average[name].is_floating_point()]
    torch._foreach_lerp_([average[name] for name in floats], [state[name] for name in floats], 1 - decay)
    for name in average.keys() - set(floats):
        average[name].copy_(state[name])
