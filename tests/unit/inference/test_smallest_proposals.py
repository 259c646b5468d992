"""``min_size`` is the smallest side of a box that is used: a box of exactly that side is."""

import numpy as np
import pytest
from torch import nn

from upscore.inference.predictor import Predictor
from upscore.proposals import Boxes
from upscore.types import LabelSpace

SIDES = [(14, 30), (15, 30), (30, 15), (15, 15), (16, 40), (20, 20)]


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return images[:, :2]


@pytest.mark.parametrize("min_size", [1, 14, 15, 16, 17, 20])
def test_a_box_of_the_smallest_side_is_used(min_size):
    network = Counting()
    boxes = Boxes(np.array([(0, 0, width, height) for height, width in SIDES]), -np.arange(len(SIDES)))
    settings = {"max_proposals": 50, "min_size": min_size, "enlarge": 1.0, "crop_side": 24}
    predictor = Predictor(network, labels=LabelSpace(("a", "b")), proposals=settings, propose=lambda image: boxes)
    predictor.predict(np.zeros((40, 40, 3), np.uint8))
    assert network.seen == sum(min(sides) >= min_size for sides in SIDES)
