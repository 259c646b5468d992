"""Open a dataset of any layout.

To add a layout, write a file in ``upscore.data.readers`` with a record ``READER``, and add it to :data:`READERS`.
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from upscore.data.class_sets import map_classes
from upscore.data.dataset import Dataset
from upscore.data.folder_roles import subfolders
from upscore.data.foreign_annotations import name_annotations
from upscore.data.reader import Reader
from upscore.data.readers import (
    ade20k,
    ade20k_full,
    cityscapes,
    coco,
    coco_panoptic,
    cvat,
    dataset_yaml,
    geojson,
    hugging_face,
    label_studio,
    labelme,
    nnunet,
    nyud,
    pascal_context,
    plain_folder,
    sbd,
    scene_folders,
    shapes,
    side_by_side,
    sift_flow,
    supervisely,
    table,
    via,
    voc,
    yolo,
)  # fmt: skip
from upscore.data.split_by import SplitBy
from upscore.errors import DataError
from upscore.files import reading
from upscore.text import listed, shortened

__all__ = ["READERS", "describe_readers", "list_splits", "open_dataset"]

READERS: tuple[Reader, ...] = (
    shapes.READER, yolo.READER, dataset_yaml.READER, sbd.READER, sift_flow.READER, pascal_context.READER, nyud.READER, voc.READER,
    cityscapes.READER, ade20k.READER, ade20k_full.READER, nnunet.READER, coco_panoptic.READER, supervisely.READER, table.READER,
    plain_folder.READER, scene_folders.READER, side_by_side.READER, coco.READER, labelme.READER, label_studio.READER, cvat.READER,
    via.READER, geojson.READER, hugging_face.READER,
)  # fmt: skip
"""Every reader; the first that recognises a path opens it."""

_MAX_ENTRIES, _MAX_NAMED = 100_000, 4


def describe_readers() -> str:
    """Return what can be opened, as a phrase that may follow "expected"; docs/data.md shows what each consists of."""
    *first, last = (reader.description.partition(" (")[0] for reader in READERS)
    return f"{', '.join(first)}, or {last}"


def open_dataset(path: str | os.PathLike[str], split: str = "train", *, classes: str = "", **options: Any) -> Dataset:
    """Open one split of a dataset of any layout.

    Parameters
    ----------
    path : path
        A folder or file that one of :data:`READERS` recognises, or ``"shapes"`` for the
        generated dataset. A folder of that name is meant by its full path.
    split : str
        Which part; :func:`list_splits` returns what there is. Other names in use for train,
        val and test are understood (:mod:`upscore.data.splits`).
    classes : str
        "voc" maps the classes, such as COCO's, to PASCAL VOC's by name (:mod:`upscore.data.class_sets`); "" leaves them as they are.
    **options
        For ``"shapes"`` ``size``, ``count``, ``seed``, ``bands`` and ``dtype``, see :func:`~upscore.data.readers.shapes.open_shapes`;
        for other layouts, as far as they leave it open, ``split_by``, ``crowd``, ``unlabelled``, ``drawing`` and ``annotation``,
        see :class:`~upscore.data.reading_options.ReadingOptions`. None means not given.

    Raises
    ------
    DataError
        No reader recognises the path, the split is missing or empty, images and masks do
        not match, or the reader has no such option.

    Examples
    --------
    >>> open_dataset("shapes", "val", size=(32, 40), count=3)[2].image.shape
    (32, 40, 3)
    """
    with reading(path):
        reader = _find_reader(path)
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := [name for name in given if name not in reader.options]:
            raise DataError(
                f"{path}: found the options {', '.join(unknown)}, expected {', '.join(reader.options) or 'none'} for this dataset"
            )
        if "split_by" in given:
            given["split_by"] = SplitBy(str(given["split_by"]))
        dataset = reader.open(os.fspath(path), split, **given)
        if "split_by" in given and not given["split_by"].used:
            splits = listed(reader.splits(os.fspath(path)), 8)
            raise DataError(f"{path}: found split_by and data that is divided already ({splits}): leave it out")
        return map_classes(dataset, classes) if classes else dataset


def list_splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the splits that :func:`open_dataset` opens at ``path``; DataError where no reader recognises it.

    >>> list_splits("shapes")
    ('train', 'val', 'test')
    """
    with reading(path):
        return _find_reader(path).splits(os.fspath(path))


def _find_reader(path: str | os.PathLike[str]) -> Reader:
    given = os.fspath(path)
    for reader in READERS:
        if reader.recognise(given):
            return reader
    expected = f"expected {describe_readers()}"
    if not os.path.exists(given):
        raise DataError(f"{given!r}: no such dataset, {expected}")
    folder = Path(given)
    if not folder.is_dir():
        raise DataError(f"{given}: found {name_annotations(folder) or 'a file'}; {expected}")
    raise DataError(f"{given}: the folder is no dataset: found {name_annotations(folder) or _list_kinds(folder)}; {expected}")


def _list_kinds(folder: Path) -> str:
    """Return how many files of each suffix and which folders there are in a folder, in a few words."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, _MAX_ENTRIES) if not entry.is_dir(follow_symlinks=False)]
    kinds = Counter(Path(name).suffix.lower() for name in names).most_common(_MAX_NAMED)
    files = [f"{count} {shortened(suffix, 20) or 'without a suffix'}" for suffix, count in kinds]
    folders = subfolders(folder)
    named = f"{'the folders' if len(folders) > 1 else 'the folder'} {listed(folders)}" if folders else ""
    return " and ".join(filter(None, [f"files ({', '.join(files)})" if files else "", named])) or "nothing in it"
