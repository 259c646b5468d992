"""What must hold for the metrics of borders, and their definition written out pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.errors import DataError, RecipeError
from upscore.metrics import ABSENT_POLICIES, BorderCounts
from upscore.types import LabelSpace

law = settings(deadline=None, max_examples=60)
CLASSES = 4


@st.composite
def pairs(draw, classes=CLASSES):
    """(truth, predicted): blocks of a few pixels, with ignored pixels; up to 14 pixels a side."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    h, w, block = (draw(st.integers(1, most)) for most in (14, 14, 6))
    truth, predicted = (
        rng.integers(classes, size=(h, w)).astype(np.uint8).repeat(block, 0).repeat(block, 1)[:h, :w].copy() for _ in range(2)
    )
    if draw(st.booleans()):
        predicted = np.roll(truth, draw(st.integers(0, 3)), axis=1)
    truth[rng.random(truth.shape) < draw(st.sampled_from([0, 0, 0.05, 0.5]))] = 255
    return truth, predicted


shares, widths = st.sampled_from([0.02, 0.1, 0.3]), st.integers(1, 6)


def counts_of(*images, classes=CLASSES, share=0.1, width=2):
    counts = BorderCounts(classes, diagonal_fraction=share, trimap_width=width)
    for truth, predicted in images:
        counts.add(truth, predicted)
    return counts


def close(shape, place, reach):
    """Every pixel at most ``reach`` from ``place``, those outside the image too."""
    for y in range(place[0] - reach, place[0] + reach + 1):
        for x in range(place[1] - reach, place[1] + reach + 1):
            yield (y, x), 0 <= y < shape[0] and 0 <= x < shape[1]


def boundary(mask, evaluated, reach):
    """The mask's pixels from which an evaluated pixel that is not the mask's, or the outside, is near."""
    return {
        place
        for place in zip(*np.nonzero(mask & evaluated), strict=True)
        if any(not inside or (evaluated[other] and not mask[other]) for other, inside in close(mask.shape, place, reach))
    }


@law
@given(pairs(), shares, widths)
def test_counts_are_those_of_the_definition(pair, share, width):
    truth, predicted = pair
    evaluated = truth != 255
    counts = counts_of(pair, share=share, width=width)
    reach = max(1, round(share * (truth.shape[0] ** 2 + truth.shape[1] ** 2) ** 0.5))
    for label in range(CLASSES):
        true, said = boundary(truth == label, evaluated, reach), boundary(predicted == label, evaluated, reach)
        assert (counts.intersection[label], counts.union[label], counts.truth[label]) == (len(true & said), len(true | said), len(true))
    trimap = np.zeros((CLASSES, CLASSES), np.int64)
    for place in zip(*np.nonzero(evaluated), strict=True):
        around = close(truth.shape, place, width)
        if any(inside and evaluated[other] and truth[other] != truth[place] for other, inside in around):
            trimap[truth[place], predicted[place]] += 1
    np.testing.assert_array_equal(counts.trimap.counts, trimap)


@law
@given(pairs(), st.sampled_from(["union", "present"]))
def test_a_perfect_prediction_scores_one(pair, absent):
    truth, _ = pair
    counts = counts_of((truth, np.where(truth == 255, 3, truth).astype(np.uint8)))
    metrics = counts.metrics(absent)
    for value, there in ((metrics.boundary_iou, counts.truth.any()), (metrics.trimap_iou, counts.trimap.counts.any())):
        assert value == 1 if there else np.isnan(value)


@law
@given(pairs(), pairs())
def test_adding_counts_is_counting_both(one, two):
    together = counts_of(one, two)
    assert counts_of(one) + counts_of(two) == together == counts_of(two, one)
    total = counts_of(one)
    total += counts_of(two)
    assert total == together


@law
@given(pairs(), st.permutations(range(CLASSES)), st.sampled_from(list(ABSENT_POLICIES)))
def test_renaming_classes_changes_no_mean(pair, order, absent):
    names = np.arange(256, dtype=np.uint8)
    names[:CLASSES] = order
    before, after = counts_of(pair), counts_of((names[pair[0]], names[pair[1]]))
    np.testing.assert_array_equal(after.intersection[order], before.intersection)
    np.testing.assert_array_equal(after.union[order], before.union)
    for name in ("boundary_iou", "trimap_iou"):
        assert getattr(before.metrics(absent), name) == pytest.approx(getattr(after.metrics(absent), name), nan_ok=True)


@law
@given(pairs(), st.integers(0, 9999))
def test_what_is_predicted_where_nothing_is_evaluated_changes_nothing(pair, seed):
    truth, predicted = pair
    other = predicted.copy()
    other[truth == 255] = np.random.default_rng(seed).integers(0, 256, int((truth == 255).sum()))
    assert counts_of((truth, other)) == counts_of(pair)


@law
@given(pairs(), widths)
def test_mirroring_changes_nothing_and_a_wider_trimap_holds_the_narrower(pair, width):
    truth, predicted = pair
    assert counts_of((truth[::-1, ::-1], predicted[::-1, ::-1])) == counts_of(pair)
    assert counts_of((truth.T, predicted.T)) == counts_of(pair)
    narrow, wide = (counts_of(pair, width=w).trimap.counts for w in (width, width + 1))
    assert (narrow <= wide).all()
    assert counts_of(pair, share=1, width=14).union.sum() > 0 or (truth == 255).all()


def test_a_shifted_object_scores_less_at_its_border_than_inside():
    truth, predicted = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    truth[20:70, 20:70], predicted[20:70, 22:72] = 1, 1
    metrics = counts_of((truth, predicted), classes=2, share=0.02, width=3).metrics()
    # Of rings 3 pixels wide, 2 of the 3 to the left and to the right are missed; the arithmetic is by hand.
    assert metrics.class_boundary_iou[1] == pytest.approx((3 * 48 * 2 + 44 * 1 * 2) / (2 * (50**2 - 44**2) - (3 * 48 * 2 + 44 * 1 * 2)))
    assert metrics.class_boundary_iou[1] < 0.6 < 48 / 52


def test_edges_and_ignored_strips():
    """The image's edge is a border for boundary IoU alone; a class that meets ignored pixels has none there."""
    plain = np.ones((9, 9), np.uint8)
    counts = counts_of((plain, plain), share=0.16, width=2)
    assert counts.truth.tolist() == [0, 81 - 25, 0, 0]
    assert counts.trimap.counts.sum() == 0
    for strip, seen in ((2, True), (3, False)):
        truth = np.repeat(np.array([0] * 6 + [255] * strip + [1] * 6, np.uint8)[None], 40, 0)
        counts = counts_of((truth, np.zeros_like(truth)), share=0.02, width=3)
        assert bool(counts.trimap.counts.any()) is seen


def test_scores_become_json_and_say_their_policy():
    metrics = counts_of((np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8)), classes=2).metrics()
    written = metrics.as_dict(LabelSpace(("sky", "road")))
    assert (written["boundary_iou"], written["trimap_iou"]) == (1, None)
    assert written["classes"]["road"] == {"boundary_iou": None, "trimap_iou": None}
    assert "10 % of the diagonal" in written["policy"]
    assert "2 pixels" in written["policy"]
    with pytest.raises(DataError, match="found 1 class names"):
        metrics.as_dict(LabelSpace(("sky",)))


def test_what_does_not_fit_is_refused_and_nothing_is_counted():
    counts, empty = BorderCounts(2), BorderCounts(2)
    for truth, predicted in (([[3]], [[0]]), ([[0]], [[2]]), ([[0, 1]], [[0]])):
        with pytest.raises(DataError, match="expected"):
            counts.add(np.array(truth, np.uint8), np.array(predicted, np.uint8))
    counts.add(np.zeros((0, 5), np.uint8), np.zeros((0, 5), np.uint8))
    assert counts == empty
    assert np.isnan(counts.metrics().boundary_iou)
    assert counts != 3
    assert repr(counts) == "BorderCounts(2 classes, 0 boundary pixels, 0 in the trimap)"
    for other in (BorderCounts(3), BorderCounts(2, diagonal_fraction=0.0201), BorderCounts(2, trimap_width=9)):
        with pytest.raises(DataError, match="expected the same"):
            counts + other
    for wrong in ({"diagonal_fraction": 0}, {"diagonal_fraction": 1.5}, {"trimap_width": 0}, {"diagonal_fraction": float("nan")}):
        with pytest.raises(RecipeError, match="diagonal"):
            BorderCounts(2, **wrong)
    with pytest.raises(RecipeError, match="policy"):
        counts.metrics("skip")
