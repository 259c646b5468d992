"""Hugging Face's datasets in Parquet files: a column of images, and one of their masks.

::

    data/
    ├── README.md                                   the dataset's card; its id2label may name the classes
    ├── id2label.json                               {"0": "road", "1": "car"}: or here
    └── data/train-00000-of-00002.parquet           also validation-…, test-…

The masks' column is called label, mask, annotation or the like, and holds PNGs. A sample's key is the name of its image where every row
has one of its own, and its row's number where not. Files are read a group of rows at a time (:mod:`upscore.data.parquet_files`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from upscore.data.annotations.annotated_files import files_by_split, pairs_of_split, splits_of
from upscore.data.annotations.recognition import files_with_suffix
from upscore.data.class_names import find_class_names
from upscore.data.colour_masks import ColourTable
from upscore.data.encoded_image import cell_path
from upscore.data.folder_roles import subfolders
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.parquet_files import PARQUET_SUFFIX, ParquetTable, read_image_paths, read_table, row_groups
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import canonical_split
from upscore.data.unnamed_classes import classes_of_folder
from upscore.documents import parse_json, parse_yaml
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import listed, literal
from upscore.types import IGNORE, LabelSpace

__all__ = ["IMAGE_COLUMNS", "MASK_COLUMNS", "READER", "open_hugging_face"]

IMAGE_COLUMNS = ("image", "images", "img", "pixel_values", "input", "picture", "photo", "jpg", "jpeg")
"""Names of a column of images, in lower case; the first that is there is taken."""

MASK_COLUMNS = (
    "label", "labels", "mask", "masks", "annotation", "annotations", "segmentation", "segmentation_mask", "semantic_mask", "seg", "gt",
    "ground_truth", "target", "png",
)  # fmt: skip
"""Names of a column of masks, in lower case."""

_MAX_BYTES = 2**20
_PLAIN = re.compile(r"[\w. -]{1,100}")


def open_hugging_face(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a folder of Parquet files, or one such file.

    Raises
    ------
    DataError
        pyarrow is not installed, a file is damaged, it is not clear which columns hold images and masks, or nothing names the classes and
        the values of the masks are not plainly classes.
    """
    groups = row_groups()
    by_split = _files(root)
    tables = {file: read_table(file) for files in by_split.values() for file in files}
    columns = _columns(next(iter(tables.values())))
    for file, table in tables.items():
        if missing := [column for column in columns if column not in table.image_columns]:
            raise DataError(f"{file}: has no column '{missing[0]}' of images, as the files beside it have")
    warnings = [f"the column {columns[0]} was taken for the images, and {columns[1]} for their masks"]

    def read(files: Sequence[Path]) -> list[Pair]:
        pairs = _pairs([tables[file] for file in files], columns)
        if not pairs:
            raise DataError(f"{files[0]}: holds no row, expected an image and its mask in each")
        return pairs

    split, pairs = pairs_of_split(root, split, by_split, read, warnings, options.split_by)
    labels, mapping, colours = _classes(root, tables, columns[1], warnings)
    name = (root if root.is_dir() else root.parent).resolve().name
    return PairedFiles(pairs, labels, split=split, name=name, mapping=mapping, read_mask=colours, warnings=warnings, holds=groups)


def _files(root: Path) -> dict[str, list[Path]]:
    """Return the files of each split; DataError where there are several configurations."""
    if not root.is_dir():
        return {"": [root]}
    found = _below(root)
    configurations = sorted({file.relative_to(root).parts[0] for file in found if len(file.relative_to(root).parts) > 1})
    own = [name for name in configurations if canonical_split(name) is None]
    if len(own) > 1:
        raise DataError(f"{root}: holds {len(own)} configurations of a dataset ({listed(own)}): name the folder of the one that is meant")
    return files_by_split(root, found, by_name=True)


def _below(root: Path) -> list[Path]:
    folders = [root]
    for name in subfolders(root)[:1000]:
        folders += [root / name, *(root / name / inner for inner in subfolders(root / name)[:1000])]
    return [file for folder in folders for file in files_with_suffix(folder, (PARQUET_SUFFIX,))]


def _columns(table: ParquetTable) -> tuple[str, str]:
    """Return the columns of the images and of the masks."""
    columns = [column for column in table.image_columns if _PLAIN.fullmatch(column)]
    masks = [column for word in MASK_COLUMNS for column in columns if column.lower() == word]
    images = [column for word in IMAGE_COLUMNS for column in columns if column.lower() == word]
    if len(columns) == 2 and len(masks) + len(images) >= 1:  # one of the two is known
        image = images[0] if images else next(column for column in columns if column != masks[0])
        return image, next(column for column in columns if column != image)
    if not images or len(masks) != 1:
        expected = f"one called {IMAGE_COLUMNS[0]} and one called {', '.join(MASK_COLUMNS[:5])} or the like"
        raise DataError(f"{table.file}: its columns of images are {listed(table.image_columns, 8) or 'none'}, expected {expected}")
    return images[0], masks[0]


def _pairs(tables: Sequence[ParquetTable], columns: tuple[str, str]) -> list[Pair]:
    rows = [(table.file, row) for table in tables for row in range(1, table.rows + 1)]
    names = [path and PurePosixPath(path.replace("\\", "/")).stem for table in tables for path in read_image_paths(table.file, columns[0])]
    if not all(names) or len(set(names)) < len(names) or len(names) != len(rows):
        names = [f"{number:06d}" for number in range(1, len(rows) + 1)]
    image, mask = columns
    return [Pair(str(name), cell_path(file, image, row), cell_path(file, mask, row)) for name, (file, row) in zip(names, rows, strict=True)]


def _classes(
    root: Path, tables: Mapping[Path, ParquetTable], column: str, warnings: list[str]
) -> tuple[LabelSpace, dict[int, int] | None, ColourTable | None]:
    """Return the classes, the class of each stored value where they are not the same, and the colours where a file gives them."""
    folder = root if root.is_dir() else root.parent
    if find_class_names(folder) is None:
        for source, names in (
            ("id2label.json", _of_file(folder / "id2label.json")),
            ("the card README.md", _of_card(folder / "README.md")),
            ("the files' features", _of_features(next(iter(tables.values())), column)),
        ):
            if names is not None:
                labels, mapping = _numbered(folder, source, names)
                warnings.append(f"the names of the {len(labels)} classes come from {source}")
                return labels, mapping, None
    masks = [cell_path(table.file, column, row) for table in tables.values() for row in range(1, table.rows + 1)]
    return classes_of_folder(folder, lambda: masks, warnings)


def _of_file(file: Path) -> Any:
    if not file.exists():
        return None
    try:
        return parse_json(read_text(file, max_bytes=_MAX_BYTES, what="class names"))
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None


def _of_card(file: Path) -> Any:
    """Return what the front matter of a card has as id2label; None where it has none, or cannot be read."""
    try:
        text = read_text(file, max_bytes=_MAX_BYTES, what="the dataset's card").replace("\r\n", "\n")
        begin, end = text.startswith("---\n"), text.find("\n---", 4)
        content = parse_yaml(text[4:end]) if begin and end > 0 else None
    except (DataError, ValueError):
        return None
    return content.get("id2label") if isinstance(content, dict) else None


def _of_features(table: ParquetTable, column: str) -> Any:
    feature = table.features.get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    return dict(enumerate(names)) if isinstance(names, list) and names else None


def _numbered(folder: Path, source: str, names: Any) -> tuple[LabelSpace, dict[int, int] | None]:
    """Return the classes of a mapping from numbers to names."""
    expected = 'expected numbers and names, as in {"0": "road", "1": "car"}'
    if not isinstance(names, dict) or not names:
        raise DataError(f"{folder}: {source} has {literal(names, 60)} as id2label, {expected}")
    numbers: dict[int, str] = {}
    for number, name in names.items():
        if not re.fullmatch(r"\d{1,5}", str(number)) or not isinstance(name, str):
            raise DataError(f"{folder}: {source} has {literal(number, 40)}: {literal(name, 40)} in id2label, {expected}")
        if int(number) != IGNORE:
            numbers[int(number)] = name
    ordered = sorted(numbers)
    try:
        labels = LabelSpace(tuple(numbers[number] for number in ordered))
    except DataError as error:
        raise DataError(f"{folder}: {source}: {error}") from None
    return labels, None if ordered == list(range(len(ordered))) else {number: label for label, number in enumerate(ordered)}


def _recognise(path: str) -> bool:
    return bool(_below(Path(path))) if os.path.isdir(path) else path.lower().endswith(PARQUET_SUFFIX) and os.path.isfile(path)


READER = Reader(
    "Parquet",
    "Hugging Face's Parquet files (data/train-*.parquet)",
    recognise=_recognise,
    splits=lambda path: splits_of(_files(Path(path))),
    open=lambda path, split, **options: open_hugging_face(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
