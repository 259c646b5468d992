"""How doubtful a mask is: its laws, and an independent computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upscore.inference.tile_grid import Window
from upscore.review.doubt import MIN_PROB, TAIL, GivenSink, doubt

PROBS = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.floats(0, 1))


def by_hand(probs):
    """Sort in Python, in double precision."""
    known = sorted(float(p) for p in probs.ravel() if not math.isnan(p))
    worst = known[: max(1, round(TAIL * len(known)))]
    return -sum(math.log(max(p, MIN_PROB)) for p in worst) / len(worst)


@given(PROBS)
def test_it_is_the_mean_over_the_worst_pixels(probs):
    assert doubt(probs) == pytest.approx(by_hand(probs), abs=1e-9)


def test_several_worst_pixels_of_a_large_image_count():
    probs = np.random.default_rng(0).random((40, 50))  # six of them
    assert doubt(probs) == pytest.approx(by_hand(probs), rel=1e-9)


@given(PROBS, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_more_probable_label_never_raises_it(probs, seed, rise):
    at = tuple(np.random.default_rng(seed).integers(0, probs.shape))
    raised = probs.copy()
    raised[at] += (1 - raised[at]) * rise
    assert doubt(raised) <= doubt(probs) + 1e-12


def test_certain_labels_are_not_doubtful_and_ignored_ones_do_not_count():
    assert doubt(np.ones((3, 4))) == 0
    assert math.isnan(doubt(np.full((3, 4), np.nan)))
    probs = np.random.default_rng(1).random((20, 20))
    beside = np.concatenate([probs, np.full((20, 9), np.nan)], axis=1)
    assert doubt(beside) == doubt(probs)


def probabilities(classes, size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), size).astype(np.float32)).permute(2, 0, 1)


def test_the_sink_reads_the_labels_probability_window_by_window():
    probs, label = probabilities(3, (6, 7)), np.random.default_rng(1).integers(0, 3, (6, 7)).astype(np.uint8)
    label[2, 3] = 255
    sink = GivenSink(label)
    for window in (Window(0, 0, 6, 4), Window(0, 4, 6, 7)):
        sink.write(window, probs[(slice(None), *window.slices)])
    assert math.isnan(sink.given_probs[2, 3])
    for y, x in np.argwhere(label != 255):
        assert sink.given_probs[y, x] == probs[label[y, x], y, x]
    np.testing.assert_array_equal(sink.predicted, probs.argmax(0))
    np.testing.assert_array_equal(sink.predicted_probs, probs.amax(0))


def test_the_order_of_the_classes_does_not_matter():
    probs, label, order = probabilities(4, (8, 9)), np.random.default_rng(2).integers(0, 4, (8, 9)).astype(np.uint8), [2, 0, 3, 1]
    renamed = np.argsort(order)[label].astype(np.uint8)
    one, two = GivenSink(label), GivenSink(renamed)
    one.write(Window(0, 0, 8, 9), probs)
    two.write(Window(0, 0, 8, 9), probs[order])
    assert doubt(one.given_probs) == doubt(two.given_probs)
