"""Write images for the tools that people label with: those with doubtful labels, with truth and prediction side by side.

::

    review/
    ├── review.json        every image that was examined, the most doubtful first, and their regions
    ├── labelme/           the images with doubtful regions or masks
    └── label-studio/      the same as tasks
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from upscore.data.dataset import Dataset, InFiles
from upscore.data.write_dataset import find_writer
from upscore.data.writer import AnnotatedImage, WriterOptions
from upscore.files import replace_folder
from upscore.review.label_review import LabelReview, ReviewedImage
from upscore.review.regions import DoubtfulRegion
from upscore.types import LabelSpace

__all__ = ["MAX_TASKS", "TOOLS", "as_json", "describe_review", "first_lines", "write_review", "write_tasks"]

TOOLS = ("labelme", "label-studio")
"""The formats in which images are written for review, each in a folder of its name."""

LIST = "review.json"

MAX_TASKS = 200
"""Images that are written for review; ``review.json`` lists all."""

TOLERANCE = 1.0
"""By which the polygons of predictions may differ from the edges of pixels, in pixels."""


def describe_review(review: LabelReview) -> dict[str, Any]:
    """Return a review as values for JSON: images, the most doubtful first, and regions, those with the most evidence first."""
    names = review.predictor.labels.names
    return {
        "run": review.predictor.source,
        "examined": len(review.images),
        "left_out": [{"split": split, "key": key} for split, key in review.left_out],
        "images": [
            {
                "split": image.name[0],
                "key": image.name[1],
                "doubt": None if image.doubt != image.doubt else round(image.doubt, 4),
                "regions": len(image.regions),
                "trained_on": image.trained_on,
            }
            for image in review.images
        ],
        "regions": [
            {
                "split": image.name[0],
                "key": image.name[1],
                "box": list(region.box),
                "area": region.area,
                "given": names[region.given],
                "predicted": names[region.predicted],
                "given_prob": round(region.given_prob, 6),
                "predicted_prob": round(region.predicted_prob, 4),
                "evidence": round(region.evidence, 3),
            }
            for image, region in review.regions
        ],
        "border_bias": [{"split": split, "class": names[k], "pixels": bias} for (split, k), bias in review.border_bias.items()],
    }


def write_review(
    review: LabelReview, folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Write a review: ``review.json``, and the images with doubtful regions or masks as labelme files and Label Studio tasks.

    Truth becomes the annotation of a task and the prediction its pre-annotation; in labelme's files the shapes of the prediction are
    called ``predicted: NAME``. At most :data:`MAX_TASKS` images are written, those with the most evidence first, then those that are
    doubtful as a whole. A review that is there already is replaced. ``progress`` is called with (images written, number of images).

    Raises
    ------
    OutputError
        The folder holds something else, or cannot be written.
    """
    chosen = list(dict.fromkeys(image.name for image in (*(image for image, _ in review.regions), *review.doubtful)))[:MAX_TASKS]
    by_name = {image.name: image for image in review.images}
    folder = Path(folder)
    with replace_folder(folder, what="review of labels", holds=(LIST, *TOOLS)) as partial:
        if chosen:
            annotated = (_annotated(review, by_name[name]) for name in chosen)
            write_tasks(
                _counted(annotated, len(chosen), progress), partial, review.predictor.labels, TOOLS, model=review.predictor.source,
                name=folder.name,
            )  # fmt: skip
        (partial / LIST).write_bytes(as_json(describe_review(review)))
    return folder.absolute()


def _counted(images: Iterable[AnnotatedImage], total: int, progress: Callable[[int, int], None]) -> Iterable[AnnotatedImage]:
    for done, image in enumerate(images, start=1):
        yield image
        progress(done, total)


def write_tasks(images: Iterable[AnnotatedImage], folder: Path, labels: LabelSpace, tools: Sequence[str], *, model: str, name: str) -> None:
    """Write images with their annotations into a folder, in one folder for each of ``tools``, which are names of writers.

    ``name`` is what the folder is called in the end, and ``model`` what made the predictions.
    """
    with contextlib.ExitStack() as failure:
        writers = []
        for tool in tools:
            options = WriterOptions(TOLERANCE, name=f"{name}/{tool}", model=model)
            (folder / tool).mkdir(parents=True, exist_ok=True)
            writers.append(find_writer(tool, predictions=True).open(folder / tool, labels, options))
            failure.callback(writers[-1].abandon)
        for image in images:
            for writer in writers:
                writer.add(image)
        for writer in writers:
            writer.close()
        failure.pop_all()


def _annotated(review: LabelReview, image: ReviewedImage) -> AnnotatedImage:
    """Return an image with its mask, and the prediction, which is made again."""
    sample, dataset = review.sample(image), review.splits[image.name[0]]
    prediction = review.predictor.predict(sample.image, name=sample.key).label_map
    file = _image_file(dataset, image.index)
    suffix = ".png" if file is None else file.suffix
    return AnnotatedImage(
        f"{PurePosixPath(sample.key)}{suffix}",
        truth=sample.label,
        prediction=prediction,
        instances=sample.instances,
        file=file,
        pixels=sample.image,
        split=image.name[0],
    )


def _image_file(dataset: Dataset, index: int) -> Path | None:
    return dataset.image_files[index] if isinstance(dataset, InFiles) else None


def first_lines(review: LabelReview, count: int) -> list[str]:
    """Return a line for each of the regions with the most evidence."""
    names = review.predictor.labels.names
    return [_line(image, region, names) for image, region in review.regions[:count]]


def _line(image: ReviewedImage, region: DoubtfulRegion, names: Sequence[str]) -> str:
    left, top, right, bottom = region.box
    where = f"{image.name[0]} {image.name[1]}: columns {left}-{right}, rows {top}-{bottom}, {region.area:,} pixels"
    given = f"labelled '{names[region.given]}' (probability {region.given_prob:.2g})"
    return f"{where} {given}, predicted '{names[region.predicted]}' ({region.predicted_prob:.2f})"


def as_json(values: dict[str, Any]) -> bytes:
    """Return values as the content of a JSON file; names may hold bytes that are no text, which are escaped."""
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
