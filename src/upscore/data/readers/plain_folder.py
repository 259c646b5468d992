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
from pathlib import Path

from upscore.data.class_names import find_class_names
from upscore.data.colour_masks import ColourTable
from upscore.data.folder_pairs import pair_plain_folder, plain_splits
from upscore.data.folder_roles import find_folders
from upscore.data.paired_files import PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import choose_split
from upscore.data.tiff import list_pages
from upscore.data.unnamed_classes import numbered_classes
from upscore.text import listed

__all__ = ["READER", "open_plain_folder"]


def open_plain_folder(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
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
    pairs, masks = pair_plain_folder(root, split, warnings, by=options.split_by)
    named = find_class_names(root)
    if named is not None:
        labels, mapping = named.labels, named.mapping
        if named.file.name != "classes.txt":
            warnings.append(named.warning)
    else:
        labels, mapping = (
            numbered_classes(root, [page for folder in masks for mask in list_images(folder)[0] for page in list_pages(mask)]),
            None,
        )
        warnings.append(f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}")
    settings_file = None if named and (named.mapping or named.colours) else root / "dataset.yaml"
    read = ColourTable(named.colours, named.file.name) if named and named.colours else None
    split = choose_split(root, split, plain_splits(root))
    name = root.resolve().name
    return PairedFiles(
        pairs, labels, split=split, name=name, mapping=mapping, read_mask=read, warnings=warnings, settings_file=settings_file
    )  # fmt: skip


def _recognise(path: str) -> bool:
    return os.path.isdir(path) and any(find_folders(Path(path)))


READER = Reader(
    "images/ and masks/",
    "a folder with images/ and masks/",
    recognise=_recognise,
    splits=lambda path: plain_splits(Path(path)),
    open=lambda path, split, **options: open_plain_folder(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
