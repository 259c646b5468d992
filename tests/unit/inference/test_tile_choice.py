"""Which tiles an image gets: within the memory a device has, whatever the scales."""

from __future__ import annotations

import pytest
import torch

from upscore.inference import tile_choice
from upscore.inference.tile_choice import TileContext, choose_tiles
from upscore.settings import InferenceSettings

CPU = torch.device("cpu")


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
