"""Open a dataset by looking at what is there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upscore.data.dataset import Dataset
from upscore.data.folder import open_plain_folder, open_yaml, plain_splits, yaml_splits
from upscore.data.folder_roles import find_places, subfolders
from upscore.data.foreign_annotations import name_annotations
from upscore.data.paired_files import PairedFiles
from upscore.data.shapes import open_shapes, shapes_splits
from upscore.data.side_by_side import has_masks_beside, open_side_by_side, side_by_side_splits
from upscore.data.splits import choose_split
from upscore.data.voc import open_voc, voc_splits
from upscore.errors import DataError
from upscore.files import read_text, reading
from upscore.text import listed

__all__ = ["LAYOUTS", "Layout", "layouts_in_words", "list_splits", "open_dataset"]


@dataclass(frozen=True)
class Layout:
    """A form of dataset that can be opened.

    Parameters
    ----------
    word : str
        What it is called in the help of commands.
    description : str
        What it is, in words that follow "expected".
    recognise : callable
        Returns where the dataset begins, for a folder that is of this form; else None.
    splits, open : callable
        Return the names of the splits, and one of them opened.
    """

    word: str
    description: str
    recognise: Callable[[Path], Path | None]
    splits: Callable[[Path], tuple[str, ...]]
    open: Callable[[Path, str], PairedFiles]


def _yaml_in(folder: Path) -> Path | None:
    """Return the folder's ``dataset.yaml``, or another YAML file that describes a dataset.

    dataset.yaml comes before data.yaml, and both before the one file of another name that
    gives names (or nc) and a split. Several of other names are an error.
    """
    describing = _describing(folder)
    named = [name for name in _YAML_NAMES if name in describing]
    if not named and len(describing) > 1:
        raise DataError(f"{folder}: found {listed(describing)}, which all describe a dataset: name the one that is meant")
    return folder / (named or describing)[0] if describing else None


def _open_yaml_in(file: Path, split: str) -> PairedFiles:
    """Open a described dataset, and say which of several descriptions was read."""
    others = [name for name in _describing(file.parent) if name != file.name]
    warnings = (f"{file.name} was read, and {listed(others)} beside it, which also describes a dataset, was not read",) if others else ()
    return open_yaml(file, split, warnings=warnings)


def _describing(folder: Path) -> list[str]:
    """Return the names of the YAML files of a folder that describe a dataset, sorted."""
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith((".yaml", ".yml")) and not name.startswith(".")]
    except OSError:
        return []
    looked_at = [name for name in _YAML_NAMES if name in names] + sorted(set(names) - set(_YAML_NAMES))[:_YAML_SEEN]
    return sorted(name for name in looked_at if (name in _YAML_NAMES[:2] and (folder / name).is_file()) or _describes(folder / name))


_YAML_NAMES = ("dataset.yaml", "dataset.yml", "data.yaml", "data.yml")
_YAML_SEEN = 100
_YAML_BYTES = 2**18


def _describes(file: Path) -> bool:
    """Whether a YAML file has the keys of a dataset; one that cannot be read is taken for one where it has a dataset's name."""
    try:
        text = read_text(file, max_bytes=_YAML_BYTES, what="YAML")
    except DataError:
        return file.name in _YAML_NAMES
    return all(re.search(keys, text, re.MULTILINE) for keys in (r"^['\"]?(names|nc)['\"]?\s*:", r"^['\"]?(train|val|test)\w*['\"]?\s*:"))


def _voc_in(folder: Path) -> Path | None:
    return folder if (folder / "JPEGImages").is_dir() and (folder / "SegmentationClass").is_dir() else None


def _plain_in(folder: Path) -> Path | None:
    if _voc_in(folder):  # whose folders could also be taken for any images and masks
        return None
    together, own = find_places(folder)
    return folder if together or own else None


def _side_by_side_in(folder: Path) -> Path | None:
    return folder if has_masks_beside(folder) else None


LAYOUTS = (
    Layout("dataset.yaml", "a dataset.yaml or a folder with one", _yaml_in, yaml_splits, _open_yaml_in),
    Layout("images/ and masks/", "a folder with images/ and masks/", _plain_in, plain_splits, open_plain_folder),
    Layout(
        "PASCAL VOC",
        "a PASCAL VOC folder (JPEGImages, SegmentationClass, ImageSets/Segmentation)",
        _voc_in,
        voc_splits,
        open_voc,
    ),
    Layout(
        "a_mask.png",
        "a folder of images with masks beside them (a.jpg, a_mask.png)",
        _side_by_side_in,
        side_by_side_splits,
        open_side_by_side,
    ),
)
"""Every form, in the order in which they are looked for; and there is ``shapes``, which is made up."""


def layouts_in_words() -> str:
    """Return what can be opened, to follow "expected"."""
    return f"{', '.join(layout.description for layout in LAYOUTS)}, or the word shapes"


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
        A ``dataset.yaml`` or a folder of one of :data:`LAYOUTS`, or ``"shapes"`` for the
        embedded generator. A folder of that name is meant by its full path.
    split : str
        Which part; :func:`list_splits` says what there is. Other names in use for train,
        val and test are understood (:mod:`upscore.data.splits`).
    size, count, seed : optional
        For ``"shapes"`` only; see :func:`~upscore.data.shapes.open_shapes`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        The path is none of these, the split is not there or empty, or images and masks
        do not match.
    """
    with reading(path):
        return _open(path, split, {"size": size, "count": count, "seed": seed})


def _open(path: str | os.PathLike[str], split: str, given: dict[str, Any]) -> Dataset:
    options = {name: value for name, value in given.items() if value is not None}
    if os.fspath(path) == "shapes":
        return open_shapes(choose_split(Path("shapes"), split, shapes_splits()), **options)
    layout, place = _recognise(path)
    if options:
        raise DataError(f"{path}: the options {', '.join(options)} are for the dataset shapes alone: leave them out")
    return layout.open(place, split)


def list_splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the splits :func:`open_dataset` would open at ``path``.

    Raises
    ------
    DataError
        The path is no dataset.
    """
    with reading(path):
        if os.fspath(path) == "shapes":
            return shapes_splits()
        layout, place = _recognise(path)
        return layout.splits(place)


def _recognise(path: str | os.PathLike[str]) -> tuple[Layout, Path]:
    """Return the layout and where it begins."""
    place = Path(path)
    if not os.path.exists(path):
        raise DataError(f"{os.fspath(path)!r}: no such dataset, expected {layouts_in_words()}")
    if not place.is_dir():
        if place.suffix.lower() in (".yaml", ".yml"):
            return replace(LAYOUTS[0], open=open_yaml), place  # named outright: others beside it are no matter
        raise DataError(f"{place}: found {name_annotations(place) or 'a file'}; expected {layouts_in_words()}")
    for layout in LAYOUTS:
        if (start := layout.recognise(place)) is not None:
            return layout, start
    found = name_annotations(place) if subfolders(place) or os.listdir(place) else ""
    raise DataError(f"{place}: the folder is no dataset{f': found {found}' if found else ''}; expected {layouts_in_words()}")
