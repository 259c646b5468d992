"""Folders with masks beside their images, whose names end in a word such as ``_mask``.

::

    export/                                        data/
    ├── train/a_jpg.rf.0f.jpg                      ├── a.jpg
    │         a_jpg.rf.0f_mask.png                 ├── a_mask.png
    │         _classes.csv                         └── classes.txt
    └── valid/…

The first is Roboflow's export "Semantic Segmentation Masks". Without folders for the
splits a fifth of the images is val; images and masks may then be in folders of any other names.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from upscore.data.class_names import CLASS_FILES, find_class_names
from upscore.data.colour_masks import ColourTable
from upscore.data.folder_pairs import file_key
from upscore.data.folder_roles import by_split, mask_word, subfolders
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import choose_split, divide
from upscore.data.unnamed_classes import is_binary, numbered_classes
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import LabelSpace

__all__ = ["READER", "has_masks_beside", "open_side_by_side", "side_by_side_splits"]

_FILES_CHECKED = 10_000


def has_masks_beside(root: Path) -> bool:
    """Whether ``root``, or each of its folders of splits, holds images and masks side by side."""
    return bool(_folders(root))


def side_by_side_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that have a folder, or train and val where the images are divided."""
    found = _folders(root)
    return ("train", "val") if "" in found else tuple(found)


def open_side_by_side(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a folder where :func:`has_masks_beside`.

    A DataError is raised where the split is missing, an image has no mask or a mask no image, or no file names the
    classes and the values of the masks are not plainly classes. Masks of 0 and 255 alone show one object.
    """
    found = _folders(root)
    split = choose_split(root, split, side_by_side_splits(root))
    folder = found.get(split) or found[""]
    warnings: list[str] = []
    pairs = _pairs(folder, warnings)
    if "" in found:
        pairs = divide(root, pairs, split, warnings, because="there are no folders train and val", by=options.split_by)
    named = find_class_names(folder) or find_class_names(root)
    read = None
    if named is not None:
        labels, mapping = named.labels, named.mapping
        warnings.append(named.warning)
        read = ColourTable(named.colours, named.file.name) if named.colours else None
    else:
        labels, mapping = _unnamed_classes(root, [pair.mask for part in found.values() for pair in _pairs(part, [])], warnings)
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, mapping=mapping, read_mask=read, warnings=warnings)


def _unnamed_classes(root: Path, masks: list[Path], warnings: list[str]) -> tuple[LabelSpace, dict[int, int] | None]:
    """Return the classes that the values of the masks show, and the mapping where they are 0 and 255."""
    remedy = f"write the names of the classes 0, 1, 2, … into {root / 'classes.txt'}, one a line"
    if is_binary(masks):
        warnings.append("the masks hold 0 and 255 alone, which were taken for the classes background and object")
        return LabelSpace(("background", "object")), {0: 0, 255: 1}
    try:
        labels = numbered_classes(root, masks)
    except DataError as error:
        raise DataError(f"{root}: no file names the classes of the masks beside the images: {remedy}; {error}") from None
    warnings.append(
        f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}: {remedy}"
    )
    return labels, None


def _folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split, or ``root`` as ``""``; nothing if masks are not beside images, there or in its folders."""
    own = by_split({name: root / name for name in subfolders(root)})
    beside = {split: folder for split, folder in own.items() if _first_mask(folder)}
    return beside or ({"": root} if any(map(_first_mask, (root, *(root / name for name in subfolders(root))))) else {})


def _first_mask(folder: Path) -> bool:
    """Whether any image among the first files has a mask beside it."""
    try:
        with os.scandir(folder) as entries:
            files = [entry.name.lower() for entry in islice(entries, _FILES_CHECKED) if not entry.name.startswith(".")]
    except OSError:
        return False
    names = {name.rpartition(".")[0] for name in files if name.endswith(IMAGE_SUFFIXES)}
    return any(name.removesuffix(word) in names for name in names if (word := mask_word(name)))


def _pairs(folder: Path, warnings: list[str]) -> list[Pair]:
    files, others = list_images(folder)
    images: list[tuple[str, Path]] = []
    masks: list[tuple[str, Path]] = []
    used = set()
    for path in files:
        key = file_key(path, folder)
        word = mask_word(key)
        used.add(word.lower())
        (masks if word else images).append((key.removesuffix(word) if word else key, path))
    kinds = sorted(used - {""})
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: found masks of {len(kinds)} kinds, whose names end in {listed(kinds)}: leave those of one kind in the folder"
        )
    others = [path for path in others if path.name not in CLASS_FILES]
    if others:
        warnings.append(f"{len(others)} files in {folder} are not images and were left out ({listed([path.name for path in others])})")
    warnings.append(f"the files whose names end in {kinds[0]} were taken for the masks of those beside them")
    return match_masks(images, masks, rule=f"a mask is called as its image, with {kinds[0]} at the end of the name")


READER = Reader(
    "masks beside them",
    "a folder of images with masks beside them (a.jpg, a_mask.png)",
    recognise=lambda path: os.path.isdir(path) and has_masks_beside(Path(path)),
    splits=lambda path: side_by_side_splits(Path(path)),
    open=lambda path, split, **options: open_side_by_side(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
