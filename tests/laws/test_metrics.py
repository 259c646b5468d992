"""What must hold for every confusion matrix and its metrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.metrics import ABSENT_POLICIES, ConfusionMatrix

law = settings(deadline=None, max_examples=80)
policies = st.sampled_from(list(ABSENT_POLICIES))
MEANS = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou", "mean_precision", "mean_recall", "mean_f1")


@st.composite
def pairs(draw, classes=None, ignored=True):
    """(K, truth, predicted): noise, or runs of up to 40 equal pixels, with ignored pixels; maybe empty."""
    classes = draw(st.sampled_from([1, 2, 3, 21, 254, 255])) if classes is None else classes
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    h, w, run = (draw(st.integers(least, most)) for least, most in ((0, 9), (0, 9), (1, 40)))
    truth, predicted = (rng.integers(classes, size=(h, w)).astype(np.uint8).repeat(run, axis=1) for _ in range(2))
    truth[rng.random(truth.shape) < draw(st.sampled_from([0, 0.02, 1]) if ignored else st.just(0))] = 255
    predicted = np.roll(predicted, draw(st.integers(0, 40)), axis=1)
    return classes, truth, predicted


def matrix_of(classes, *images):
    matrix = ConfusionMatrix(classes)
    for truth, predicted in images:
        matrix.add(truth, predicted)
    return matrix


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@law
@given(pairs())
def test_every_pixel_is_counted_once(pair):
    classes, truth, predicted = pair
    matrix = matrix_of(classes, (truth, predicted))
    assert matrix.counts.dtype == np.int64
    assert matrix.ignored == (truth == 255).sum()
    assert matrix.counts.sum() + matrix.ignored == truth.size
    same(matrix.counts.sum(axis=1), np.bincount(truth[truth != 255], minlength=classes))
    same(matrix.counts.sum(axis=0), np.bincount(predicted[truth != 255], minlength=classes))


@law
@given(pairs(classes=5), pairs(classes=5))
def test_adding_matrices_is_counting_both(one, two):
    _, *one = one
    _, *two = two
    both = np.concatenate([one[0].ravel(), two[0].ravel()]), np.concatenate([one[1].ravel(), two[1].ravel()])
    together = matrix_of(5, both)
    assert matrix_of(5, one) + matrix_of(5, two) == matrix_of(5, two, one) == together
    total = matrix_of(5, one)
    total += matrix_of(5, two)
    assert total == together


@law
@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_pixels_is_irrelevant(pair, random):
    """Shuffling makes noise of runs, so that both ways of counting are compared."""
    classes, truth, predicted = pair
    order = np.array(random.sample(range(truth.size), truth.size), dtype=int)
    assert matrix_of(classes, (truth.ravel()[order], predicted.ravel()[order])) == matrix_of(classes, pair[1:])


@law
@given(pairs(), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_views_are_counted_like_copies(pair, down, right, flip):
    classes, truth, predicted = (x if isinstance(x, int) else x[::down, :: -right if flip else right] for x in pair)
    assert matrix_of(classes, (truth, predicted)) == matrix_of(classes, (truth.copy(), predicted.copy()))
    assert matrix_of(classes, (truth.T, predicted.T)) == matrix_of(classes, (truth, predicted))


@law
@given(pairs(classes=6), policies, st.permutations(range(6)))
def test_renaming_classes_renames_rows_and_changes_no_mean(pair, absent, order):
    classes, truth, predicted = pair
    names = np.arange(256, dtype=np.uint8)
    names[:6] = order
    before, after = (matrix_of(classes, p) for p in ((truth, predicted), (names[truth], names[predicted])))
    same(after.counts[np.ix_(order, order)], before.counts)
    a, b = before.metrics(absent=absent), after.metrics(absent=absent)
    for name in MEANS:
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-12, nan_ok=True)
    same(a.class_iou, b.class_iou[order])


@law
@given(pairs(), policies)
def test_a_perfect_prediction_scores_one(pair, absent):
    classes, truth, _ = pair
    predicted = np.where(truth == 255, 0, truth).astype(np.uint8)
    metrics = matrix_of(classes, (truth, predicted)).metrics(absent=absent)
    present = metrics.class_pixels > 0
    mean = present.mean() if absent == "all" else 1.0
    if present.any():
        assert (metrics.pixel_accuracy, metrics.frequency_weighted_iou) == (1, 1)
        for name in MEANS[1:3] + MEANS[4:]:
            assert getattr(metrics, name) == pytest.approx(mean)
        for of_class in (metrics.class_iou, metrics.class_precision, metrics.class_recall, metrics.class_f1):
            assert (of_class[present] == 1).all()
    else:
        assert all(np.isnan(getattr(metrics, name)) for name in MEANS)


@law
@given(pairs(), policies)
def test_scores_lie_between_zero_and_one_and_iou_below_accuracy(pair, absent):
    classes, truth, predicted = pair
    metrics = matrix_of(classes, (truth, predicted)).metrics(absent=absent)
    for name in MEANS:
        value = getattr(metrics, name)
        assert np.isnan(value) if not metrics.class_pixels.any() else 0 <= value <= 1
    present = metrics.class_pixels > 0
    assert (metrics.class_iou[present] <= metrics.class_accuracy[present]).all()
    assert np.isnan(metrics.class_accuracy[~present]).all()


@law
@given(pairs(), st.integers(2, 5))
def test_seeing_every_image_again_changes_no_score(pair, times):
    classes, truth, predicted = pair
    once, often = (matrix_of(classes, *[(truth, predicted)] * n).metrics() for n in (1, times))
    for name in MEANS:
        assert getattr(once, name) == pytest.approx(getattr(often, name), rel=1e-12, nan_ok=True)


@law
@given(pairs(ignored=False))
def test_policies_agree_where_every_class_occurs(pair):
    classes, truth, predicted = pair
    every = np.arange(classes, dtype=np.uint8)
    matrix = matrix_of(classes, (truth, predicted), (every, every[::-1]))
    union, present, whole = (matrix.metrics(absent=policy) for policy in ("union", "present", "all"))
    for name in MEANS:
        assert getattr(union, name) == getattr(present, name) == getattr(whole, name)


@law
@given(pairs(ignored=False))
def test_policies_are_ordered(pair):
    classes, truth, predicted = pair
    if truth.size:
        union, present, whole = (matrix_of(classes, (truth, predicted)).metrics(absent=p).mean_iou for p in ("union", "present", "all"))
        assert whole <= union + 1e-15
        assert union <= present + 1e-15


@law
@given(pairs(), policies)
def test_precision_recall_f1_and_iou_belong_together(pair, absent):
    """F1 is their harmonic mean and a function of IoU; where one of them is undefined and F1 is not, F1 is 0."""
    classes, truth, predicted = pair
    metrics = matrix_of(classes, (truth, predicted)).metrics(absent=absent)
    precision, recall, f1, iou = metrics.class_precision, metrics.class_recall, metrics.class_f1, metrics.class_iou
    np.testing.assert_allclose(f1, 2 * iou / (1 + iou), rtol=1e-12)
    found = iou > 0
    np.testing.assert_allclose(f1[found], 2 * precision[found] * recall[found] / (precision + recall)[found], rtol=1e-12)
    assert not f1[(np.isnan(precision) | np.isnan(recall)) & ~np.isnan(f1)].any()
    same(np.isnan(f1), np.isnan(precision) & np.isnan(recall))
    same(recall, metrics.class_accuracy)
    if absent != "union" and truth.size:
        assert metrics.mean_recall == pytest.approx(metrics.mean_accuracy, nan_ok=True)
    assert np.isnan(metrics.mean_recall) or metrics.mean_recall <= metrics.mean_accuracy + 1e-12


@law
@given(pairs(classes=4, ignored=False))
def test_exchanging_truth_and_prediction_exchanges_precision_and_recall(pair):
    classes, truth, predicted = pair
    forth, back = (matrix_of(classes, images).metrics() for images in ((truth, predicted), (predicted, truth)))
    same(forth.class_precision, back.class_recall)
    same(forth.class_f1, back.class_f1)
    assert (forth.mean_precision, forth.mean_f1) == pytest.approx((back.mean_recall, back.mean_f1), nan_ok=True)
