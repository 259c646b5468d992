"""What ``tile="auto"`` lets a network see at once: about so many pixels, at whatever scale."""

import numpy as np
import pytest
from torch import nn

from upscore.inference.predictor import Predictor
from upscore.ops.geometry import Geometry
from upscore.types import LabelSpace

MAX_PIXELS = 1_500_000
"""On a processor."""


class Watched(nn.Module):
    stride = 1

    def __init__(self, receptive_field=1):
        super().__init__()
        self.geometry = Geometry(receptive_field=receptive_field)
        self.pixels = []

    def forward(self, images):
        self.pixels.append(images.shape[-2] * images.shape[-1])
        return images[:, :2]


@pytest.mark.parametrize("scales", [(1.0,), (2.0,), (1.0, 1.5), (0.5,)])
@pytest.mark.parametrize("size", [(300, 1000), (600, 1000), (1100, 1000), (1600, 1000)])
def test_a_network_sees_no_more_pixels_than_it_may(scales, size):
    network = Watched()
    Predictor.of(network, LabelSpace(("a", "b")), scales=scales).predict(np.zeros((*size, 3), np.uint8))
    assert max(network.pixels) <= MAX_PIXELS
    fits = size[0] * size[1] * max(1.0, *scales) ** 2 <= MAX_PIXELS
    assert (len(network.pixels) == len(scales)) == fits, "what fits is labelled whole"


@pytest.mark.parametrize("receptive_field", [101, 401, 601])
def test_a_network_sees_no_more_pixels_than_it_may_with_the_margins_of_its_tiles(receptive_field):
    network = Watched(receptive_field)
    Predictor.of(network, LabelSpace(("a", "b"))).predict(np.zeros((2900, 2800, 3), np.uint8))
    assert 0.5 * MAX_PIXELS < max(network.pixels) <= MAX_PIXELS
