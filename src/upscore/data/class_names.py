"""Class names in files of their own, as annotation tools write them.

::

    classes.txt, class_names.txt     one name a line; a first line __ignore__ (labelme's label -1) is no class
    labelmap.txt                     name:red,green,blue:parts:actions, a class a line (CVAT, Datumaro); or one name a line
    _classes.csv                     Pixel Value, Class (Roboflow)
    class_dict.csv                   name,r,g,b, a class a line; a class called void is ignored (CamVid and many of Kaggle's datasets)
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upscore.errors import DataError
from upscore.files import read_text
from upscore.types import IGNORE, LabelSpace

__all__ = ["CLASS_FILES", "ClassNames", "find_class_names", "read_class_names"]

CLASS_FILES = ("classes.txt", "class_names.txt", "labelmap.txt", "_classes.csv", "class_dict.csv")
"""Files that are read for the names, in this order: the first that is there counts."""

_MAX_BYTES = 2**18
_IGNORED = ("__ignore__", "ignored", "void")
_COLOUR = re.compile(r"\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\Z")


@dataclass(frozen=True)
class ClassNames:
    """The content of a file of class names."""

    file: Path
    labels: LabelSpace  #: with their colours where the file gives them
    mapping: dict[int, int] | None = None  #: class of each stored value, where the file numbers its classes otherwise than 0, 1, 2, …
    colours: dict[tuple[int, int, int], int] = field(default_factory=dict)  #: class of each RGB colour, 255 for ignored

    @property
    def warning(self) -> str:
        """Where the names come from."""
        return f"the names of the {len(self.labels)} classes come from {self.file.name}"


def find_class_names(folder: Path, files: Sequence[str] = CLASS_FILES) -> ClassNames | None:
    """Read the first of ``files`` that is in ``folder`` with :func:`read_class_names`; None if there is none."""
    file = next((folder / name for name in files if (folder / name).exists()), None)
    return None if file is None else read_class_names(file)


def read_class_names(file: Path) -> ClassNames:
    """Read a file of class names.

    Raises
    ------
    DataError
        The file cannot be read, names no class or one twice, gives two classes one colour
        or one value, or has a line that is none of its format.
    """
    text = read_text(file, max_bytes=_MAX_BYTES, what="class names, one a line")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        if file.suffix.lower() == ".csv":
            coloured = lines and [cell.strip().lower() for cell in lines[0].split(",")] == ["name", "r", "g", "b"]
            return _from_colours(file, [_as_colour_line(line) for line in lines[1:]]) if coloured else _from_table(file, lines)
        if any(re.match(r"[^:]+:[^:]*:[^:]*:[^:]*\Z", line) for line in lines if not line.startswith("#")):
            return _from_colours(file, [line for line in lines if not line.startswith("#")])
        named = lines[1:] if lines[:1] == ["__ignore__"] else lines
        return ClassNames(file, LabelSpace(tuple(named)))
    except DataError as error:
        raise error if str(error).startswith(str(file)) else DataError(f"{file}: {error}") from None


def _from_colours(file: Path, lines: Sequence[str]) -> ClassNames:
    names: list[str] = []
    palette: list[tuple[int, int, int]] = []
    colours: dict[tuple[int, int, int], int] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        found = _COLOUR.match(rest.partition(":")[0])
        red, green, blue = (int(part) for part in found.groups()) if found else (-1, -1, -1)
        if not found or max(red, green, blue) > 255:
            raise DataError(f"{file}: found the line {line!r}, expected name:red,green,blue:: with numbers from 0 to 255")
        colour = (red, green, blue)
        if colour in colours:
            raise DataError(f"{file}: '{name.strip()}' has the colour {red},{green},{blue} of another class: give each class its own")
        if name.strip().lower() in _IGNORED:
            colours[colour] = IGNORE
            continue
        colours[colour] = len(names)
        names.append(name.strip())
        palette.append(colour)
    return ClassNames(file, LabelSpace(tuple(names), tuple(palette)), None, colours)


def _as_colour_line(line: str) -> str:
    """Return ``name,red,green,blue`` as ``name:red,green,blue``."""
    name, _, colour = line.replace('"', "").partition(",")
    return f"{name}:{colour}"


def _from_table(file: Path, lines: Sequence[str]) -> ClassNames:
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except csv.Error as error:
        raise DataError(f"{file}: cannot be read as a table of pixel values and classes: {error}") from error
    if not rows or [cell.lower() for cell in rows[0]] != ["pixel value", "class"]:
        raise DataError(f"{file}: begins with {lines[0] if lines else 'nothing'!r}, expected the header 'Pixel Value, Class'")
    names: list[str] = []
    mapping: dict[int, int] = {}
    for row in rows[1:]:
        if len(row) != 2 or not re.fullmatch(r"\d{1,5}", row[0]) or not row[1]:
            raise DataError(f"{file}: found the row {', '.join(row)!r}, expected a pixel value and a class, as in: 0, background")
        if int(row[0]) in mapping:
            raise DataError(f"{file}: gives the pixel value {row[0]} to two classes, expected one")
        mapping[int(row[0])] = len(names)
        names.append(row[1])
    numbered = all(value == label for value, label in mapping.items())
    return ClassNames(file, LabelSpace(tuple(names)), None if numbered else mapping)
