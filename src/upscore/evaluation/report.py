"""An evaluation as one HTML page, and as numbers for other programs.

``report.html`` loads nothing from outside itself: no network, no script, no font; images are
embedded. ``report.json`` holds every number, ``confusion.csv`` the confusion matrix, ``images.csv`` the metrics
of each image; a gallery of more than a thousand images goes on in ``gallery-2.html``, … Pages show percentages, the files
for programs fractions from 0 to 1. Class names and keys are untrusted: the template escapes them, and the page's security
policy forbids it to load or run anything.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import upscore
from upscore.data.dataset import Dataset
from upscore.data.own_dataset import ImagesWithMasks, as_dataset
from upscore.data.truth_checks import check_mask
from upscore.errors import DataError
from upscore.evaluation.charts import draw_curve, draw_heatmap, list_confusions
from upscore.evaluation.csv_tables import confusion_table, image_table
from upscore.evaluation.evaluate import ImagePredictor, predict_sample
from upscore.evaluation.gallery import Gallery
from upscore.evaluation.result import Evaluation, ImageMetrics
from upscore.files import write_atomically
from upscore.html.drawing import as_uri, pale, shrink
from upscore.html.error_view import draw_errors, find_errors, legend_of_errors
from upscore.html.template import open_template
from upscore.inference.predictor import Predictor
from upscore.input_spec import RGB, InputSpec
from upscore.types import IGNORE, LabelSpace, Prediction, Sample

__all__ = ["write_report"]

WORST, BEST = 4, 2  # how many images of the lowest and the highest mean IoU are shown
IMPROVED, WORSENED = 3, 3  # how many images are shown whose mean IoU a CRF raised most and lowered most

LabelMap = npt.NDArray[np.uint8]

_ERROR = (214, 40, 60)
_IGNORED = (150, 150, 150)
_CORRECTED, _REMAINING = (36, 104, 196), (232, 200, 128)


@dataclass(frozen=True)
class Panel:
    """One image of the page: views as (data URI, caption, description), and metrics; of what a CRF changed, also those before it."""

    kind: str
    metrics: ImageMetrics
    views: list[tuple[str, str, str]]
    size: tuple[int, ...]
    before: ImageMetrics | None = None
    corrected: float = 0.0
    worsened: float = 0.0


def write_report(
    evaluation: Evaluation,
    out: str | os.PathLike[str],
    *,
    history: Sequence[Mapping[str, Any]] | None = None,
    card: Mapping[str, Any] | None = None,
    predictor: ImagePredictor | None = None,
    dataset: Dataset | ImagesWithMasks | None = None,
    command: str | None = None,
    gallery: Gallery | None = None,
    objects: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html``, ``report.json``, ``confusion.csv`` and ``images.csv``; return the path of the page.

    Raises DataError where the dataset is not the one that was evaluated on, and OutputError where the folder cannot be written.

    Parameters
    ----------
    evaluation : Evaluation
        What to report.
    out : path
        Folder; made if need be, files of these names are replaced.
    history : sequence of mapping, optional
        A row per epoch or validated part of one: ``epoch``, ``loss``, ``val_loss``, ``miou``, …; the card's ``history`` when not given.
    card : mapping, optional
        The bundle's card; the predictor's when not given.
    predictor, dataset : optional
        What was evaluated, and on what: with both, the images of the lowest and highest mean IoU are shown, and those
        that a CRF improved and worsened most.
    command : str, optional
        The command line that repeats the evaluation; Python lines when not given.
    gallery : Gallery, optional
        All images, collected during the evaluation: ``evaluate(…, show=gallery.add)``.
    objects : mapping, optional
        The average precision of single objects, as :meth:`upscore.evaluation.objects.ObjectEvaluation.as_dict` gives it.
    """
    folder = Path(out)
    card = dict(card if card is not None else getattr(predictor, "card", None) or {})
    rows = [dict(row) for row in (history if history is not None else card.get("history") or [])]
    dataset = None if dataset is None else as_dataset(dataset, labels=evaluation.labels)
    panels = _image_panels(evaluation, predictor, dataset) if predictor is not None and dataset is not None else []
    crf_panels = _crf_panels(evaluation, predictor, dataset) if isinstance(predictor, Predictor) and dataset is not None else []
    losses = {"loss": "training", "val_loss": "validation"}
    environment = _describe_environment(predictor)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    command = command or _python_lines(evaluation)
    pages = gallery.pages() if gallery is not None else []
    errors_legend = legend_of_errors(evaluation.labels)
    page = open_template("evaluation", "report.html.j2").render(
        evaluation=evaluation,
        metrics=evaluation.metrics,
        classes=_class_rows(evaluation),
        heatmap=draw_heatmap(evaluation.matrix.counts, evaluation.labels),
        confusions=list_confusions(evaluation.matrix.counts, evaluation.labels),
        curves=[
            draw_curve(rows, losses, title="Loss" if any("val_loss" in row for row in rows) else "Training loss"),
            draw_curve(rows, {"miou": "mean IoU"}, title="Validation mean IoU, %", mark="max", percent=True),
        ],
        panels=panels,
        display_note=_input_of(predictor).display_note,
        errors_legend=errors_legend,
        tiles=pages[0] if pages else [],
        gallery_pages=len(pages),
        not_in_gallery=gallery.left_out if gallery is not None else 0,
        before=evaluation.before,
        totals=_total_rows(evaluation),
        crf=str(evaluation.settings.crf) if evaluation.settings is not None and evaluation.settings.uses_crf else "",
        crf_panels=crf_panels,
        objects=objects,
        colours={"corrected": _CORRECTED, "worsened": _ERROR, "remaining": _REMAINING},
        card=_flatten({name: value for name, value in card.items() if name not in ("history", "metrics", "warnings")}),
        card_warnings=[str(warning) for warning in card.get("warnings") or []],
        settings=_flatten(evaluation.as_dict()["settings"]),
        environment=environment,
        when=when,
        command=command,
    )
    for number, tiles in enumerate(pages[1:], start=2):
        gallery_page = open_template("evaluation", "gallery_page.html.j2").render(
            dataset=evaluation.dataset,
            split=evaluation.split,
            labels=evaluation.labels,
            errors_legend=errors_legend,
            tiles=tiles,
            number=number,
            count=len(pages),
            first=(number - 1) * len(pages[0]) + 1,
            last=(number - 1) * len(pages[0]) + len(tiles),
            total=sum(map(len, pages)),
        )
        write_atomically(folder / f"gallery-{number}.html", gallery_page.encode("utf-8", "replace"))
    _remove_gallery_pages(folder, after=len(pages))
    numbers = evaluation.as_dict() | ({} if objects is None else {"objects": objects})
    numbers |= {"history": rows, "card": card, "environment": environment, "written": when, "repeat": command}
    write_atomically(
        folder / "report.json", (json.dumps(_finite(numbers), indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    )
    write_atomically(folder / "confusion.csv", confusion_table(evaluation).encode("utf-8", "replace"))
    write_atomically(folder / "images.csv", image_table(evaluation).encode("utf-8", "replace"))
    write_atomically(folder / "report.html", page.encode("utf-8", "replace"))
    return folder / "report.html"


def _remove_gallery_pages(folder: Path, *, after: int) -> None:
    """Remove the pages of a larger gallery that an earlier report left."""
    for path in folder.glob("gallery-*.html"):
        number = path.stem.removeprefix("gallery-")
        if number.isascii() and number.isdecimal() and int(number) > max(1, after):
            path.unlink(missing_ok=True)


def _total_rows(evaluation: Evaluation) -> list[tuple[str, float, float]]:
    """Return (metric, before, after) of the CRF; empty without one."""
    if evaluation.before is None:
        return []
    return [(name[0].upper() + name[1:], was, evaluation.totals[name]) for name, was in evaluation.before.totals.items()]


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    metrics, valid = evaluation.metrics, max(1, int(evaluation.metrics.class_pixels.sum()))
    borders, before = evaluation.border_metrics, evaluation.before or evaluation
    return [
        {
            "name": name,
            "colour": evaluation.labels.palette[i],
            "iou": float(metrics.class_iou[i]),
            "precision": float(metrics.class_precision[i]),
            "recall": float(metrics.class_recall[i]),
            "f1": float(metrics.class_f1[i]),
            "boundary": float(borders.class_boundary_iou[i]),
            "iou_before": float(before.metrics.class_iou[i]),
            "boundary_before": float(before.border_metrics.class_boundary_iou[i]),
            "pixels": int(metrics.class_pixels[i]),
            "fraction": float(metrics.class_pixels[i] / valid),
        }
        for i, name in enumerate(evaluation.labels.names)
    ]


def _image_panels(evaluation: Evaluation, predictor: ImagePredictor, dataset: Dataset) -> list[Panel]:
    ranked = evaluation.ranked()
    worst = ranked[: min(WORST, math.ceil(len(ranked) / 2))]
    best = ranked[::-1][: min(BEST, len(ranked) - len(worst))]
    panels = []
    for kind, rows in (("worst", worst), ("best", best)):
        for row in rows:
            sample = _find_sample(row, dataset)
            panels.append(
                _draw_image(row, kind, _displayed(sample, predictor), predict_sample(predictor, sample).label_map, evaluation.labels)
            )
    return panels


def _crf_panels(evaluation: Evaluation, predictor: Predictor, dataset: Dataset) -> list[Panel]:
    gains = evaluation.gains()
    improved = [pair for pair in gains if pair[1].mean_iou > pair[0].mean_iou][:IMPROVED]
    worsened = [pair for pair in gains[::-1] if pair[1].mean_iou < pair[0].mean_iou][:WORSENED]
    panels = []
    for kind, pairs in (("improved", improved), ("worsened", worsened)):
        for pair in pairs:
            sample = _find_sample(pair[1], dataset)
            compared = predictor.compare(sample.image, name=sample.key)
            panels.append(
                _draw_crf(pair, kind, _displayed(sample, predictor), compared.before.label_map, compared.after.label_map, evaluation.labels)
            )
    return panels


def _find_sample(row: ImageMetrics, dataset: Dataset) -> Sample:
    """Return the sample of a row, checked to be the one that was evaluated."""
    index = next((index for index, key in enumerate(dataset.keys) if key == row.key), None)
    if index is None:
        raise DataError(f"{dataset.name}: has no image '{row.key}': give the dataset that was evaluated on")
    sample = dataset[index]
    if sample.label is None or sample.label.shape != (row.height, row.width) or sample.image.shape[:2] != sample.label.shape:
        raise DataError(f"{dataset.name}: '{row.key}' is no longer what was evaluated: give the dataset that was evaluated on")
    return sample


def _displayed(sample: Sample, predictor: ImagePredictor) -> Sample:
    """Return a sample whose image is RGB, as the predictor's bands are displayed."""
    return replace(sample, image=_input_of(predictor).display(sample.image))


def _input_of(predictor: ImagePredictor | None) -> InputSpec:
    spec: InputSpec = getattr(predictor, "input", RGB)
    return spec


def _draw_image(metrics: ImageMetrics, kind: str, sample: Sample, predicted: LabelMap, labels: LabelSpace) -> Panel:
    image, truth, predicted = (
        shrink(np.asarray(sample.image, np.uint8)),
        shrink(check_mask(sample), exact=True),
        shrink(predicted, exact=True),
    )
    errors = draw_errors(find_errors(truth, predicted, labels), image)
    views = [
        (as_uri(image, quality=82), "Image", f"The image {metrics.key}"),
        (_colours(truth, labels), "Truth", "Its true classes in colours"),
        (_colours(predicted, labels), "Prediction", "Its predicted classes in colours"),
        (as_uri(errors), "Errors", f"Where they differ: {100 * (1 - metrics.pixel_accuracy):.1f} % of the evaluated pixels"),
    ]
    return Panel(kind, metrics, views, image.shape[:2])


def _draw_crf(
    metrics: tuple[ImageMetrics, ImageMetrics], kind: str, sample: Sample, before: LabelMap, after: LabelMap, labels: LabelSpace
) -> Panel:
    truth = check_mask(sample)
    evaluated = max(1, int((truth != IGNORE).sum()))
    corrected, worsened = (
        float(((wrong != right) & (truth == right)).sum() / evaluated) for wrong, right in ((before, after), (after, before))
    )
    image = shrink(np.asarray(sample.image, np.uint8))
    truth, before, after = (shrink(label_map, exact=True) for label_map in (truth, before, after))
    changes = pale(image)
    changes[(truth != before) & (truth != after)] = _REMAINING
    changes[(truth != before) & (truth == after)] = _CORRECTED
    changes[(truth == before) & (truth != after)] = _ERROR
    changes[truth == IGNORE] = _IGNORED
    views = [
        (as_uri(image, quality=82), "Image", f"The image {sample.key}"),
        (_colours(truth, labels), "Truth", "Its true classes in colours"),
        (_colours(before, labels), "Network alone", "The classes predicted by the network alone"),
        (_colours(after, labels), "With the CRF", "The classes predicted with the CRF"),
        # Lossless: lines one pixel wide would lose their colours.
        (as_uri(changes), "What changed", "What the CRF corrected and what it worsened"),
    ]
    return Panel(kind, metrics[1], views, image.shape[:2], metrics[0], corrected, worsened)


def _colours(label_map: LabelMap, labels: LabelSpace) -> str:
    return as_uri(Prediction(label_map, labels).colours())


def _describe_environment(predictor: ImagePredictor | None) -> dict[str, str]:
    device = getattr(predictor, "device", None)
    environment = {
        "upscore": upscore.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device is not None:
        environment["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return environment


def _python_lines(evaluation: Evaluation) -> str:
    data = evaluation.path or evaluation.dataset
    arguments = f"{data!r}, split={evaluation.split!r}, absent={evaluation.absent!r}"
    if evaluation.before is None:
        return f"from upscore import evaluate\nevaluate({evaluation.model!r}, {arguments}).metrics"
    model = f"Predictor({evaluation.model!r}, crf={evaluation.as_dict()['settings']['crf']!r})"
    return f"from upscore import Predictor, evaluate\nevaluate({model}, {arguments}).metrics"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested mappings as (dotted name, text) pairs; digests of images are left out."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if f"{prefix}{name}" == "data.pixels.digests":
            continue
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)))
    return pairs


def _finite(value: Any) -> Any:
    """Return ``value`` as strict JSON: nan and infinities become None, values of unknown types their text."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
