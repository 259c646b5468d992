"""A caller's own dataset, network, loss, optimiser and schedule, as a script would define them, where other processes can import them."""

import numpy as np
import torch
from torch import nn


class Squares(torch.utils.data.Dataset):
    """Bright squares on dark ground: a tensor in [0, 1], and a mask."""

    labels = ("ground", "square")

    def __init__(self, count=6, first=0):
        self.count, self.first = count, first

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng(self.first + index)
        mask = np.zeros((40, 48), np.uint8)
        y, x = rng.integers(0, 20, 2)
        mask[y : y + 20, x : x + 20] = 1
        image = rng.integers(0, 50, (40, 48, 3), dtype=np.uint8) + np.where(mask == 1, 150, 50).astype(np.uint8)[..., None]
        mask[-2:] = 255
        return torch.from_numpy(image).permute(2, 0, 1) / 255, mask


class Network(nn.Module):
    """Without batch normalisation, so that parts of a step add up."""

    def __init__(self, width=6):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.scores = nn.Conv2d(width, 2, 1)

    def forward(self, images):
        return self.scores(self.features(images - 0.5))


def make_network(width=6):
    torch.manual_seed(0)
    return Network(width)


def mean_cross_entropy(logits, labels):
    return nn.functional.cross_entropy(logits, labels, ignore_index=255)


def make_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def make_adam(parameters):
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    return torch.optim.Adam([{"params": weights}, {"params": [p for p in parameters if p.ndim == 1], "lr": 0.02}], lr=0.01)


def falling(step, steps):
    return 1 - step / steps


class CountingSGD(torch.optim.SGD):
    """Has numbers in its state and in its groups, which change as it goes."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["taken"] = group.get("taken", 0) + 1
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                parameter -= group["lr"] / (1 + state["count"] + group["taken"]) * parameter.grad


def make_counting(parameters):
    optimizer = CountingSGD(parameters, lr=0.05)
    optimizer.param_groups[0]["taken"] = 0
    return optimizer
