"""Class weights: what they read and refuse."""

import numpy as np
import pytest
import torch

from upscore.errors import DataError, RecipeError
from upscore.losses import class_weights


def test_class_weights_read_numpy_counts_too():
    pixels, where = np.array([10, 30]), np.array([40, 40])
    assert torch.equal(class_weights(pixels, where), class_weights(torch.from_numpy(pixels), torch.from_numpy(where)))


def test_no_weighting_and_no_pixels_weigh_one():
    assert class_weights(torch.tensor([5, 1]), torch.tensor([6, 6]), method="none").tolist() == [1, 1]
    assert class_weights(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), method="median").tolist() == [1, 1, 1]


def test_impossible_counts_are_refused():
    with pytest.raises(RecipeError, match="found class weighting 'focal', expected one of none, median, enet, inverse"):
        class_weights(torch.ones(2), torch.ones(2), method="focal")
    with pytest.raises(DataError, match=r"shapes \(2,\) and \(3,\)"):
        class_weights(torch.ones(2), torch.ones(3))
    for pixels in ([5, -1], [7, 0]):
        with pytest.raises(DataError, match="count both over the same images"):
            class_weights(torch.tensor(pixels), torch.tensor([6, 6]))
