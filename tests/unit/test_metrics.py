"""Confusion matrices and scores: emptiness, words, JSON, refusals."""

import json
import math

import numpy as np
import pytest

from upscore.errors import DataError, RecipeError
from upscore.metrics import ABSENT_POLICIES, ConfusionMatrix
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
        scores = matrix.scores(absent=absent)
        assert math.isnan(scores.pixel_accuracy)
        assert math.isnan(scores.mean_accuracy)
        assert math.isnan(scores.mean_iou)
        assert math.isnan(scores.frequency_weighted_iou)
        assert scores.policy == "No valid pixel was counted (20 are ignored), so no score is defined."
        assert json.loads(json.dumps(scores.as_dict(LabelSpace(("a", "b", "c"))), allow_nan=False))["mean_iou"] is None


def test_the_policy_says_what_was_left_out(matrix):
    assert matrix.scores().policy == (
        "1 of 4 pixels (25.0%) are ignored, 1 of 3 classes do not occur in the truth; "
        "classes in neither truth nor prediction are left out of the means, classes only predicted count as 0."
    )
    for absent, words in ABSENT_POLICIES.items():
        assert matrix.scores(absent=absent).policy.endswith(words + ".")


def test_scores_become_json(matrix):
    scores = matrix.scores()
    written = json.loads(json.dumps(scores.as_dict(LabelSpace(("sky", "road", "car"))), allow_nan=False))
    assert written["pixel_accuracy"] == pytest.approx(2 / 3)
    assert written["classes"]["sky"] == {"iou": 0.5, "accuracy": 0.5, "pixels": 2}
    assert written["classes"]["car"] == {"iou": None, "accuracy": None, "pixels": 0}
    assert (written["valid_pixels"], written["ignored_pixels"]) == (3, 1)
    assert (written["absent"], written["policy"]) == ("union", scores.policy)
    with pytest.raises(DataError, match="found 2 class names for scores of 3 classes"):
        scores.as_dict(LabelSpace(("sky", "road")))


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
    scores = matrix.scores()
    matrix.add(labels(2, 2), labels(2, 2))
    assert scores.class_pixels.tolist() == [2, 1, 0]


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
        matrix.scores(absent="skip")
    with pytest.raises(DataError, match="of 3 and 2 classes"):
        matrix + ConfusionMatrix(2)


def test_it_prints_what_it_holds_and_is_no_key(matrix):
    assert repr(matrix) == "ConfusionMatrix(3 classes, 3 pixels, 1 ignored)"
    assert matrix != 3
    with pytest.raises(TypeError):
        hash(matrix)
