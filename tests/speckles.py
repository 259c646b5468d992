"""A network of which it is known what a CRF does to it, and images that it helps or hurts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from upscore.inference.predictor import Predictor
from upscore.types import LabelSpace, Sample

LABELS = LabelSpace(("blue", "red"))


class Speckled(nn.Module):
    """Tells red from blue, and mistakes a pixel in twenty for the other."""

    def forward(self, images: Tensor) -> Tensor:
        wrong = torch.rand(images.shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.05
        logits = torch.stack([images[:, 2], images[:, 0]], 1)
        return 3 * torch.where(wrong, logits.flip(1), logits)


class Scenes:
    """Six images of red on blue; in ``stubborn`` ones the truth is what ``Speckled`` says of them."""

    name, split, labels, warnings = "scenes", "val", LABELS, ()

    def __init__(self, stubborn: range = range(0), count: int = 6) -> None:
        self.stubborn, self.keys, self.reads = stubborn, [f"k{i}" for i in range(count)], 0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        rng = np.random.default_rng(index)
        height, width = 40 + index, 52
        y, x = np.mgrid[:height, :width]
        truth = (np.hypot(y - rng.integers(12, 28), x - rng.integers(12, 40)) < 11).astype(np.uint8)
        image = np.where(truth[..., None] == 1, np.array([210, 40, 40]), np.array([40, 60, 200]))
        image = (image + rng.integers(-15, 16, image.shape)).clip(0, 255).astype(np.uint8)
        if index in self.stubborn:
            truth = Predictor(Speckled(), labels=LABELS).predict(image).label_map
        truth[0] = 255
        return Sample(self.keys[index], image, truth)
