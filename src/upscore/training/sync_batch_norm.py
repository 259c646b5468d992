"""Batch normalisation over all processes: a twin of the network that shares its tensors, so that what is saved stays plain."""

from __future__ import annotations

import copy

from torch import nn

from upscore.errors import RecipeError
from upscore.models.backbones import import_timm
from upscore.training.precise_bn import batch_norms

__all__ = ["check_can_synchronize", "synchronized_twin"]


def synchronized_twin(model: nn.Module) -> nn.Module:
    """Return a network that computes as ``model``, with statistics over all processes, on the same parameters and buffers.

    Training the twin trains the model: parameters, running statistics and counters are the same tensors.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin: nn.Module = import_timm().layers.convert_sync_batchnorm(copy.deepcopy(model, shared))  # also timm's own layers
    return twin


def check_can_synchronize(model: nn.Module, *, device: str | None) -> None:
    """Raise RecipeError where the device is not CUDA's, the only one PyTorch can do it on, or the model has no batch normalisation."""
    if device != "cuda":
        raise RecipeError(
            f"run.sync_batch_norm = true: PyTorch synchronises batch normalisation on cuda only, found {device}: leave it out"
        )
    if not batch_norms(model):
        raise RecipeError("run.sync_batch_norm = true: the network has no batch normalisation: leave it out")
