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
    assert class_weights(torch.tensor([5, 1]), torch.tensor([6, 6]), weighting="none").tolist() == [1, 1]
    assert class_weights(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), weighting="median").tolist() == [1, 1, 1]


def test_impossible_counts_are_refused():
    with pytest.raises(RecipeError, match="found class weighting 'focal', expected one of none, median, enet, inverse"):
        class_weights(torch.ones(2), torch.ones(2), weighting="focal")
    with pytest.raises(DataError, match=r"shapes \(2,\) and \(3,\)"):
        class_weights(torch.ones(2), torch.ones(3))
    for pixels in ([5, -1], [7, 0]):
        with pytest.raises(DataError, match="count both over the same images"):
            class_weights(torch.tensor(pixels), torch.tensor([6, 6]))


@pytest.mark.parametrize("numbers", [[0, 1.5, 4], (0.0, 1.5, 4.0), np.array([0, 1.5, 4]), torch.tensor([0, 1.5, 4])])
def test_numbers_are_the_weights_themselves(numbers):
    weights = class_weights(torch.tensor([5, 0, 1]), torch.tensor([6, 0, 6]), weighting=numbers)
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0, 1.5, 4]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([1.0], "found 1 class weights for 2 classes"), *(([1.0, x], "at least 0, not all 0") for x in (-1.0, float("nan"), float("inf")))],
)
def test_wrong_numbers_are_refused(numbers, words):
    with pytest.raises(RecipeError, match=words):
        class_weights(torch.ones(2), torch.ones(2), weighting=numbers)


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(RecipeError, match="not all 0"):
        class_weights(torch.ones(2), torch.ones(2), weighting=[0, 0])
