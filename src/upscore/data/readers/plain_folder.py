"""Folders of images and masks without a description.

::

    data/                       data/
    ├── images/                 ├── images/
    │   ├── train/a.jpg         │   ├── a.jpg
    │   └── val/b.jpg           │   └── b.jpg
    ├── masks/                  ├── masks/
    │   ├── train/a.png         │   ├── a.png
    │   └── val/b.png           │   └── b.png
    └── classes.txt             └── classes.txt

Other names and orders of the folders: :mod:`upscore.data.folder_roles`; files of class names:
:mod:`upscore.data.class_names`. An ``instances/`` folder may mirror ``masks/``. A sample's key
is its image's path below the split's folder, without the suffix.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upscore.data.class_names import find_class_names
from upscore.data.folder_pairs import file_key, pair_plain_folder, plain_splits
from upscore.data.folder_roles import find_folders
from upscore.data.mask_files import read_mask
from upscore.data.mask_rules import apply_rules
from upscore.data.paired_files import PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.splits import choose_split
from upscore.data.stored_masks import StoredMasks
from upscore.data.tiff import list_pages
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["READER", "open_plain_folder"]


def open_plain_folder(root: Path, split: str) -> PairedFiles:
    """Open one split of a folder that holds ``images/`` and ``masks/``, or folders of other names for the same.

    Class names come from ``classes.txt`` (one a line) or another file of class names; without
    it all masks are read once to count the classes. The dataset's ``warnings`` contain where they come from. ``split`` is one of
    :func:`~upscore.data.folder_pairs.plain_splits`, or another name for it.

    Raises
    ------
    DataError
        There are no images or no masks, they do not match one to one, or class names are
        not given and the masks' values are not plainly classes.
    """
    warnings: list[str] = []
    pairs, masks = pair_plain_folder(root, split, warnings)
    named = find_class_names(root)
    if named is not None:
        labels, mapping = named.labels, named.mapping
        if named.file.name != "classes.txt":
            warnings.append(named.warning)
    else:
        labels, mapping = _labels_in(root, [page for folder in masks for mask in list_images(folder)[0] for page in list_pages(mask)]), None
        warnings.append(f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}")
    settings_file = None if named and named.mapping else root / "dataset.yaml"
    split = choose_split(root, split, plain_splits(root))
    name = root.resolve().name
    return PairedFiles(pairs, labels, split=split, name=name, mapping=mapping, warnings=warnings, settings_file=settings_file)


def _labels_in(root: Path, masks: Sequence[Path]) -> LabelSpace:
    """Return numbered classes where the values of the masks are plainly classes."""
    occurs, counts, palettes = np.zeros((len(masks), 256), bool), np.zeros(256, np.int64), []
    for path, row in zip(masks, occurs, strict=True):
        mask = read_mask(path)
        found = np.bincount(mask.label.ravel(), minlength=256)
        row[:], counts = found > 0, counts + found
        palettes.append(mask.palette)
    values = [int(value) for value in np.flatnonzero(counts)]
    classes = [value for value in values if value != IGNORE]
    if classes and classes[-1] + 1 <= 2 * len(classes) and values != [0, IGNORE]:
        return LabelSpace(tuple(f"class{number}" for number in range(classes[-1] + 1)))
    name, keys, settings_file = root.resolve().name, [file_key(path, root / "masks") for path in masks], root / "dataset.yaml"
    # If two classes explain the values, the remedies are for two; otherwise for a class for each value.
    for names in (("background", "object"), tuple(f"class{value}" for value in values[:32])):
        stored = StoredMasks(name, "masks", keys, names, occurs, counts, palettes=palettes, files=masks, settings_file=settings_file)
        (finding, *_) = apply_rules([stored])
        if finding.id != "values.no-class" or len(values) == 2:
            break
    raise DataError(
        f"the masks hold the values {listed(values, 8)}, which are not plainly classes, and no names are given: {finding.text()}"
    )


def _recognise(path: str) -> bool:
    return os.path.isdir(path) and any(find_folders(Path(path)))


READER = Reader(
    "images/ and masks/",
    "a folder with images/ and masks/",
    recognise=_recognise,
    splits=lambda path: plain_splits(Path(path)),
    open=lambda path, split: open_plain_folder(Path(path), split),
)
