"""The running mean of the weights."""

import torch
from torch import nn

from upscore.training.train_step import average_weights


def test_the_mean_of_the_weights_follows_them_and_copies_counters():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = {name: tensor.double().clone() for name, tensor in average.items()}
    for step in range(1, 6):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = expected[name] * decay + tensor.double() * (1 - decay) if tensor.is_floating_point() else tensor.double()
        average_weights(average, model, decay=0.9, step=step)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)
