"""Precise statistics of batch normalisation: measured for the weights as they are, over many batches.

The running statistics of training are an exponential mean over the last steps, taken while the
weights changed. The papers measure them afterwards instead: DeconvNet's and SegNet's releases
run the trained network over hundreds of batches of the training set and store the mean of the
batches' means and variances (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, §3, show
when it matters and call it PreciseBN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from upscore.errors import RecipeError
from upscore.training.network_parts import longest_prefix
from upscore.types import Batch

__all__ = ["batch_norms", "check_has_statistics", "measure_statistics"]


@torch.no_grad()
def measure_statistics(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device | str,
    reduce: Callable[[Tensor], Tensor] = lambda mean: mean,
    frozen: Sequence[str] = (),
) -> None:
    """Replace the running statistics of every batch normalisation by their mean over one or more ``batches``, in place.

    Each batch is normalised by its own statistics, as in training; everything else is in evaluation mode, in which the model is left:
    dropout is off. Batches count alike; variances are torch's unbiased ones, and do not contain
    how means differ between batches, as the papers' do not. ``reduce`` takes a process's mean (C,) and returns that of all processes;
    the statistics of ``frozen`` parts of the network, given by prefix, stay as they are.
    """
    norms = batch_norms(model, frozen=frozen)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's for a cumulative mean
        norm.train()
    for batch in batches:
        model(batch.images.to(device, non_blocking=True))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(reduce(statistic))


def check_has_statistics(model: nn.Module, *, frozen: Sequence[str] = ()) -> None:
    """Raise RecipeError where the model has no batch normalisation to measure, or only in frozen parts."""
    if not batch_norms(model, frozen=frozen):
        where = "outside of model.freeze" if batch_norms(model) else ""
        raise RecipeError(f"run.precise_bn: the network has no batch normalisation to measure{where and ' ' + where}: set it to 0")


def batch_norms(model: nn.Module, *, frozen: Sequence[str] = ()) -> list[_BatchNorm]:
    """Return the batch normalisations of a network that have running statistics, without those of frozen parts."""
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm))
    return [module for name, module in found if module.running_mean is not None and not longest_prefix(name, frozen)]
