"""Confusion matrices and metrics: emptiness, words, JSON, refusals."""

import json
import math

import numpy as np
import pytest

from upscore.errors import DataError, RecipeError
from upscore.metrics import ABSENT_POLICIES, BorderCounts, ConfusionMatrix, connected_components, rand_error
from upscore.types import LabelSpace


def labels(*values):
    return np.array([values], np.uint8)


@pytest.fixture
def matrix():
    matrix = ConfusionMatrix(3)
    matrix.add(labels(0, 0, 1, 255), labels(0, 1, 1, 2))
    return matrix


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0)])
def test_empty_maps_count_nothing(shape):
    matrix = ConfusionMatrix(3)
    matrix.add(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    assert matrix == ConfusionMatrix(3)


def test_a_single_pixel():
    matrix = ConfusionMatrix(3)
    matrix.add(labels(2), labels(1))
    assert matrix.counts[2, 1] == matrix.counts.sum() == 1


def test_maps_are_left_alone():
    truth = np.repeat(np.uint8([0, 255, 1]), 50)
    truth.flags.writeable = False
    ConfusionMatrix(2).add(truth, np.zeros_like(truth))


def test_without_valid_pixels_no_score_is_defined():
    matrix = ConfusionMatrix(3)
    matrix.add(np.full((4, 5), 255, np.uint8), np.zeros((4, 5), np.uint8))
    for absent in ABSENT_POLICIES:
        metrics = matrix.metrics(absent=absent)
        assert math.isnan(metrics.pixel_accuracy)
        assert math.isnan(metrics.mean_accuracy)
        assert math.isnan(metrics.mean_iou)
        assert math.isnan(metrics.frequency_weighted_iou)
        assert math.isnan(metrics.mean_precision)
        assert math.isnan(metrics.mean_recall)
        assert math.isnan(metrics.mean_f1)
        assert metrics.policy == "No valid pixel was counted (20 are ignored), so no metric is defined."
        assert json.loads(json.dumps(metrics.as_dict(LabelSpace(("a", "b", "c"))), allow_nan=False))["mean_iou"] is None


def test_the_policy_says_what_was_left_out(matrix):
    assert matrix.metrics().policy == (
        "1 of 4 pixels (25.0 %) are ignored, 1 of 3 classes do not occur in the truth; "
        "classes in neither truth nor prediction are left out of the means, classes only predicted count as 0."
    )
    for absent, words in ABSENT_POLICIES.items():
        assert matrix.metrics(absent=absent).policy.endswith(words + ".")


def test_scores_become_json(matrix):
    metrics = matrix.metrics()
    written = json.loads(json.dumps(metrics.as_dict(LabelSpace(("sky", "road", "car"))), allow_nan=False))
    assert written["pixel_accuracy"] == pytest.approx(2 / 3)
    assert written["classes"]["sky"] == {
        "iou": 0.5,
        "accuracy": 0.5,
        "precision": 1,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "pixels": 2,
    }
    assert written["classes"]["car"] == {**dict.fromkeys(("iou", "accuracy", "precision", "recall", "f1")), "pixels": 0}
    assert (written["mean_precision"], written["mean_recall"]) == (0.75, 0.75)
    assert written["mean_f1"] == metrics.mean_f1 == pytest.approx(2 / 3)
    assert (written["valid_pixels"], written["ignored_pixels"]) == (3, 1)
    assert (written["absent"], written["policy"]) == ("union", metrics.policy)
    with pytest.raises(DataError, match="found 2 class names for metrics of 3 classes"):
        metrics.as_dict(LabelSpace(("sky", "road")))


def test_counts_come_back_from_a_file(matrix):
    again = ConfusionMatrix.of(matrix.counts, ignored=matrix.ignored)
    assert again == matrix
    again.add(labels(2), labels(2))
    assert again != matrix
    assert ConfusionMatrix.of(np.int32([[1, 0], [2, 3]])).counts.dtype == np.int64


@pytest.mark.parametrize("counts", [np.zeros((2, 3), int), np.zeros(4, int), np.eye(2), -np.eye(2, dtype=int), np.zeros((0, 0), int)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(DataError, match="expected"):
        ConfusionMatrix.of(counts)


def test_scores_do_not_change_when_more_is_counted(matrix):
    metrics = matrix.metrics()
    matrix.add(labels(2, 2), labels(2, 2))
    assert metrics.class_pixels.tolist() == [2, 1, 0]


@pytest.mark.parametrize("repeats", [1, 50])
def test_unknown_values_are_refused_and_nothing_is_counted(matrix, repeats):
    before = ConfusionMatrix.of(matrix.counts, ignored=matrix.ignored)
    for bad in (3, 200, 254):
        with pytest.raises(DataError, match=f"found label {bad} in the truth, expected 0 to 2 or 255"):
            matrix.add(labels(0, 1, bad, 255).repeat(repeats), labels(0, 1, 2, 2).repeat(repeats))
    for bad in (3, 200, 255):
        with pytest.raises(DataError, match=f"found label {bad} in the prediction, expected 0 to 2"):
            matrix.add(labels(0, 1, 2, 255).repeat(repeats), labels(0, 1, bad, 2).repeat(repeats))
    assert matrix == before
    matrix.add(labels(255, 0).repeat(repeats), labels(254, 0).repeat(repeats))
    assert matrix.ignored == before.ignored + repeats


def test_shapes_and_types_must_agree(matrix):
    with pytest.raises(DataError, match=r"truth of shape \(1, 2\) and prediction of shape \(2, 1\)"):
        matrix.add(labels(0, 1), labels(0, 1).T)
    with pytest.raises(DataError, match="uint8 and int64, expected uint8"):
        matrix.add(labels(0, 1), labels(0, 1).astype(np.int64))


def test_other_arguments_are_refused(matrix):
    for classes in (0, 256, -1):
        with pytest.raises(DataError, match=f"found {classes} classes"):
            ConfusionMatrix(classes)
    with pytest.raises(RecipeError, match="found policy 'skip' for absent classes, expected one of union, present, all"):
        matrix.metrics(absent="skip")
    with pytest.raises(DataError, match="of 3 and 2 classes"):
        matrix + ConfusionMatrix(2)


def test_it_prints_what_it_holds_and_is_no_key(matrix):
    assert repr(matrix) == "ConfusionMatrix(3 classes, 3 pixels, 1 ignored)"
    assert matrix != 3
    with pytest.raises(TypeError):
        hash(matrix)


MAP = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


@pytest.mark.parametrize("count", [ConfusionMatrix, BorderCounts])
@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [
        (MAP.astype(np.int64), MAP, "int64 and uint8, expected uint8"),
        (MAP, MAP.astype(np.int8), "uint8 and int8"),
        (MAP == 1, MAP == 1, "bool and bool"),
        (MAP.astype(float), MAP.astype(float), "float64 and float64"),
        (MAP.astype(str), MAP, "<U3"),
        (MAP.astype(object), MAP, "object"),
        (MAP, MAP.T, r"shape \(2, 3\) and prediction of shape \(3, 2\)"),
        (MAP, MAP[None], r"shape \(1, 2, 3\)"),
        (np.full_like(MAP, 3), MAP, "label 3 in the truth, expected 0 to 2 or 255"),
        (np.full_like(MAP, 254), MAP, "label 254 in the truth"),
        (np.zeros_like(MAP), np.full_like(MAP, 3), "label 3 in the prediction"),
        (np.zeros_like(MAP), np.full_like(MAP, 255), "label 255 in the prediction"),
        (MAP.tolist(), MAP, "found list as the truth"),
        (MAP, None, "found NoneType as the prediction"),
    ],
)
def test_label_maps_in_other_numbers_are_one_line_and_count_nothing(count, truth, predicted, said):
    counts = count(3)
    with pytest.raises(DataError, match=said):
        counts.add(truth, predicted)
    assert counts == count(3)


def test_borders_are_of_one_image():
    with pytest.raises(DataError, match="expected one image"):
        BorderCounts(3).add(MAP[None], MAP[None])
    with pytest.raises(RecipeError, match="trimap"):
        BorderCounts(3, trimap_width=2.5)


@pytest.mark.parametrize("classes", [0, 256, 2.5, True, "3", None])
def test_impossible_numbers_of_classes_are_one_line(classes):
    with pytest.raises(DataError, match="classes, expected 1 to 255"):
        ConfusionMatrix(classes)


def test_counts_whose_sums_would_wrap_are_one_line():
    with pytest.raises(DataError, match="sums fit into 64 bits"):
        ConfusionMatrix.of(np.full((2, 2), 2**63, np.uint64))
    with pytest.raises(DataError, match="sums fit into 64 bits"):
        ConfusionMatrix.of(np.full((2, 2), 2**62))
    assert ConfusionMatrix.of(np.full((255, 255), 2**45)).metrics().pixel_accuracy == pytest.approx(1 / 255)


def test_segments_of_what_is_no_mask_are_one_line():
    for mask in (np.array([[0.7, 0.2]]), np.array([[256, 0]]), np.array([[1, 0]], np.uint8), np.array([True])):
        with pytest.raises(DataError, match=r"expected .* bool"):
            connected_components(mask)
    assert connected_components(np.zeros((0, 4), bool)).shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_the_rand_error_does_not_depend_on_the_type_or_size_of_numbers(dtype):
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (9, 9)), rng.integers(0, 4, (9, 9))
    expected = rand_error(truth, predicted)
    assert rand_error(truth.astype(dtype), predicted.astype(dtype)) == expected
    most = np.iinfo(dtype).max
    assert (
        rand_error(np.where(truth == 4, most, truth).astype(dtype), np.where(predicted == 3, most - 1, predicted).astype(dtype)) == expected
    )
    assert rand_error(truth * 10**17, predicted * 10**17) == expected  # whose products would wrap


@pytest.mark.parametrize("change", [lambda x: x / 2, lambda x: x > 1, lambda x: x.astype(str), lambda x: x - 3, lambda x: x[:1]])
def test_segments_in_other_numbers_are_one_line(change):
    numbers = np.array([[0, 1, 2], [2, 1, 1]])
    with pytest.raises(DataError, match="segment"):
        rand_error(numbers, change(numbers))
