"""The section of a recipe on the optimiser, with its multipliers by kind of parameter."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from upscore.training.optimizers import OPTIMIZERS
from upscore.training.section import Section, described, one_of

__all__ = ["Multiplier", "MultipliersSection", "OptimizerSection"]


class Multiplier(Section):
    """What the learning rate and the weight decay of a kind of parameter are multiplied by, as Caffe's ``lr_mult`` and ``decay_mult``."""

    lr: float = Field(1.0, ge=0, le=1000)
    decay: float = Field(1.0, ge=0, le=1000)


class UndecayedMultiplier(Multiplier):
    """That of a kind which does not decay unless a recipe says so."""

    decay: float = Field(0.0, ge=0, le=1000)


class MultipliersSection(Section):
    """A multiplier for each kind of parameter; :func:`upscore.training.optimizers.parameter_kind` tells which kind a parameter is."""

    weight: Multiplier = Multiplier()
    """Of convolutions and linear layers, and every other parameter of two or more dimensions."""
    deconvolution: Multiplier = Multiplier()
    """Weights of transposed convolutions, learned upsampling included."""
    bias: UndecayedMultiplier = UndecayedMultiplier()
    norm_scale: UndecayedMultiplier = UndecayedMultiplier()
    """Scales of normalisation layers, and other scales of channels."""
    norm_shift: UndecayedMultiplier = UndecayedMultiplier()


class OptimizerSection(Section):
    """How gradients become steps."""

    name: Annotated[str, one_of(OPTIMIZERS)] | None = Field(None, description=described(OPTIMIZERS))
    lr: float | None = Field(None, gt=0, le=100, description="learning rate at the schedule's peak")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float | None = Field(None, ge=0, le=1, description="of weights; of other parameters as their multipliers say")
    multipliers: MultipliersSection = Field(
        MultipliersSection(),
        description="factors of the learning rate and the decay by kind of parameter: weight, deconvolution (weights of transposed "
        "convolutions), bias, norm_scale and norm_shift, such as {bias = {lr = 2.0, decay = 0.0}}, which Caffe's networks have",
    )
    lr_factors: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="factor of the learning rate of parts of the network, by the beginning of their modules' names, "
        "such as {backbone = 0.1}; the longest that fits counts",
    )
    max_grad_norm: float = Field(
        0.0, ge=0, le=1e9, description="gradients of a step whose norm over all parameters is larger are scaled down to it; 0 is off"
    )
