"""The numbers of an evaluation as CSV: the confusion matrix, and the metrics of each image. Fractions are from 0 to 1."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from upscore.evaluation.result import Evaluation
from upscore.text import visible

__all__ = ["confusion_table", "image_table"]


def confusion_table(evaluation: Evaluation) -> str:
    """Return the confusion matrix in pixels; a row for each true class, a column for each predicted one."""
    names = [_escape_formula(name) for name in evaluation.labels.names]
    rows = [[name, *row] for name, row in zip(names, evaluation.matrix.counts.tolist(), strict=True)]
    return _write(["truth \\ predicted", *names], rows)


def image_table(evaluation: Evaluation) -> str:
    """Return a row for each image: its key, size, ignored fraction, metrics, and the IoU of each class.

    A value is empty where it is not defined: the IoU of a class that is in neither truth nor prediction.
    """
    classes = [_escape_formula(f"IoU {name}") for name in evaluation.labels.names]
    columns = ["key", "height", "width", "ignored", "pixel accuracy", "mean IoU", *classes]
    rows = [
        [
            _escape_formula(image.key),
            image.height,
            image.width,
            *(_number(value) for value in (image.ignored, image.pixel_accuracy, image.mean_iou, *image.class_iou.tolist())),
        ]
        for image in evaluation.images
    ]
    return _write(columns, rows)


def _write(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return text.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _escape_formula(name: str) -> str:
    """Return a name with hidden characters visible, which no spreadsheet takes for a formula."""
    name = visible(name)
    return f"'{name}" if name[:1] in ("=", "+", "-", "@") else name
