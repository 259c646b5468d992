"""Optimisers: a record for each, the groups of parameters they update, and the update with clipped and unscaled gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from upscore.errors import RecipeError
from upscore.ops.upsample import BilinearUpsample
from upscore.text import reason
from upscore.training.network_parts import longest_prefix, require_parts

if TYPE_CHECKING:
    from upscore.training.optimizer_section import OptimizerSection

__all__ = ["OPTIMIZERS", "Optimizer", "build_optimizer", "parameter_kind", "update_weights"]

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

TRANSPOSED = (nn.modules.conv._ConvTransposeNd, BilinearUpsample)


@dataclass(frozen=True)
class Optimizer:
    """An optimiser that a recipe can name, with what :mod:`upscore.training.auto_config` chooses for it, and why."""

    description: str
    build: Callable[[list[dict[str, Any]], OptimizerSection], torch.optim.Optimizer]  #: (parameter groups, settings) -> torch optimiser
    lr: tuple[float, str]  #: for a loss that is a mean over pixels
    weight_decay: tuple[float, str]
    stage_divisor: float  #: what the learning rate is divided by in a stage that starts from a coarser network
    scales_with_loss: bool  #: whether a loss that is larger by a factor makes the steps larger by the same
    tensors_per_parameter: Callable[[OptimizerSection], int]  #: settings -> tensors of a parameter's size that the state holds


OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw": Optimizer(
        "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)",
        lambda groups, settings: torch.optim.AdamW(groups, lr=settings.lr or 0, fused=True),
        lr=(1e-3, "usual for AdamW"),
        weight_decay=(1e-2, "usual for AdamW"),
        stage_divisor=10,
        scales_with_loss=False,
        tensors_per_parameter=lambda settings: 2,
    ),
    "adam": Optimizer(
        "adaptive steps, weight decay as part of the gradient (Kingma and Ba, 2015)",
        lambda groups, settings: torch.optim.Adam(groups, lr=settings.lr or 0, fused=True),
        lr=(1e-3, "the paper's default"),
        weight_decay=(0.0, "Adam's adaptive steps distort it: adamw decays better"),
        stage_divisor=10,
        scales_with_loss=False,
        tensors_per_parameter=lambda settings: 2,
    ),
    "sgd": Optimizer(
        "stochastic gradient descent with momentum, as the papers trained",
        lambda groups, settings: torch.optim.SGD(groups, lr=settings.lr or 0, momentum=settings.momentum),
        lr=(1e-2, "usual for SGD with the mean loss"),
        weight_decay=(5e-4, "as the papers"),
        stage_divisor=100,
        scales_with_loss=True,
        tensors_per_parameter=lambda settings: int(settings.momentum > 0),
    ),
}
"""By the name that ``optimizer.name`` takes."""


def parameter_kind(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    """Return the kind of a module's own parameter: a field of :class:`~upscore.training.optimizer_section.MultipliersSection`.

    One of at most one dimension is a ``bias`` if it is called so, and otherwise a scale of channels, as ConvNeXt's; of normalisation layers
    it is ``norm_scale`` or ``norm_shift``. Others are a ``weight``, or ``deconvolution`` in a transposed convolution.

    >>> parameter_kind(nn.BatchNorm2d(4), "bias", nn.Parameter(torch.zeros(4)))
    'norm_shift'
    """
    if parameter.ndim > 1:
        return "deconvolution" if isinstance(module, TRANSPOSED) else "weight"
    if name != "bias":
        return "norm_scale"
    return "norm_shift" if isinstance(module, NORMS) else "bias"


def build_optimizer(
    model: nn.Module, settings: OptimizerSection, own: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser of complete settings over the model's trainable parameters, or what ``own`` makes of these.

    ``settings.multipliers`` multiply the learning rate and the weight decay by :func:`parameter_kind`; by default weights decay, and
    biases and norms do not. ``settings.lr_factors`` multiply the rate of parts of the network; the longest prefix counts. Each group
    carries its factor of the learning rate as ``"scale"``.
    Raises RecipeError where ``settings.lr_factors`` names a part that the network does not have, or one without a trainable parameter;
    or where ``own`` makes no optimiser, one that needs more than gradients, or one of other parameters.
    """
    if own is not None:
        return _build_own(model, own)
    assert settings.name is not None
    assert settings.weight_decay is not None
    factors = settings.lr_factors
    require_parts(model, factors, setting="optimizer.lr_factors", trainable=True)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        module, _, own_name = name.rpartition(".")
        multiplier = getattr(settings.multipliers, parameter_kind(modules[module], own_name, parameter))
        prefix = longest_prefix(name, factors)
        scale = (1.0 if prefix is None else factors[prefix]) * multiplier.lr
        decay = settings.weight_decay * multiplier.decay
        groups.setdefault((decay, scale), {"params": [], "weight_decay": decay, "scale": scale})["params"].append(parameter)
    return OPTIMIZERS[settings.name].build(list(groups.values()), settings)


def _build_own(model: nn.Module, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Return the optimiser that a caller's function makes of the model's trainable parameters.

    The learning rate of each group is its peak; ``"scale"`` is its factor of the first one's.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        optimizer = make(parameters)
    except Exception as error:  # anybody's code
        raise RecipeError(f"optimizer= raised {type(error).__name__} ({reason(error)}): it is called with a list of parameters") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RecipeError(f"optimizer= returned {type(optimizer).__name__}, expected a torch.optim.Optimizer of the parameters it gets")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise RecipeError(
            "optimizer= returned LBFGS, which evaluates the loss several times in a step, expected one that needs gradients alone"
        )
    known = set(map(id, parameters))
    if any(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"]):
        raise RecipeError("optimizer= has parameters that it was not given, expected only those: a run trains a copy of the network")
    peak = float(optimizer.param_groups[0]["lr"])
    if not 0 < peak < math.inf:
        raise RecipeError(f"optimizer= has a learning rate of {peak:g}, expected one above 0 in its first group: the peak of the schedule")
    for group in optimizer.param_groups:
        group["scale"] = float(group["lr"]) / peak
    return optimizer


def update_weights(optimizer: torch.optim.Optimizer, *, max_grad_norm: float = 0.0, scaler: torch.amp.GradScaler | None = None) -> None:
    """Take a step along the parameters' gradients, those of the whole step over all parts and processes, and clear them.

    Gradients whose joint Euclidean norm is above ``max_grad_norm`` are scaled down to it (Pascanu, Mikolov and Bengio, 2013); 0 is off.
    The gradients are multiplied by the scale of ``scaler``; a step with a gradient that is not finite is left out, and the scale
    halved (Micikevicius et al., "Mixed Precision Training", 2018, §3.2).
    """
    if scaler is not None:
        scaler.unscale_(optimizer)
    if max_grad_norm:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
