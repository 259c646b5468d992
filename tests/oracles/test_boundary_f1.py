"""SegNet's BF score against its definition: boundaries pixel by pixel, and an assignment of all pairs of boundary pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from upscore.errors import DataError, RecipeError
from upscore.metrics import BoundaryF1Counts
from upscore.metrics.boundary_f1 import boundary_f1, class_boundary
from upscore.types import LabelSpace


def boundary_by_definition(region, valid):
    height, width = region.shape
    found = np.zeros_like(region)
    for y in range(height):
        for x in range(width):
            square = [(a, b) for a in (y, y + 1) for b in (x, x + 1) if a < height and b < width and valid[a, b]]
            found[y, x] = len({bool(region[place]) for place in square}) == 2
    return found


def f1_by_definition(true, found, distance):
    a, b = np.argwhere(true), np.argwhere(found)
    if not len(a) + len(b):
        return math.nan
    near = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) <= distance if len(a) and len(b) else np.zeros((len(a), len(b)))
    matched = near[linear_sum_assignment(-near.astype(float))].sum()
    precision, recall = matched / len(b) if len(b) else 0, matched / len(a) if len(a) else 0
    return 2 * precision * recall / (precision + recall) if matched else 0.0


label_maps = arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 0, 1, 1, 2, 255]))
predictions = arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 3]))


@given(arrays(np.bool_, (6, 7)), arrays(np.bool_, (6, 7)), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.7]))
@settings(max_examples=80)
def test_matching_is_the_best_assignment(true, found, distance):
    assert boundary_f1(true, found, distance) == pytest.approx(f1_by_definition(true, found, distance), nan_ok=True)


@pytest.mark.parametrize(("offset", "distance", "expected"), [((1, 1), 1.0, 0), ((1, 1), 1.5, 1), ((0, 2), 2.0, 1), ((2, 1), 2.0, 0)])
def test_distances_are_euclidean(offset, distance, expected):
    true, found = np.zeros((2, 5, 5), bool)
    true[1, 1] = found[1 + offset[0], 1 + offset[1]] = True
    assert boundary_f1(true, found, distance) == f1_by_definition(true, found, distance) == expected


@given(st.lists(st.tuples(label_maps, predictions), min_size=1, max_size=3), st.sampled_from([0.05, 0.15, 0.3]))
@settings(max_examples=40)
def test_the_score_is_the_mean_over_classes_and_then_images(pairs, tolerance):
    counts = BoundaryF1Counts(4, tolerance=tolerance)
    of_truth, either = [], []
    for truth, predicted in pairs:
        counts.add(truth, predicted)
        valid, scores, others = truth != 255, [], []
        for k in range(4):
            true, found = (boundary_by_definition(label_map == k, valid) for label_map in (truth, predicted))
            np.testing.assert_array_equal(class_boundary(truth == k, valid), true)
            if true.any() or found.any():
                (scores if true.any() else others).append(f1_by_definition(true, found, tolerance * math.hypot(7, 9)))
        of_truth += [np.mean(scores)] if scores else []
        either += [np.mean(scores + others)] if scores + others else []
    metrics = counts.metrics()
    assert metrics.mean == pytest.approx(np.mean(of_truth) if of_truth else math.nan, nan_ok=True)
    assert metrics.mean_over_either == pytest.approx(np.mean(either) if either else math.nan, nan_ok=True)


def test_shards_add_up_whatever_their_order():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 3, (2, 8, 9)).astype(np.uint8) for _ in range(5)]
    whole, shards = BoundaryF1Counts(3), [BoundaryF1Counts(3), BoundaryF1Counts(3)]
    for index, (truth, predicted) in enumerate(images):
        whole.add(truth, predicted)
        shards[index % 2].add(truth, predicted)
    shards[1] += shards[0]
    labels = LabelSpace(("a", "b", "c"))
    assert whole.metrics().as_dict(labels) == shards[1].metrics().as_dict(labels)


def test_impossible_settings_are_refused():
    with pytest.raises(RecipeError, match="tolerance of 0"):
        BoundaryF1Counts(2, tolerance=0)
    with pytest.raises(DataError, match="expected one image"):
        BoundaryF1Counts(2).add(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8))
