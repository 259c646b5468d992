"""Classes of masks: those that a file in their folder names, or numbers where none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from upscore.data.class_names import find_class_names
from upscore.data.colour_masks import ColourTable
from upscore.data.folder_pairs import file_key
from upscore.data.mask_files import read_mask
from upscore.data.mask_rules import apply_rules
from upscore.data.stored_masks import StoredMasks
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["classes_of_folder", "is_binary", "numbered_classes"]


def classes_of_folder(
    folder: Path, masks: Callable[[], Sequence[Path]], warnings: list[str]
) -> tuple[LabelSpace, dict[int, int] | None, ColourTable | None]:
    """Return the classes of masks, the class of each stored value where they are not the same, and what reads colours where they are.

    They are those of a file of class names in ``folder``, or else class0, class1, …, for which all ``masks`` are read. ``warnings``
    gets where they come from. DataError as :func:`numbered_classes`.
    """
    if (named := find_class_names(folder)) is not None:
        warnings.append(named.warning)
        return named.labels, named.mapping, ColourTable(named.colours, named.file.name) if named.colours else None
    labels = numbered_classes(folder, masks())
    warnings.append(
        f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}: write their names "
        f"into {folder / 'classes.txt'}, one a line"
    )
    return labels, None, None


def is_binary(masks: Sequence[Path]) -> bool:
    """Return whether all masks together hold 0 and 255 and nothing else, as editors save one object on a background."""
    found = set[int]()
    for path in masks:
        found.update(np.unique(read_mask(path).label).tolist())
        if not found <= {0, IGNORE}:
            return False
    return found == {0, IGNORE}


def numbered_classes(root: Path, masks: Sequence[Path]) -> LabelSpace:
    """Return class0, class1, … where the values of the masks are plainly classes; DataError with what they may be where not."""
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
    name, keys, settings_file = root.resolve().name, [file_key(path, root) for path in masks], root / "dataset.yaml"
    # If two classes explain the values, the remedies are for two; otherwise for a class for each value.
    for names in (("background", "object"), tuple(f"class{value}" for value in values[:32])):
        stored = StoredMasks(name, "masks", keys, names, occurs, counts, palettes=palettes, files=masks, settings_file=settings_file)
        (finding, *_) = apply_rules([stored])
        if finding.id != "values.no-class" or len(values) == 2:
            break
    raise DataError(
        f"the masks hold the values {listed(values, 8)}, which are not plainly classes, and no names are given: {finding.text()}"
    )
