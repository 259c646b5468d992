"""Every number that a command prints is the value of the name beside it."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from upscore.cli import results
from upscore.evaluation.result import Evaluation
from upscore.evaluation.tune import HalfMetrics, Tuning
from upscore.metrics import BorderCounts, ConfusionMatrix
from upscore.settings import CRFSettings, InferenceSettings
from upscore.types import LabelSpace

LABELS = LabelSpace(("road", "car", "sky"))


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(results.console, "_width", 300)


def evaluation(seed, **changes):
    """Return an evaluation in which no two metrics are equal."""
    rng = np.random.default_rng(seed)
    borders = BorderCounts(3)
    truth = rng.integers(0, 3, (8, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    predicted = np.where(rng.random(truth.shape) < 0.2, (truth + rng.integers(0, 3, truth.shape)) % 3, truth).astype(np.uint8)
    borders.add(truth, predicted)
    matrix = ConfusionMatrix.of(rng.integers(100, 9000, (3, 3)) + np.diag([20_000, 10_000, 40_000]))
    values = {"dataset": "d", "split": "val", "model": "m", "settings": None, "seconds": 1.0, "borders": borders}
    return Evaluation(matrix, (), LABELS, "union", **values | changes)


def table_of(text, first):
    """Return the rows of a printed table by their first cell, each a dict of column to text; columns are found by their right edge."""
    lines = text.splitlines()
    bottom = next(i for i, line in enumerate(lines) if line.startswith(first))
    top = next(i for i in range(bottom, -1, -1) if i == 0 or not lines[i - 1].startswith(" "))
    columns = {end: " ".join(filter(None, (cells(line).get(end) for line in lines[top : bottom + 1]))) for end in cells(lines[bottom])}
    rows = {}
    for line in lines[bottom + 1 :]:
        name, *values = cells(line).values()
        if len(values) != len(columns) - 1:
            break
        rows[name] = {columns[end]: cell for end, cell in cells(line).items() if end in columns and cell != name}
    return rows


def cells(line):
    """Return the cells of a line by the column where they end."""
    return {cell.end(): cell.group() for cell in re.finditer(r"\S+(?: \S+)*", line)}


def percent(value):
    return f"{100 * value:.2f}"


def test_each_column_of_the_class_table_shows_its_metric(capsys):
    e = evaluation(0)
    results.print_evaluation(e, Path("report.html"), as_json=False)
    text = capsys.readouterr().out
    rows = table_of(text, "class")
    assert list(rows) == list(LABELS.names)
    m, columns = e.metrics, {}
    for i, name in enumerate(LABELS.names):
        columns = {
            "IoU": percent(m.class_iou[i]),
            "boundary IoU": percent(e.border_metrics.class_boundary_iou[i]),
            "precision": percent(m.class_precision[i]),
            "recall": percent(m.class_recall[i]),
            "F1": percent(m.class_f1[i]),
            "pixels": f"{m.class_pixels[i]:,}",
        }
        assert len(set(columns.values())) == len(columns)
        assert rows[name] == columns
    totals = {
        "mean IoU": m.mean_iou,
        "pixel accuracy": m.pixel_accuracy,
        "mean accuracy": m.mean_accuracy,
        "frequency-weighted IoU": m.frequency_weighted_iou,
        "mean precision": m.mean_precision,
        "mean recall": m.mean_recall,
        "mean F1": m.mean_f1,
        "boundary IoU": e.border_metrics.boundary_iou,
        "trimap IoU": e.border_metrics.trimap_iou,
    }
    assert table_of(text, "metric") == {name: {"value": percent(value)} for name, value in totals.items()}


def test_each_column_before_and_after_the_crf_shows_its_metric(capsys):
    before = evaluation(1)
    after = evaluation(2, before=before, settings=InferenceSettings(crf=CRFSettings()))
    results.print_evaluation(after, Path("report.html"), as_json=False)
    text = capsys.readouterr().out
    rows = table_of(text, "class")
    for i, name in enumerate(LABELS.names):
        assert rows[name] == {
            "IoU before": percent(before.metrics.class_iou[i]),
            "IoU after": percent(after.metrics.class_iou[i]),
            "boundary IoU before": percent(before.border_metrics.class_boundary_iou[i]),
            "boundary IoU after": percent(after.border_metrics.class_boundary_iou[i]),
            "precision after": percent(after.metrics.class_precision[i]),
            "recall after": percent(after.metrics.class_recall[i]),
            "F1 after": percent(after.metrics.class_f1[i]),
            "pixels": f"{after.metrics.class_pixels[i]:,}",
        }
    changes = table_of(text, "metric")
    assert list(changes) == list(after.totals)
    for name, value in after.totals.items():
        was = before.totals[name]
        assert changes[name] == {"before": percent(was), "after": percent(value), "change": f"{round(100 * (value - was), 2):+.2f}"}


def test_each_column_of_tuning_shows_its_metric(capsys):
    metrics = ("mean_iou", "boundary_iou", "trimap_iou")
    halves = [
        HalfMetrics(
            i + 3, {m: 0.1 * i + 0.01 * j for j, m in enumerate(metrics)}, {m: 0.5 + 0.1 * i + 0.01 * j for j, m in enumerate(metrics)}
        )
        for i in range(3)
    ]
    tuning = Tuning(CRFSettings(), "mean_iou", "d", "val", *halves, trials=2, seed=0)
    results.print_tuning(tuning, Path("bundle"))
    text = capsys.readouterr().out
    text = re.sub(r"^ {14}images", "half          images", text, flags=re.MULTILINE)  # the first column has no name
    rows = table_of(text, "half")
    for row, half in zip(("chosen on", "confirmed on", "together"), halves, strict=True):
        times = {"before": half.before, "after": half.after}
        names = {"mean IoU": "mean_iou", "boundary IoU": "boundary_iou", "trimap IoU": "trimap_iou"}
        expected = {f"{name} {time}": percent(values[metric]) for name, metric in names.items() for time, values in times.items()}
        assert rows[row] == {"images": str(half.images)} | expected


def test_undefined_metrics_are_dashes(capsys):
    e = evaluation(0)
    empty = dataclasses.replace(e, matrix=ConfusionMatrix.of(np.diag([5, 0, 7])))
    results.print_evaluation(empty, Path("report.html"), as_json=False)
    car = table_of(capsys.readouterr().out, "class")["car"]
    assert {name: value for name, value in car.items() if name != "boundary IoU"} == {
        "IoU": "–",
        "precision": "–",
        "recall": "–",
        "F1": "–",
        "pixels": "0",
    }
