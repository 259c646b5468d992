"""How doubtful a mask is: its laws, and an independent computation."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upscore.inference.tile_grid import Window
from upscore.review.doubt import BORDER, MIN_PROB, TEMPERATURE, Doubt, GivenSink, combined_doubt, measure_doubt

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
SEEDS = st.integers(0, 2**32 - 1)


def drawn(size, seed, ignored=0.1):
    """Return a label map, a predicted one and the probabilities of the labels, with blobs of three classes."""
    rng = np.random.default_rng(seed)
    label, predicted = (np.kron(rng.integers(0, 3, (4, 4)), np.ones((3, 3)))[: size[0], : size[1]].astype(np.uint8) for _ in range(2))
    label[rng.random(size) < ignored] = 255
    probs = np.where(label == 255, np.nan, np.where(label == predicted, rng.uniform(0.5, 1, size), rng.uniform(0, 0.5, size)))
    return label, predicted, probs


def neighbours(y, x, size):
    for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
        if 0 <= row < size[0] and 0 <= column < size[1]:
            yield row, column


def by_hand(label, predicted, probs):
    """Compute the three measures pixel by pixel."""
    size = label.shape
    known = {(y, x) for y, x in np.ndindex(size) if label[y, x] != 255}
    surprise = {at: -math.log(max(float(probs[at]), MIN_PROB)) for at in known}
    weights = {at: math.exp((1 - float(probs[at])) / TEMPERATURE) for at in known}
    pixels = sum((1 - float(probs[at])) * weights[at] for at in known) / sum(weights.values())
    total, length = 0.0, 0
    for classes in (label, predicted):
        border = {at for at in known if any(n in known and classes[n] != classes[at] for n in neighbours(*at, size))}
        near = {at for at in known if any(max(abs(at[0] - y), abs(at[1] - x)) <= BORDER for y, x in border)}
        total, length = total + sum(surprise[at] for at in near), length + len(border)
    left, region = {at for at in known if label[at] != predicted[at]}, 0.0
    differs = set(left)
    while left:
        stack, found = [left.pop()], []
        while stack:
            found.append(stack.pop())
            reached = left & set(neighbours(*found[-1], size))
            left -= reached
            stack += reached
        outline = sum(len(differs & set(neighbours(*at, size))) < 4 for at in found)
        region = max(region, sum(surprise[at] for at in found) / max(8, outline))
    return pixels, total / max(1, length), region


@given(SIZES, SEEDS)
def test_the_measures_are_those_of_a_plain_computation(size, seed):
    label, predicted, probs = drawn(size, seed)
    found = measure_doubt(label, predicted, probs)
    if (label == 255).all():
        assert found is None
    else:
        assert found == pytest.approx(by_hand(label, predicted, probs), rel=1e-9, abs=1e-12)


@given(SIZES, SEEDS, st.floats(0, 1))
def test_a_more_probable_label_raises_neither_borders_nor_region(size, seed, rise):
    label, predicted, probs = drawn(size, seed, ignored=0)
    before = measure_doubt(label, predicted, probs)
    at = tuple(np.random.default_rng(seed).integers(0, size))
    probs[at] += (1 - probs[at]) * rise
    after = measure_doubt(label, predicted, probs)
    assert after.borders <= before.borders + 1e-12
    assert after.region <= before.region + 1e-12


@given(SIZES, SEEDS)
def test_ignored_pixels_beside_do_not_count(size, seed):
    label, predicted, probs = drawn(size, seed)
    beside = [
        np.concatenate([plane, np.full((size[0], 5), value, plane.dtype)], axis=1)
        for plane, value in ((label, 255), (predicted, 2), (probs, np.nan))
    ]
    before, after = measure_doubt(label, predicted, probs), measure_doubt(*beside)
    assert (before is None) == (after is None)
    if before is not None:
        assert after == pytest.approx(before, rel=1e-12)


def test_certain_labels_are_not_doubtful_and_an_ignored_mask_is_not_measured():
    label = np.zeros((9, 9), np.uint8)
    label[2:6, 3:8] = 1
    assert measure_doubt(label, label, np.ones((9, 9))) == (0, 0, 0)
    assert measure_doubt(np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8), np.full((3, 4), np.nan)) is None


def test_probabilities_of_zero_are_finite():
    label = np.zeros((9, 9), np.uint8)
    label[:, 4:] = 1
    found = measure_doubt(label, 1 - label, np.zeros((9, 9)))
    assert found.pixels == 1
    assert found.region == pytest.approx(81 * -math.log(MIN_PROB) / 32)  # one region, whose outline is the image's
    assert found.borders == pytest.approx(9 * 6 * -math.log(MIN_PROB) / 18)


@pytest.mark.parametrize(
    ("measure", "damage"),
    [
        ("borders", lambda m: np.roll(m, 2, 1)),
        ("borders", lambda m: cv2.dilate(m, np.ones((5, 5)))),
        ("borders", lambda m: cv2.erode(m, np.ones((5, 5)))),
        ("region", lambda m: np.zeros_like(m)),
        ("region", lambda m: np.where(cv2.erode(m, np.ones((9, 9))) > 0, 0, m)),
    ],
    ids=["shifted", "dilated", "eroded", "dropped", "hole"],
)
def test_each_kind_of_damage_shows_most_in_its_measure(measure, damage):
    right = np.zeros((60, 60), np.uint8)
    right[20:40, 15:45] = 1
    soft = cv2.GaussianBlur(right.astype(np.float64), (0, 0), 1)
    measured = {
        name: measure_doubt(mask, right, np.where(mask == 1, soft, 1 - soft).clip(1e-3, 1))
        for name, mask in (("clean", right), ("damaged", damage(right).astype(np.uint8)))
    }
    assert getattr(measured["damaged"], measure) > 2 * getattr(measured["clean"], measure)
    assert (measured["damaged"].region > 2 * measured["damaged"].borders) == (measure == "region")


MEASURED = st.lists(st.none() | st.builds(Doubt, *(st.floats(0, 1e3),) * 3), min_size=1, max_size=9)


@given(MEASURED, SEEDS)
def test_combined_doubt_does_not_depend_on_the_order(measured, seed):
    order = np.random.default_rng(seed).permutation(len(measured))
    np.testing.assert_allclose(combined_doubt([measured[i] for i in order]), combined_doubt(measured)[order], atol=1e-6)


@given(st.lists(st.builds(Doubt, *(st.floats(0.01, 1e3),) * 3), min_size=1, max_size=9), st.floats(0.1, 10))
def test_combined_doubt_does_not_depend_on_the_scale_of_a_measure(measured, factor):
    scaled = [Doubt(each.pixels, each.borders * factor, each.region) for each in measured]
    np.testing.assert_allclose(combined_doubt(scaled), combined_doubt(measured), rtol=1e-4, atol=1e-4)


def test_a_measure_in_standard_deviations():
    rng = np.random.default_rng(0)
    logs = rng.normal(0, [0.1, 1, 3], (4001, 3))
    found = combined_doubt([Doubt(*np.exp(row)) for row in logs])
    np.testing.assert_allclose(found, (logs / [0.1, 1, 3]).mean(1), atol=0.15)
    logs[:400] += 50  # masks that are beyond doubt wrong do not make the others usual
    np.testing.assert_allclose(combined_doubt([Doubt(*np.exp(row)) for row in logs])[400:], found[400:], atol=0.6)


def test_equal_images_and_single_ones_have_no_doubt_and_unmeasured_ones_no_number():
    assert combined_doubt([Doubt(0.5, 1, 2)]).tolist() == [0]
    assert combined_doubt([Doubt(0.5, 1, 2)] * 3).tolist() == [0, 0, 0]
    assert combined_doubt([]).tolist() == []
    one = combined_doubt([None, Doubt(0, 1, 1), Doubt(0, 1, 1), Doubt(0, 1, 9), Doubt(0, 1, 1), Doubt(0, 1, 1)])
    assert math.isnan(one[0])
    assert one[1] == 0 < one[3]  # more than half are equal: the standard deviation of all counts


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
    measured = [measure_doubt(sink.label, sink.predicted, sink.given_probs) for sink in (one, two)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-12)
