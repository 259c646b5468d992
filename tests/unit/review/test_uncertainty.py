"""Entropy and mean probabilities, from windows."""

import numpy as np
import pytest
import torch

from upscore.inference.tile_grid import Window
from upscore.review.uncertainty import GRID, UncertaintySink, top_mean


def filled(probs, *windows):
    sink = UncertaintySink(probs.shape[0], probs.shape[1:])
    for window in windows:
        sink.write(window, probs[(slice(None), *window.slices)])
    return sink


def test_windows_give_what_the_whole_gives():
    probs = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(3), (13, 17)).astype(np.float32)).permute(2, 0, 1)
    whole = filled(probs, Window(0, 0, 13, 17))
    parts = filled(probs, Window(0, 0, 5, 17), Window(5, 0, 13, 9), Window(5, 9, 13, 17))
    np.testing.assert_array_equal(whole.label_map, parts.label_map)
    np.testing.assert_array_equal(whole.entropy, parts.entropy)
    np.testing.assert_allclose(whole.descriptor(), parts.descriptor(), rtol=1e-9)
    double = probs.double()
    np.testing.assert_allclose(whole.entropy, -(double * double.log()).sum(0) / np.log(3), atol=1e-6)
    assert whole.uncertainty() == pytest.approx(np.sort(whole.entropy.ravel())[-22:].mean(), rel=1e-6)


def test_cells_hold_the_mean_of_their_pixels():
    probs = torch.zeros(2, 8, 8)
    probs[1, :2, 2:4] = 1
    probs[0] = 1 - probs[1]
    cells = filled(probs, Window(0, 0, 8, 8)).descriptor().reshape(2, GRID, GRID)
    assert cells[1].tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    np.testing.assert_array_equal(cells.sum(0), 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_tiny_images_and_certainty(size):
    sink = filled(torch.full((2, *size), 0.5), Window(0, 0, *size))
    assert sink.uncertainty() == pytest.approx(1)
    assert len(sink.descriptor()) == 2 * GRID * GRID
    certain = filled(torch.stack([torch.ones(size), torch.zeros(size)]), Window(0, 0, *size))
    assert certain.uncertainty() == 0


def test_the_largest_values_count():
    assert top_mean(np.arange(10.0), 0.2) == 8.5
