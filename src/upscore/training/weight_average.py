"""The running mean of a network's weights, which is validated and saved instead of the last step's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["average_weights"]


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
