"""The schema of ``dataset.yaml``, as Ultralytics and LibreYOLO write it, for untrusted files.

::

    path: .                        # where the rest is relative to; the file's own folder
    train: images/train            # a folder, a list of folders, or a .txt list of images
    val: images/val
    test: images/test
    masks_dir: masks               # replaces `images` in an image's path
    names: {0: road, 1: car}       # or [road, car]
    nc: 2                          # optional, checked against names
    label_mapping: {0: 0, 7: 1}    # stored value: class; 255, -1, ignore_label and values not named are ignored
    ignore_label: 254              # a stored value that is ignored, beside 255
    channels: 3                    # optional, of the images

``download`` is never followed. Keys of other tools are left out and named in
:attr:`Schema.warnings`; one that is nearly a key above, which is not there, is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from upscore.data.folder_roles import find_folders
from upscore.data.image_lists import find_below, find_end
from upscore.data.splits import SPLITS
from upscore.documents import parse_yaml
from upscore.errors import DataError, nearest_name
from upscore.files import read_text
from upscore.input_spec import MAX_BANDS
from upscore.text import listed, shortened
from upscore.types import IGNORE, LabelSpace

__all__ = ["Schema", "read_schema"]

_MAX_BYTES = 2**18
_MAX_MAPPED = 10_000
_STORED = (-(2**31), 2**31 - 1)  # what masks of any depth can hold
_SPLIT_KEYS = {name: split for split, names in SPLITS.items() for name in names}
_KEYS = ("path", *SPLITS, "masks_dir", "names", "nc", "label_mapping", "ignore_label", "channels")
_OF_OTHERS = (  # of Ultralytics and its exporters, where a key might be taken for a misspelt one of ours
    "download", "roboflow", "kpt_shape", "kpt_names", "flip_idx", "colormap", "colors", "palette", "task", "info", "license", "licenses",
    "version", "description", "author", "date", "url", "val_json", "minival", "name", "yaml_file", "names_zh", "stuff", "thing",
)  # fmt: skip
_IGNORE_WORD = "ignore_label"


@dataclass(frozen=True)
class Schema:
    """The content of a ``dataset.yaml``."""

    file: Path
    root: Path  #: which the splits are relative to
    splits: Mapping[str, tuple[str, ...]]  #: folders or .txt lists of train, val and test; empty where the folder is taken as it lies
    masks_dir: str  #: what replaces images in an image's path; masks where the file gives none
    labels: LabelSpace
    mapping: Mapping[int, int] | None  #: class of each stored value, which is a 32-bit integer; 255 is ignored
    masks_dir_given: bool = False  #: whether the file gives masks_dir
    download_given: bool = False  #: whether it gives download
    channels: int | None = None  #: bands of the images, where the file gives another number than 1 or 3
    warnings: tuple[str, ...] = ()  #: what was left out or read otherwise than it is written


def read_schema(file: Path) -> Schema:
    """Read and check a ``dataset.yaml``, without its images.

    Raises
    ------
    DataError
        The file cannot be read, is not YAML, or a key is missing, of the wrong type, or
        nearly one of those that are known.
    """
    written = _load(file)
    warnings: list[str] = []
    content = _by_known_keys(file, written, warnings)
    channels = _channels(file, content.get("channels"))
    path = _text(file, "path", content.get("path", "."))
    masks_dir = _text(file, "masks_dir", content.get("masks_dir", "masks")).replace("\\", "/").strip("/")
    if not masks_dir or ".." in PurePosixPath(masks_dir).parts:
        raise DataError(f"{file}: masks_dir is '{masks_dir}', expected a folder name that replaces 'images'")
    splits = {key: _sources(file, key, content[key]) for key in SPLITS if content.get(key) is not None}
    if not splits and not any(find_folders(file.parent / path)):  # else it describes the plain folder it lies in
        raise DataError(f"{file}: no split is given, expected train, val or test")
    root = _root(file, path, splits, warnings)
    splits = {key: tuple(_resolve(root, key, source, warnings) for source in sources) for key, sources in splits.items()}
    labels = LabelSpace(_names(file, content, warnings))
    mapping = _mapping(file, content["label_mapping"], len(labels)) if content.get("label_mapping") is not None else None
    if content.get("ignore_label") is not None:
        mapping = _ignoring(file, content["ignore_label"], mapping, len(labels))
    return Schema(
        file=file,
        root=root,
        splits=splits,
        masks_dir=masks_dir,
        labels=labels,
        mapping=mapping,
        channels=channels,
        masks_dir_given=content.get("masks_dir") is not None,
        download_given=written.get("download") is not None,
        warnings=tuple(warnings),
    )


def _load(file: Path) -> dict[Any, Any]:
    try:
        content = parse_yaml(read_text(file, max_bytes=_MAX_BYTES, what="YAML"))
    except ValueError as error:
        raise DataError(f"{file}: not valid YAML {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: found {_kind(content)}, expected keys such as train, val and names")
    return content


def _by_known_keys(file: Path, content: Mapping[Any, Any], warnings: list[str]) -> dict[str, Any]:
    """Return the values of the known keys; refuse keys that are nearly one of them, and warn of the others."""
    known: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in content.items():
        name = _SPLIT_KEYS.get(key, key) if isinstance(key, str) else None
        if name not in _KEYS:
            continue
        if value is not None and known.get(name) is not None:
            raise DataError(f"{file}: {written[name]} and {key} are both given and mean the same: leave one out")
        if name not in known or value is not None:
            known[name], written[name] = value, key
    others = [key for key in content if not isinstance(key, str) or _SPLIT_KEYS.get(key, key) not in _KEYS]
    absent = tuple(key for key in (*_KEYS, *_SPLIT_KEYS) if _SPLIT_KEYS.get(key, key) not in known)
    for key in others:
        if key in _OF_OTHERS:
            continue
        # A key that is given is not likely to be written again, so only a closer similarity to it counts.
        meant = nearest_name(_shown(key), absent) or (nearest_name(_shown(key), _KEYS) if _is_near(_shown(key)) else "")
        if meant:
            raise DataError(f"{file}: unknown key '{_shown(key)}'{meant}, expected {', '.join(_KEYS)}")
    if others:
        warnings.append(f"{file.name}: keys of other tools were left out ({listed([_shown(key) for key in others], 6)})")
    return known


def _is_near(key: str) -> bool:
    return len(key) < 100 and any(SequenceMatcher(None, key, known).ratio() >= 0.75 for known in _KEYS)


def _channels(file: Path, channels: Any) -> int | None:
    """Return the number of bands that the file gives; None for grey and colour, which are both read as RGB where they have 8 bits."""
    if channels is not None and not (type(channels) is int and 1 <= channels <= MAX_BANDS):
        raise DataError(f"{file}: channels is {_shown(channels)}, expected the number of the images' bands, 1 to {MAX_BANDS}")
    return None if channels in (None, 1, 3) else channels


def _root(file: Path, path: str, splits: Mapping[str, Sequence[str]], warnings: list[str]) -> Path:
    """Return the folder that splits are relative to.

    Ultralytics' ``path`` is relative to a folder of its settings. Where it leads nowhere
    from here, the file's own folder is meant, if it has that name or holds what the splits name.
    """
    found = find_below(file.parent, path)
    if found is not None:
        return found
    own = file.parent
    name = PureWindowsPath(path).name  # it knows both kinds of slash
    sources = [source for split in splits.values() for source in split]
    if name == own.resolve().name or any(_find_source(own, source) is not None for source in sources):
        warnings.append(f"{file.name}: path '{path}' leads to no folder from here, so the folder of the file was taken for it")
        return own
    return file.parent / path


def _resolve(root: Path, split: str, source: str, warnings: list[str]) -> str:
    """Return a split's source below ``root``: as it is written, or what was found for it."""
    found = find_below(root, source)
    if found is None:
        found = _find_source(root, source)
        if found is None:
            return source
        warnings.append(f"{split}: '{source}' leads to nothing, so '{found.relative_to(root).as_posix()}' was taken")
    return str(found) if PurePosixPath(source).is_absolute() and found == Path(source) else found.relative_to(root).as_posix()


def _find_source(root: Path, source: str) -> Path | None:
    """Find a split's folder or list as it is written, or without the ``../`` that Roboflow writes, or by the end of an absolute path."""
    inside = source.replace("\\", "/")
    return (
        find_below(root, source)
        or (find_below(root, inside.removeprefix("../")) if inside.startswith("../") else None)
        or find_end(root, source)
    )


def _ignoring(file: Path, ignored: Any, mapping: dict[int, int] | None, classes: int) -> dict[int, int] | None:
    """Return the mapping with ``ignored`` as a further stored value that is ignored."""
    if type(ignored) is not int or not _STORED[0] <= ignored <= _STORED[1]:
        raise DataError(f"{file}: ignore_label is {_shown(ignored)}, expected the stored value that is ignored, such as {IGNORE}")
    if mapping is None:
        return None if ignored == IGNORE else {value: value for value in range(classes)} | {ignored: IGNORE}
    if mapping.get(ignored, IGNORE) not in (-1, IGNORE):
        raise DataError(f"{file}: {ignored} is ignored by ignore_label and class {mapping[ignored]} by label_mapping: leave one out")
    return mapping | {ignored: IGNORE}


def _names(file: Path, content: Mapping[str, Any], warnings: list[str]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if names is None and type(count) is int and 1 <= count <= IGNORE:
        names = [f"class{number}" for number in range(count)]
        warnings.append(f"{file.name} gives no names, so its {count} classes are called {listed(names)}")
    if names is None:
        raise DataError(f"{file}: names is missing, expected the classes, such as names: {{0: background, 1: person}}")
    if isinstance(names, dict):
        if any(type(number) is not int for number in names) or sorted(names) != list(range(len(names))):
            keys = ", ".join(_shown(key) for key in list(names)[:8])
            raise DataError(f"{file}: names has the keys [{keys}], expected the class numbers 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"{file}: names is {_kind(names)}, expected a list, or class numbers with names")
    for number, name in enumerate(names):
        if not isinstance(name, str | int) or isinstance(name, bool) or (isinstance(name, int) and abs(name) > _STORED[1]):
            raise DataError(f"{file}: the name of class {number} is {_kind(name)} ({_shown(name)}), expected text: put it in quotes")
    if count is not None and (type(count) is not int or count != len(names)):
        raise DataError(f"{file}: nc is {_shown(count)} but names holds {len(names)} classes: correct either or leave nc out")
    return tuple(str(name) for name in names)


def _mapping(file: Path, mapping: Any, classes: int) -> dict[int, int]:
    if not isinstance(mapping, dict) or not mapping:
        raise DataError(f"{file}: label_mapping is {_kind(mapping)}, expected stored values with classes, such as {{0: 0, 255: 1}}")
    if len(mapping) > _MAX_MAPPED:
        raise DataError(f"{file}: label_mapping names {len(mapping)} stored values, expected at most {_MAX_MAPPED}")
    known: dict[int, int] = {}
    for value, label in mapping.items():
        if type(value) is not int or not _STORED[0] <= value <= _STORED[1]:
            shown = f"'{_shown(value)}'" if isinstance(value, str) else _shown(value)
            raise DataError(f"{file}: label_mapping names the stored value {shown}, expected a whole number of at most 32 bits, unquoted")
        if label == _IGNORE_WORD:
            known[value] = IGNORE
            continue
        if type(label) is not int or not (0 <= label < classes or label in (-1, IGNORE)):
            raise DataError(
                f"{file}: label_mapping sends {value} to {_shown(label)}, expected a class from 0 to {classes - 1}, "
                f"or {_IGNORE_WORD} (also written -1 or {IGNORE})"
            )
        known[value] = label
    return known


def _sources(file: Path, key: str, value: Any) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not sources:
        raise DataError(f"{file}: {key} is an empty list, expected a folder")
    return tuple(_text(file, key, source) for source in sources)


def _text(file: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise DataError(f"{file}: {key} is {_kind(value)}, expected a path")
    return value


def _shown(value: Any) -> str:
    """Return a value for a message."""
    return shortened(str(value))


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "yes/no", int: "a number", float: "a number", type(None): "empty"}
    return names.get(type(value), f"a {type(value).__name__}")
