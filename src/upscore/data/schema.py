"""``dataset.yaml``: the schema Ultralytics and LibreYOLO share, read without trust.

::

    path: .                        # where the rest is relative to; the file's own folder
    train: images/train            # a folder, a list of folders, or a .txt list of pictures
    val: images/val
    test: images/test
    masks_dir: masks               # takes the place of `images` in a picture's path
    names: {0: road, 1: car}       # or [road, car]
    nc: 2                          # optional, checked against names
    label_mapping: {0: 0, 7: 1}    # stored value: class; 255, -1 and values not named are ignored
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from upscore.documents import parse_yaml
from upscore.errors import DataError, nearest_name
from upscore.files import read_text
from upscore.types import IGNORE, LabelSpace

__all__ = ["Schema", "read_schema"]

_MAX_BYTES = 2**18
_SPLITS = ("train", "val", "test")
_KEYS = ("path", *_SPLITS, "masks_dir", "names", "nc", "label_mapping")


@dataclass(frozen=True)
class Schema:
    """A ``dataset.yaml``, understood.

    Parameters
    ----------
    file : Path
        The file it came from.
    root : Path
        Folder that ``splits`` are relative to.
    splits : dict of str to tuple of str
        Folders or ``.txt`` lists of each split that is given; empty where the folder's ``images`` are to be taken as they lie.
    masks_dir : str
        What takes the place of ``images`` in a picture's path.
    labels : LabelSpace
        The classes.
    mapping : dict of int to int, optional
        Class of each stored value.
    """

    file: Path
    root: Path
    splits: Mapping[str, tuple[str, ...]]
    masks_dir: str
    labels: LabelSpace
    mapping: Mapping[int, int] | None


def read_schema(file: Path) -> Schema:
    """Read and check a ``dataset.yaml``; no picture is looked for yet.

    Raises
    ------
    DataError
        The file cannot be read, is not YAML, or a key is unknown, missing, or of the
        wrong type.
    """
    content = _load(file)
    for key in content:
        if key not in _KEYS:
            raise DataError(f"{file}: unknown key '{key}'{nearest_name(str(key), _KEYS)}, expected {', '.join(_KEYS)}")
    root = _text(file, "path", content.get("path", "."))
    masks_dir = _text(file, "masks_dir", content.get("masks_dir", "masks")).strip("/")
    if not masks_dir or ".." in PurePosixPath(masks_dir).parts:
        raise DataError(f"{file}: masks_dir is '{masks_dir}', expected a folder name that takes the place of 'images'")
    splits = {key: _places(file, key, content[key]) for key in _SPLITS if content.get(key) is not None}
    if not splits and not (file.parent / root / "images").is_dir():  # else it describes the plain folder it lies in
        raise DataError(f"{file}: no split is given, expected train, val or test")
    labels = LabelSpace(_names(file, content))
    mapping = _mapping(file, content["label_mapping"], len(labels)) if content.get("label_mapping") is not None else None
    return Schema(file, file.parent / root, splits, masks_dir, labels, mapping)


def _load(file: Path) -> dict[Any, Any]:
    try:
        content = parse_yaml(read_text(file, most=_MAX_BYTES, what="YAML"))
    except ValueError as error:
        raise DataError(f"{file}: not valid YAML {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: found {_kind(content)}, expected keys such as train, val and names")
    return content


def _names(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names = content.get("names")
    if names is None:
        raise DataError(f"{file}: names is missing, expected the classes, such as names: {{0: background, 1: person}}")
    if isinstance(names, dict):
        if any(type(number) is not int for number in names) or sorted(names) != list(range(len(names))):
            raise DataError(f"{file}: names has the keys {list(names)[:8]}, expected the class numbers 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"{file}: names is {_kind(names)}, expected a list, or class numbers with names")
    for number, name in enumerate(names):
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise DataError(f"{file}: the name of class {number} is {_kind(name)} ({name}), expected text: put it in quotes")
    count = content.get("nc")
    if count is not None and (type(count) is not int or count != len(names)):
        raise DataError(f"{file}: nc is {count} but names holds {len(names)} classes: mend one or leave nc out")
    return tuple(str(name) for name in names)


def _mapping(file: Path, mapping: Any, classes: int) -> dict[int, int]:
    if not isinstance(mapping, dict) or not mapping:
        raise DataError(f"{file}: label_mapping is {_kind(mapping)}, expected stored values with classes, such as {{0: 0, 255: 1}}")
    for value, label in mapping.items():
        if type(value) is not int or not 0 <= value <= 255:
            raise DataError(f"{file}: label_mapping names the stored value {value!r}, expected a number from 0 to 255")
        if type(label) is not int or not (0 <= label < classes or label in (-1, IGNORE)):
            raise DataError(
                f"{file}: label_mapping sends {value} to {label!r}, expected a class from 0 to {classes - 1}, or -1 or {IGNORE} to ignore"
            )
    return dict(mapping)


def _places(file: Path, key: str, value: Any) -> tuple[str, ...]:
    places = value if isinstance(value, list) else [value]
    if not places:
        raise DataError(f"{file}: {key} is an empty list, expected a folder")
    return tuple(_text(file, key, place) for place in places)


def _text(file: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise DataError(f"{file}: {key} is {_kind(value)}, expected a path")
    return value


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "yes/no", int: "a number", float: "a number", type(None): "empty"}
    return names.get(type(value), f"a {type(value).__name__}")
