"""The Rand error against every pair of pixels counted one by one."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upscore.errors import DataError
from upscore.metrics import connected_components, rand_error

maps = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda size: st.tuples(arrays(np.int32, size, elements=st.integers(0, 3)), arrays(np.int32, size, elements=st.integers(0, 3)))
)


@given(maps)
def test_it_counts_pairs(pair):
    truth, predicted = (plane.ravel().tolist() for plane in pair)
    foreground = [i for i, segment in enumerate(truth) if segment]
    in_truth = {(i, j) for i, j in combinations(foreground, 2) if truth[i] == truth[j]}
    in_prediction = {(i, j) for i, j in combinations(foreground, 2) if predicted[i] == predicted[j] != 0}
    both = len(in_truth & in_prediction)
    expected = 0.0
    if in_truth or in_prediction:
        precision = both / len(in_prediction) if in_prediction else 0
        recall = both / len(in_truth) if in_truth else 0
        expected = 1 - (2 * precision * recall / (precision + recall) if both else 0)
    assert rand_error(*pair) == pytest.approx(expected, abs=1e-12)


@given(maps)
def test_numbers_of_segments_mean_nothing(pair):
    truth, predicted = pair
    renamed = np.array([0, 7, 1_000_000, 3])[predicted]
    assert rand_error(truth, renamed) == rand_error(truth, predicted)
    assert rand_error(truth, truth) == 0


def test_a_gap_of_one_pixel_costs_more_than_a_pixel():
    cells = np.ones((20, 21), bool)
    cells[:, 10] = False
    truth = connected_components(cells)
    assert truth.max() == 2
    cells[5, 10] = True
    assert connected_components(cells).max() == 1
    assert rand_error(truth, connected_components(cells)) == pytest.approx(
        1 - 2 * 2 * (200 * 199 // 2) / (2 * (200 * 199 // 2) + 400 * 399 // 2)
    )


def test_corners_do_not_connect():
    assert connected_components(np.eye(3, dtype=bool)).max() == 3


def test_large_cells_do_not_overflow():
    whole = np.ones((3000, 3000), np.int32)
    assert rand_error(whole, whole) == 0


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(DataError, match=r"found segments \(2, 2\) and \(2, 3\), expected the same size"):
        rand_error(np.ones((2, 2), int), np.ones((2, 3), int))
    with pytest.raises(DataError, match="negative segment"):
        rand_error(np.ones((2, 2), int), -np.ones((2, 2), int))
