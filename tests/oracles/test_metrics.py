"""Counts and metrics against loops over pixels and classes, and against the FCN paper's formulas done by hand."""

import math

import numpy as np
import pytest

from upscore.metrics import ConfusionMatrix


def count_slowly(classes, truth, predicted):
    counts, ignored = [[0] * classes for _ in range(classes)], 0
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if t == 255:
            ignored += 1
        else:
            counts[t][p] += 1
    return counts, ignored


def score_slowly(counts, absent):
    """Means over Python lists; follows the definitions, class by class."""
    classes = range(len(counts))
    truth = [sum(counts[i]) for i in classes]
    predicted = [sum(counts[i][j] for i in classes) for j in classes]
    hits = [counts[i][i] for i in classes]
    union = [truth[i] + predicted[i] - hits[i] for i in classes]
    chosen = {"union": [i for i in classes if union[i]], "present": [i for i in classes if truth[i]], "all": list(classes)}[absent]
    recalled = list(classes) if absent == "all" else [i for i in classes if truth[i]]
    return {
        "pixel_accuracy": sum(hits) / sum(truth),
        "mean_accuracy": sum(hits[i] / truth[i] if truth[i] else 0 for i in recalled) / len(recalled),
        "mean_iou": sum(hits[i] / union[i] if union[i] else 0 for i in chosen) / len(chosen),
        "frequency_weighted_iou": sum(truth[i] * hits[i] / union[i] for i in classes if truth[i]) / sum(truth),
    }


def retrieve_slowly(classes, truth, predicted, absent):
    """Precision, recall and F1 from sets of pixels, nothing shared with a confusion matrix."""
    valid = {place for place in np.ndindex(truth.shape) if truth[place] != 255}
    relevant = [{place for place in valid if truth[place] == k} for k in range(classes)]
    retrieved = [{place for place in valid if predicted[place] == k} for k in range(classes)]
    precision = [len(a & b) / len(b) if b else math.nan for a, b in zip(relevant, retrieved, strict=True)]
    recall = [len(a & b) / len(a) if a else math.nan for a, b in zip(relevant, retrieved, strict=True)]
    f1 = [2 * len(a & b) / (len(a) + len(b)) if a or b else math.nan for a, b in zip(relevant, retrieved, strict=True)]
    averaged = {"union": [bool(a or b) for a, b in zip(relevant, retrieved, strict=True)], "present": [bool(a) for a in relevant]}
    chosen = np.flatnonzero(averaged.get(absent, [True] * classes))
    means = [sum(0 if math.isnan(values[k]) else values[k] for k in chosen) / len(chosen) for values in (precision, recall, f1)]
    return (precision, recall, f1), means


@pytest.mark.parametrize("absent", ["union", "present", "all"])
@pytest.mark.parametrize("seed", range(8))
def test_precision_recall_and_f1_equal_those_of_sets_of_pixels(seed, absent):
    rng = np.random.default_rng(seed)
    truth, predicted = (rng.choice(rng.permutation(7)[:4], size=(9, 11)).astype(np.uint8) for _ in range(2))
    truth[rng.random(truth.shape) < 0.2] = 255
    matrix = ConfusionMatrix(7)
    matrix.add(truth, predicted)
    metrics = matrix.metrics(absent=absent)
    of_classes, means = retrieve_slowly(7, truth, predicted, absent)
    for name, values, mean in zip(("precision", "recall", "f1"), of_classes, means, strict=True):
        np.testing.assert_allclose(getattr(metrics, f"class_{name}"), values, rtol=1e-12)
        assert getattr(metrics, f"mean_{name}") == pytest.approx(mean, rel=1e-12)


def blobs(rng, classes, h, w, patch):
    coarse = rng.integers(classes, size=(-(-h // patch), -(-w // patch))).astype(np.uint8)
    return coarse.repeat(patch, 0).repeat(patch, 1)[:h, :w]


@pytest.mark.parametrize("classes", [1, 2, 21, 150, 255])
@pytest.mark.parametrize("patch", [1, 3, 16, 200])
def test_counts_and_scores_equal_slow_ones(classes, patch):
    rng = np.random.default_rng(classes * 1000 + patch)
    truth, predicted = blobs(rng, classes, 61, 83, patch), np.roll(blobs(rng, classes, 61, 83, patch), 5, axis=1)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, predicted) if patch == 1 else predicted
    truth[10:13] = 255
    predicted[11, 40:50] = 255  # says nothing where nothing is evaluated
    matrix = ConfusionMatrix(classes)
    matrix.add(truth, predicted)
    counts, ignored = count_slowly(classes, truth, predicted)
    np.testing.assert_array_equal(matrix.counts, counts)
    assert matrix.ignored == ignored == 3 * 83
    for absent in ("union", "present", "all"):
        metrics = matrix.metrics(absent=absent)
        for name, value in score_slowly(counts, absent).items():
            assert getattr(metrics, name) == pytest.approx(value, rel=1e-12)


def test_a_image_larger_than_the_block_counted_at_a_time():
    rng = np.random.default_rng(0)
    truth, predicted = blobs(rng, 7, 700, 800, 30), blobs(rng, 7, 700, 800, 41)
    truth[:, 300:310] = 255
    noisy = rng.integers(7, size=(700, 800)).astype(np.uint8)
    for guess in (predicted, noisy, np.zeros_like(truth)):
        matrix = ConfusionMatrix(7)
        matrix.add(truth, guess)
        wanted = np.zeros((256, 7), np.int64)
        np.add.at(wanted, (truth, guess), 1)
        np.testing.assert_array_equal(matrix.counts, wanted[:7])
        assert matrix.ignored == wanted[255].sum()


def test_the_papers_formulas_by_hand():
    """Class 0: 6 pixels, 5 found; class 1: 4, 2 found; class 2 is only predicted; class 3 is nowhere."""
    matrix = ConfusionMatrix(4)
    matrix.add(np.uint8([[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 255, 255]]), np.uint8([[0, 0, 0, 0, 0, 1], [1, 1, 0, 2, 0, 3]]))
    metrics = matrix.metrics()
    iou0, iou1 = 5 / 7, 2 / 5
    assert metrics.pixel_accuracy == pytest.approx(7 / 10)
    assert metrics.mean_accuracy == pytest.approx((5 / 6 + 2 / 4) / 2)
    assert metrics.mean_iou == pytest.approx((iou0 + iou1 + 0) / 3)
    assert metrics.frequency_weighted_iou == pytest.approx((6 * iou0 + 4 * iou1) / 10)
    assert metrics.class_iou[:3].tolist() == pytest.approx([iou0, iou1, 0])
    assert math.isnan(metrics.class_iou[3])
    assert np.isnan(metrics.class_accuracy[2:]).all()
    assert metrics.class_precision[:3].tolist() == pytest.approx([5 / 6, 2 / 3, 0])
    assert metrics.class_f1[:3].tolist() == pytest.approx([10 / 12, 4 / 7, 0])
    assert metrics.mean_precision == pytest.approx((5 / 6 + 2 / 3 + 0) / 3)
    assert metrics.mean_recall == pytest.approx((5 / 6 + 2 / 4 + 0) / 3)
    assert metrics.mean_f1 == pytest.approx((10 / 12 + 4 / 7 + 0) / 3)
    assert matrix.metrics(absent="present").mean_f1 == pytest.approx((10 / 12 + 4 / 7) / 2)
    assert matrix.metrics(absent="present").mean_iou == pytest.approx((iou0 + iou1) / 2)
    assert matrix.metrics(absent="all").mean_iou == pytest.approx((iou0 + iou1) / 4)
    assert matrix.metrics(absent="all").mean_accuracy == pytest.approx((5 / 6 + 2 / 4) / 4)


def test_scores_are_not_means_over_images():
    """One image is all right and small, one all wrong and large: per image the mean would be a half."""
    matrix = ConfusionMatrix(2)
    matrix.add(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    matrix.add(np.zeros((3, 3), np.uint8), np.ones((3, 3), np.uint8))
    assert matrix.metrics().pixel_accuracy == pytest.approx(1 / 10)


def test_coarse_truth_bounds_the_mean_iou_less_the_finer_it_is():
    """The shape of the FCN paper's appendix A, on discs: truth sampled every f pixels and spread again."""
    y, x = np.mgrid[:256, :256]
    discs = [(60, 70, 40, 1), (150, 180, 60, 2), (210, 50, 25, 3), (40, 200, 18, 4)]
    truth = np.zeros((256, 256), np.uint8)
    for row, column, radius, label in discs:
        truth[(y - row) ** 2 + (x - column) ** 2 < radius**2] = label
    bounds = []
    for factor in (64, 32, 16, 8, 4, 2, 1):
        coarse = truth[factor // 2 :: factor, factor // 2 :: factor]
        matrix = ConfusionMatrix(5)
        matrix.add(truth, coarse.repeat(factor, 0).repeat(factor, 1))
        bounds.append(matrix.metrics().mean_iou)
    assert bounds == sorted(bounds)
    assert bounds[-1] == 1
    assert bounds[1] < 0.9 < bounds[4]
