"""A network that knows the colours of the painted scenes, so that nothing has to be trained to be sure of every pixel."""

import torch
from torch import nn

from upscore.inference.predictor import Predictor

COLOURS = ((110, 110, 110), (220, 200, 90), (20, 30, 60))
NAMES = ("ground", "square", "bar")


def colour_predictor(names=NAMES):
    """Return a predictor whose classes are the nearest colours; its logits are negative squared distances."""
    network = nn.Conv2d(3, len(COLOURS), 1)
    colours = torch.tensor(COLOURS) / 255
    with torch.no_grad():
        network.weight.copy_(200 * colours[:, :, None, None])
        network.bias.copy_(-100 * (colours**2).sum(1))
    return Predictor(network, labels=names)
