"""Open a dataset by looking at what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from upscore.data.dataset import Dataset
from upscore.data.folder import open_plain_folder, open_yaml, plain_splits, yaml_splits
from upscore.data.shapes import open_shapes, shapes_splits
from upscore.data.voc import open_voc, voc_splits
from upscore.errors import DataError
from upscore.files import reading

__all__ = ["list_splits", "open_dataset"]

_LAYOUTS = (
    "a dataset.yaml or a folder with one, a folder with images/ and masks/, "
    "a PASCAL VOC folder (JPEGImages, SegmentationClass, ImageSets/Segmentation), or the word shapes"
)


def open_dataset(
    path: str | os.PathLike[str],
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    seed: int | None = None,
) -> Dataset:
    """Open one split of a dataset, whatever its layout.

    Parameters
    ----------
    path : path
        A ``dataset.yaml`` or a folder that holds one, a folder with ``images/`` and
        ``masks/``, a PASCAL VOC folder, or ``"shapes"`` for the embedded generator. A
        folder of that name is meant by its full path.
    split : str
        Which part; :func:`list_splits` says what there is.
    size, count, seed : optional
        For ``"shapes"`` only; see :func:`~upscore.data.shapes.open_shapes`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        The path is none of these, the split is not there or empty, or pictures and masks
        do not match.
    """
    with reading(path):
        return _open(path, split, {"size": size, "count": count, "seed": seed})


def _open(path: str | os.PathLike[str], split: str, given: dict[str, Any]) -> Dataset:
    layout, place = _recognise(path)
    options = {name: value for name, value in given.items() if value is not None}
    if layout == "shapes":
        return open_shapes(split, **options)
    if options:
        raise DataError(f"{path}: the options {', '.join(options)} are for the dataset shapes alone: leave them out")
    if layout == "yaml":
        return open_yaml(place, split)
    if layout == "voc":
        return open_voc(place, split)
    return open_plain_folder(place, split)


def list_splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the splits :func:`open_dataset` would open at ``path``.

    Raises
    ------
    DataError
        The path is no dataset.
    """
    with reading(path):
        layout, place = _recognise(path)
        if layout == "shapes":
            return shapes_splits()
        return {"yaml": yaml_splits, "voc": voc_splits, "plain": plain_splits}[layout](place)


def _recognise(path: str | os.PathLike[str]) -> tuple[str, Path]:
    """Return the layout's name and where it begins."""
    place = Path(path)
    if os.fspath(path) == "shapes":
        return "shapes", place
    if not os.path.exists(path):
        raise DataError(f"{os.fspath(path)!r}: no such dataset, expected {_LAYOUTS}")
    if not place.is_dir():
        if place.suffix.lower() in (".yaml", ".yml"):
            return "yaml", place
        raise DataError(f"{place}: found a file, expected {_LAYOUTS}")
    for name in ("dataset.yaml", "dataset.yml"):
        if (place / name).is_file():
            return "yaml", place / name
    if (place / "JPEGImages").is_dir() and (place / "SegmentationClass").is_dir():
        return "voc", place
    if (place / "images").is_dir() and (place / "masks").is_dir():
        return "plain", place
    raise DataError(f"{place}: the folder is no dataset, expected {_LAYOUTS}")
