"""Which tiles an image gets: within the memory a device has, whatever the scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from upscore.inference import tile_choice
from upscore.inference.predictor import Predictor
from upscore.inference.tile_choice import TileContext, choose_tiles
from upscore.ops.geometry import Geometry
from upscore.settings import InferenceSettings
from upscore.types import LabelSpace

CPU = torch.device("cpu")
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
    Predictor(network, labels=LabelSpace(("a", "b")), scales=scales).predict(np.zeros((*size, 3), np.uint8))
    assert max(network.pixels) <= MAX_PIXELS
    fits = size[0] * size[1] * max(1.0, *scales) ** 2 <= MAX_PIXELS
    assert (len(network.pixels) == len(scales)) == fits, "what fits is labelled whole"


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 2.0), (1.5,)])
@pytest.mark.parametrize("context", [TileContext(32, 32, 4), TileContext(None, 32, 4)])
def test_auto_tiles_are_within_the_budget_at_the_largest_scale(context: TileContext, scales: tuple[float, ...]):
    """Twice the scale is four times the pixels."""
    settings, budget = InferenceSettings(scales=scales), tile_choice.WHOLE_PIXELS["cpu"] / max(1.0, *scales) ** 2
    whole = int(budget**0.5)
    assert choose_tiles((whole, whole), context, settings, CPU).tile == whole
    tiles = choose_tiles((whole + 2, whole), context, settings, CPU)
    assert tiles.tile < whole
    side = tiles.tile + 2 * (tiles.margin or 0)
    assert budget / 4 < side**2 <= budget
    assert tiles.tile % 32 == 0


def test_an_image_within_one_tile_is_whole_whatever_the_margin():
    for tile in (64, 65, 100):
        settings = InferenceSettings(tile=tile)
        assert choose_tiles((64, 40), TileContext(None, 32, 1), settings, CPU)[:2] == (64, 0)
        assert choose_tiles((64, 40), TileContext(16, 32, 1), settings, CPU)[:2] == (64, 0)
    assert choose_tiles((9000, 9000), TileContext(16, 32, 1), InferenceSettings(tile="whole"), CPU)[:2] == (9000, 0)


@pytest.mark.parametrize("receptive_field", [101, 401, 601])
def test_a_network_sees_no_more_pixels_than_it_may_with_the_margins_of_its_tiles(receptive_field):
    network = Watched(receptive_field)
    Predictor(network, labels=LabelSpace(("a", "b"))).predict(np.zeros((2900, 2800, 3), np.uint8))
    assert 0.5 * MAX_PIXELS < max(network.pixels) <= MAX_PIXELS
