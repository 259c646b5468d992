"""The baseline is the evaluation of a network that knows one class; hints are given where they hold, and nowhere else."""

import math

import numpy as np
import pytest

from upscore.data.open_dataset import open_dataset
from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.hints import describe_small_split, find_weakest_classes, is_still_rising, one_class_baseline
from upscore.types import Prediction


class Always:
    """A network that labels every pixel as one class."""

    def __init__(self, labels, k):
        self.labels, self.k = labels, k

    def predict(self, image):
        return Prediction(np.full(image.shape[:2], self.k, np.uint8), self.labels)


@pytest.mark.parametrize("absent", ["union", "present", "all"])
def test_the_baseline_is_what_such_a_network_gets(painted, absent):
    dataset = open_dataset(painted, "val")
    evaluation = evaluate(Always(dataset.labels, 2), dataset, absent=absent)
    most = int(evaluation.metrics.class_pixels.argmax())
    assert most != 2
    expected = evaluate(Always(dataset.labels, most), dataset, absent=absent)
    for values in (evaluation.numbers()["baseline"], evaluation.as_dict()["baseline"], expected.baseline._asdict()):
        assert values["name"] == dataset.labels.names[most]
        assert values["mean_iou"] == pytest.approx(expected.metrics.mean_iou)
        assert values["pixel_accuracy"] == pytest.approx(expected.metrics.pixel_accuracy)


def test_classes_that_the_truth_lacks_count_as_the_metrics_count_them():
    pixels = {"road": 60, "car": 40, "sky": 0}
    assert one_class_baseline(pixels, absent="union").mean_iou == pytest.approx(0.3)
    assert one_class_baseline(pixels, absent="all").mean_iou == pytest.approx(0.2)
    assert one_class_baseline({"road": 0, "car": 0}) is None


def test_the_weakest_classes_are_below_the_mean_and_few():
    assert find_weakest_classes({"a": 0.5, "b": 0.5}) == []
    assert find_weakest_classes({"only": 0.5}) == []
    iou = {str(k): k / 10 for k in range(10)} | {"x": math.nan, "y": None}
    assert find_weakest_classes(iou) == [("0", 0.0), ("1", 0.1), ("2", 0.2)]


def rows(*values):
    return [{"miou": value} for value in values]


@pytest.mark.parametrize("history", [rows(0.1, 0.2, 0.3), rows(0.1, 0.5, 0.49, 0.6, 0.58), [*rows(0.1, 0.2), {"loss": 1.0}, *rows(0.4)]])
def test_a_run_that_is_still_rising(history):
    assert is_still_rising(history)


@pytest.mark.parametrize(
    "history",
    [
        [],
        rows(0.1, 0.9),
        rows(0.3, 0.2, 0.1),
        rows(0.1, 0.6, 0.59, 0.58),
        rows(0.6, 0.6, 0.6003),
        rows(*np.linspace(0, 0.8, 20), 0.8002, 0.8, 0.8001, 0.8003, 0.8001, 0.8002, 0.8004),
        [{"loss": 1.0}] * 5,
    ],
)
def test_a_run_that_is_not(history):
    assert not is_still_rising(history)


def test_a_small_split_is_said_to_be():
    assert describe_small_split(1, "val") == "val has 1 image: metrics are noisy"
    assert describe_small_split(19, "test") == "test has 19 images: metrics are noisy"
    assert describe_small_split(20, "val") is None
