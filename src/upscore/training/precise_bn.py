"""Precise statistics of batch normalisation: measured for the weights as they are, over many batches.

The running statistics of training are a fading mean over the last steps, taken while the
weights moved. The papers measure them afterwards instead: DeconvNet's and SegNet's releases
run the trained network over hundreds of batches of the training set and keep the mean of the
batches' means and variances (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, §3, show
when it matters and call it PreciseBN).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from upscore.errors import RecipeError
from upscore.types import Batch

__all__ = ["check_has_statistics", "measure_statistics"]


@torch.no_grad()
def measure_statistics(
    model: nn.Module, batches: Iterable[Batch], *, device: torch.device | str, reduce: Callable[[Tensor], Tensor] = lambda mean: mean
) -> None:
    """Replace the running statistics of every batch normalisation by their mean over ``batches``, in place.

    Each batch is normalised by its own statistics, as in training, and everything else does
    what it does in use: dropout is off. Batches count alike; variances are the unbiased ones
    that torch keeps, and leave out how means differ between batches, as the papers' do.

    Parameters
    ----------
    model : Module
        Its weights stay as they are; left in evaluation mode.
    batches : iterable of Batch
        At least one.
    device : device or str
        Where the model is.
    reduce : callable
        Takes a rank's mean (C,) and returns that of all ranks.
    """
    norms = _batch_norms(model)
    kept = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's for a cumulative mean
        norm.train()
    for batch in batches:
        model(batch.images.to(device, non_blocking=True))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.eval()
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(reduce(statistic))


def check_has_statistics(model: nn.Module) -> None:
    """Say so if there is nothing to measure.

    Raises
    ------
    RecipeError
        The model has no batch normalisation.
    """
    if not _batch_norms(model):
        raise RecipeError("run.precise_bn: the network has no batch normalisation to measure: set it to 0")


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
