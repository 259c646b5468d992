"""A table of pairs: a CSV file with a column of images and one of their masks, and perhaps one of splits.

::

    pairs.csv                             also .tsv; divided by commas, semicolons or tabs
        image,mask,split,patient
        scans/a.png,labels/a.png,train,7
        "scans/b, left.png",labels/b.png,val,9

Paths are relative to the table's folder. Without a column of splits they are those of several tables' names (train.csv, val.csv), or a
fifth of the images is val. A sample's key is its image's path without the suffix.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from upscore.data.annotations.annotated_files import files_by_split, key_of
from upscore.data.annotations.recognition import files_with_suffix
from upscore.data.class_names import CLASS_FILES
from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS
from upscore.data.image_lists import find_below, find_end
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.splits import choose_split, divide
from upscore.data.unnamed_classes import classes_of_folder
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import listed, literal

__all__ = ["READER", "open_table"]

_SUFFIXES = (".csv", ".tsv")
_DELIMITERS = ",;\t"
_ENDINGS = ("", "_path", "_file", "_filename", "_name", " path", " file")
_SPLITS = ("split", "subset", "set", "partition")
_MAX_BYTES = 2**28
_MAX_ROWS = 5_000_000
_FILES_READ = 16
_BYTES_READ = 2**16


@dataclass(frozen=True)
class _Table:
    """The rows of a file, and which columns are meant."""

    file: Path
    rows: list[dict[str, str]]
    image: str
    mask: str
    split: str  #: "" where there is no such column


def open_table(root: Path, split: str, options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open one split of a table, or of a folder with such.

    Raises
    ------
    DataError
        The table cannot be read, has no columns of images and masks, a row lacks a cell or names a file that is missing, an image is named
        twice, or nothing names the classes and the values of the masks are not plainly classes.
    """
    warnings: list[str] = []
    tables = {name: [_read(file) for file in files] for name, files in _files(root).items()}
    every = [table for found in tables.values() for table in found]
    first = every[0]
    warnings.append(f"the column {first.image} of {first.file.name} was taken for the images, and {first.mask} for their masks")
    chosen = choose_split(root, split, _splits(tables))
    folder = root if root.is_dir() else root.parent
    rows = _rows_of(tables, chosen)
    pairs = _pairs(folder, rows, warnings)
    by_key = {pair.key: row for pair, (_, row) in zip(pairs, rows, strict=True)}
    if "" in tables and not any(table.split for table in every):
        pairs = divide(root, pairs, chosen, warnings, because=f"{first.file.name} has no column split", by=options.split_by, rows=by_key)
    all_rows = [(table, row) for table in every for row in table.rows]
    labels, mapping, colours = classes_of_folder(folder, lambda: [pair.mask for pair in _pairs(folder, all_rows, [])], warnings)
    return PairedFiles(
        pairs, labels, split=chosen, name=folder.resolve().name, mapping=mapping, read_mask=colours, warnings=tuple(dict.fromkeys(warnings))
    )


def _files(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        return {"": [root]}
    found = [file for file in files_with_suffix(root, _SUFFIXES)[:_FILES_READ] if file.name not in CLASS_FILES and _leads_to_files(file)]
    by_split = files_by_split(root, found, by_name=True)
    if len(by_split.get("", [])) > 1:
        raise DataError(f"{root}: found {len(found)} tables of images and masks ({listed(found)}): name the one that is meant")
    return by_split


def _splits(tables: Mapping[str, Sequence[_Table]]) -> tuple[str, ...]:
    if "" not in tables:
        return tuple(tables)
    named = dict.fromkeys(row[table.split].strip() for table in tables[""] if table.split for row in table.rows)
    return tuple(name for name in named if name) or ("train", "val")


def _rows_of(tables: Mapping[str, Sequence[_Table]], split: str) -> list[tuple[_Table, dict[str, str]]]:
    found = tables.get(split) or tables[""]
    return [(table, row) for table in found for row in table.rows if not table.split or row[table.split].strip() == split]


def _read(file: Path) -> _Table:
    text = read_text(file, max_bytes=_MAX_BYTES, what="a table of images and masks").removeprefix("\ufeff")
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(row for row in rows if any(row))]
        cells = [row for row in islice(rows, _MAX_ROWS + 1) if any(cell.strip() for cell in row)]
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{file}: cannot be read as a table: {str(error) or 'it is empty'}") from None
    if len(cells) > _MAX_ROWS:
        raise DataError(f"{file}: holds more than {_MAX_ROWS} rows")
    image, mask = _column(names, IMAGE_FOLDERS), _column(names, MASK_FOLDERS)
    if not image or not mask:
        raise DataError(f"{file}: its columns are {literal(names, 80)}, expected one called image and one called mask")
    if len(set(names)) < len(names):
        raise DataError(f"{file}: two columns are called '{next(name for name in names if names.count(name) > 1)}', expected each once")
    for number, row in enumerate(cells, 2):
        if len(row) != len(names):
            raise DataError(
                f"{file}: row {number} has {len(row)} cells and the header {len(names)}: put cells with '{delimiter}' in quotes"
            )
    if not cells:
        raise DataError(f"{file}: holds no row below its header, expected an image and its mask in each")
    split = next((name for name in names if name.lower() in _SPLITS), "")
    return _Table(file, [dict(zip(names, row, strict=True)) for row in cells], image, mask, split)


def _column(names: Sequence[str], words: Sequence[str]) -> str:
    """Return the first column that is called by one of the words, alone or with an ending such as ``_path``; "" where there is none."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[word + ending] for word in words for ending in _ENDINGS if word + ending in lower), "")


def _pairs(folder: Path, rows: Sequence[tuple[_Table, dict[str, str]]], warnings: list[str]) -> list[Pair]:
    pairs: dict[str, Pair] = {}
    by_end = 0
    for table, row in rows:
        paths: list[Path] = []
        for column in (table.image, table.mask):
            text = row[column].strip()
            path = _find(table.file.parent, text)
            if path is None:
                path = find_end(table.file.parent, text, file=True) if text else None
                by_end += path is not None
            if path is None:
                raise DataError(f"{table.file}: names the {column} {literal(text, 200)}, which is not below {table.file.parent}")
            paths.append(path)
        key = key_of(paths[0], folder)
        if key in pairs:
            raise DataError(f"{table.file}: names the image {literal(row[table.image], 200)} twice, expected each once")
        pairs[key] = Pair(key, paths[0], paths[1])
    if by_end:
        warnings.append(f"{by_end} paths in the table are of another machine: the files at their ends below {folder} were taken")
    return list(pairs.values())


def _find(folder: Path, text: str) -> Path | None:
    return find_below(folder, text, file=True) if text and "\0" not in text else None


def _leads_to_files(file: Path) -> bool:
    """Return whether the first row of a file names an image and a mask that are there; its first kilobytes are read."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_BYTES_READ)
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
        header = next((line for line in text.splitlines() if line.strip()), "")
        rows = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count)) if any(row))
        names, cells = [name.strip() for name in next(rows)], next(rows)
    except (OSError, csv.Error, StopIteration):
        return False
    image, mask = _column(names, IMAGE_FOLDERS), _column(names, MASK_FOLDERS)
    if not image or not mask or len(cells) != len(names):
        return False
    return all(_find(file.parent, cells[names.index(column)].strip()) is not None for column in (image, mask))


def _recognise(path: str) -> bool:
    if os.path.isdir(path):
        return any(_leads_to_files(file) for file in files_with_suffix(Path(path), _SUFFIXES)[:_FILES_READ] if file.name not in CLASS_FILES)
    return path.lower().endswith(_SUFFIXES) and os.path.isfile(path)


READER = Reader(
    "CSV",
    "a CSV of pairs (image, mask)",
    recognise=_recognise,
    splits=lambda path: _splits({name: [_read(file) for file in files] for name, files in _files(Path(path)).items()}),
    open=lambda path, split, **options: open_table(Path(path), split, reading_options(**options)),
    options=DIVIDED,
)
