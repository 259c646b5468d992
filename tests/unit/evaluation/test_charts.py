from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscore.evaluation.charts import draw_curve, draw_heatmap, list_confusions, round_ticks
from upscore.types import LabelSpace

finite = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: round(value, 6))


@given(low=finite, high=finite)
def test_ticks_are_round_and_enclose(low: float, high: float):
    low, high = sorted((low, high))
    ticks = round_ticks(low, high, 5)
    slack = 1e-8 * max(1, abs(low), abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    assert np.diff(ticks).min() > 0


def test_a_curve_leaves_out_what_is_no_number():
    rows = [
        {"epoch": 1, "loss": 2.0},
        {"epoch": 2, "loss": float("nan")},
        {"epoch": 3},
        {"epoch": 4, "loss": None},
        {"epoch": 5, "loss": 1.0},
    ]
    curve = draw_curve(rows, {"loss": "training"}, title="Loss")
    assert curve is not None
    (line,) = curve.lines
    assert len(line.dots) == 2
    assert line.value[2] == "1"
    assert curve.summary == "Loss, training: 2 at epoch 1, 1 at epoch 5; marked: 1 at epoch 5."
    assert draw_curve(rows, {"miou": "mean IoU"}, title="mIoU") is None


@given(values=st.lists(finite, min_size=1, max_size=60))
def test_points_lie_within_the_image(values: list[float]):
    curve = draw_curve([{"epoch": i, "v": value} for i, value in enumerate(values)], {"v": "v"}, title="v", mark="max")
    assert curve is not None
    (line,) = curve.lines
    for point in line.points.split():
        x, y = map(float, point.split(","))
        assert curve.left <= x <= curve.right
        assert 0 <= y <= curve.bottom + 0.1
    assert line.value[2] == f"{max(values):.3g}"


def test_lines_of_one_chart_share_its_axes_and_their_values_do_not_overlap():
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 1.5}, {"epoch": 4, "loss": 0.5, "val_loss": 1.0}]
    curve = draw_curve(rows, {"loss": "training", "val_loss": "validation", "lr": "rate"}, title="Loss")
    assert curve is not None
    training, validation = curve.lines
    assert (training.name, validation.name) == ("training", "validation")
    assert training.points.split()[1:] == [f"{left},{top}" for left, top in training.dots[1:]]
    assert [left for left, _ in validation.dots] == [left for left, _ in training.dots[1:]]
    tops = {text: top for top, text in curve.y_ticks}
    assert tops["1"] == training.dots[1][1] == validation.dots[1][1]
    assert (training.value[2], validation.value[2]) == ("0.5", "1")
    assert training.value[1] - validation.value[1] > 20
    assert training.value[1] < curve.bottom
    assert "validation: 1.5 at epoch 2, 1 at epoch 4" in curve.summary


@pytest.mark.parametrize("classes", [1, 2, 24, 25, 150, 255])
def test_heatmaps_of_any_number_of_classes(classes: int):
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    counts[0] = 0
    heatmap = draw_heatmap(counts, LabelSpace(tuple(f"class {i}" for i in range(classes))))
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(heatmap.image.split(",")[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose((pixels[..., 3] / 255) ** 2, fractions, atol=0.01)
    assert len(heatmap.names) == classes
    assert bool(heatmap.numbers) == (2 <= classes <= 24)


def test_confusions_are_ranked_by_pixels():
    counts = np.array([[90, 10, 0], [1, 3, 0], [30, 0, 0]])
    labels = LabelSpace(("a", "b", "c"))
    assert list_confusions(counts, labels) == [("c", "a", 1.0, 30), ("a", "b", 0.1, 10), ("b", "a", 0.25, 1)]
    assert list_confusions(np.diag([1, 2, 3]), labels) == []
