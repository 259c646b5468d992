"""Folders of pictures and masks: described by a ``dataset.yaml``, or plainly ``images/`` beside ``masks/``.

::

    data/                       data/                      data/
    ├── dataset.yaml            ├── images/                ├── images/
    ├── images/                 │   ├── train/a.jpg        │   ├── a.jpg
    │   ├── train/a.jpg         │   └── val/b.jpg          │   └── b.jpg
    │   └── val/b.jpg           ├── masks/                 ├── masks/
    └── masks/                  │   ├── train/a.png        │   ├── a.png
        ├── train/a.png         │   └── val/b.png          │   └── b.png
        └── val/b.png           └── classes.txt            └── classes.txt

Where ``dataset.yaml`` gives no split, it only names the classes of a plain folder.
An ``instances/`` folder may mirror ``masks/``. A sample's key is its picture's path below
the split's folder, without the suffix; the folder's name comes first where a split has
several.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from upscore.data.mask_findings import StoredMasks, diagnose
from upscore.data.pairs import Pair, PairedFiles, find_pictures, listed, match_masks
from upscore.data.pictures import read_mask
from upscore.data.remedies import Description
from upscore.data.schema import Schema, read_schema
from upscore.errors import DataError, nearest_name
from upscore.types import IGNORE, LabelSpace

__all__ = ["open_plain_folder", "open_yaml", "plain_splits", "yaml_splits"]

_SPLITS = ("train", "val", "test")
_MAX_LIST_BYTES = 2**27


def yaml_splits(file: Path) -> tuple[str, ...]:
    """Return the splits a ``dataset.yaml`` gives; where it gives none, those of the plain folder it lies in."""
    schema = read_schema(file)
    return tuple(schema.splits) or plain_splits(schema.root)


def open_yaml(file: Path, split: str) -> PairedFiles:
    """Open one split of a ``dataset.yaml``.

    Parameters
    ----------
    file : Path
        See :mod:`upscore.data.schema`.
    split : str
        ``train``, ``val`` or ``test``, as the file gives them.

    Raises
    ------
    DataError
        The file is wrong, the split is not given or empty, or pictures and masks do not
        match one to one.
    """
    schema = read_schema(file)
    _check_split(file, split, yaml_splits(file))
    name, described, notes = file.resolve().parent.name, Description(file), list[str]()
    if not schema.splits:
        found = _plain_pairs(schema.root, split, schema.masks_dir, notes)
        return PairedFiles(found, schema.labels, split=split, name=name, mapping=schema.mapping, notes=notes, description=described)
    places = schema.splits[split]
    pairs: dict[str, Pair] = {}
    for place in places:
        prefix = f"{place.strip('./')}/" if len(places) > 1 else ""
        if place.lower().endswith(".txt"):
            found = _list_pairs(schema, schema.root / place, prefix)
        else:
            folder = schema.root / place
            found = _folder_pairs(folder, _swap(schema, folder, schema.masks_dir), _swap(schema, folder, "instances"), notes, prefix)
        for pair in found:
            if pair.key in pairs:
                raise DataError(f"{file}: {split} holds the picture {pair.picture} twice: name each folder once")
            pairs[pair.key] = pair
    found = list(pairs.values())
    return PairedFiles(found, schema.labels, split=split, name=name, mapping=schema.mapping, notes=notes, description=described)


def plain_splits(root: Path) -> tuple[str, ...]:
    """Return the splits of a plain folder: those with a folder of their own, or train and val."""
    own = tuple(split for split in _SPLITS if (root / "images" / split).is_dir())
    return own or ("train", "val")


def open_plain_folder(root: Path, split: str) -> PairedFiles:
    """Open one split of a folder that holds ``images/`` and ``masks/``.

    Where ``images/`` has no folders train, val or test, a fifth of the pictures, chosen by
    a hash of their keys, is val and the rest train. Names come from ``classes.txt`` (one
    per line); without it all masks are read once to count the classes. The dataset's
    ``notes`` say so.

    Parameters
    ----------
    root : Path
        The folder.
    split : str
        One of :func:`plain_splits`.

    Raises
    ------
    DataError
        As :func:`open_yaml`; also masks whose values cannot be taken for classes without
        being told their names.
    """
    _check_split(root, split, plain_splits(root))
    notes: list[str] = []
    pairs = _plain_pairs(root, split, "masks", notes)
    names = root / "classes.txt"
    if names.exists():
        labels = LabelSpace(_read_names(names))
    else:
        labels = _labels_in(root, find_pictures(root / "masks")[0])
        notes.append(f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}")
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, notes=notes, description=Description(root / "dataset.yaml"))


def _check_split(place: Path, split: str, given: Sequence[str]) -> None:
    if split not in given:
        raise DataError(f"{place}: no split '{split}'{nearest_name(split, tuple(given))}, expected one of {', '.join(given)}")


def _folder_pairs(images: Path, masks: Path, instances: Path, notes: list[str], prefix: str = "") -> list[Pair]:
    """Pair everything in one folder, adding to ``notes`` what is left out."""
    pictures, others = find_pictures(images)
    if not pictures:
        raise DataError(f"{images}: the folder holds no picture, expected at least one")
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder, expected the masks of {images}")
    if others:
        notes.append(f"{len(others)} files in {images} are not pictures and were left out ({listed([path.name for path in others])})")
    numbered = _keyed(instances, prefix) if instances.is_dir() else []
    pairs = match_masks([(prefix + _key(path, images), path) for path in pictures], _keyed(masks, prefix), instances=numbered)
    without = [pair.key for pair in pairs if pair.instances is None]
    if numbered and without:
        notes.append(f"{len(without)} of {len(pairs)} pictures have no instance mask ({listed(without)})")
    return pairs


def _list_pairs(schema: Schema, file: Path, prefix: str) -> list[Pair]:
    """Pair the pictures a ``.txt`` names, one a line; masks beyond them are fine."""
    folders: dict[Path, list[Path]] = {}
    for picture in _read_list(file, schema.root):
        folders.setdefault(_images_folder(schema, picture), []).append(picture)
    pairs = []
    for images, pictures in folders.items():
        start = prefix if len(folders) == 1 else f"{prefix}{images.as_posix()}/"
        masks, instances = _swap(schema, images, schema.masks_dir), _swap(schema, images, "instances")
        if not masks.is_dir():
            raise DataError(f"{masks}: no such folder, expected the masks of {images}")
        numbered = _keyed(instances, start) if instances.is_dir() else []
        named = [(start + _key(path, images), path) for path in pictures]
        pairs += match_masks(named, _keyed(masks, start), instances=numbered, extra_allowed=True)
    return pairs


def _read_list(file: Path, root: Path) -> list[Path]:
    try:
        if file.stat().st_size > _MAX_LIST_BYTES:
            raise DataError(f"{file}: the list has {file.stat().st_size} bytes, expected at most {_MAX_LIST_BYTES}")
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a list of pictures: {error}") from error
    pictures = []
    for line in filter(None, lines):
        candidates = [root / line, file.parent / line]
        picture = next((path for path in candidates if path.is_file()), None)
        if picture is None:
            raise DataError(f"{file}: the list names {line[:200]}, which is not below {root}: paths are relative to that folder")
        pictures.append(picture)
    if not pictures:
        raise DataError(f"{file}: the list is empty, expected one picture a line")
    return pictures


def _swap(schema: Schema, path: Path, part: str) -> Path:
    """Put ``part`` in the place of the last ``images`` in a path, as the schema has it."""
    images = _images_folder(schema, path)
    return images.parent / part / path.relative_to(images)


def _images_folder(schema: Schema, path: Path) -> Path:
    for folder in (path, *path.parents):
        if folder == schema.root:
            break
        if folder.name == "images":
            return folder
    raise DataError(f"{schema.file}: {path} has no folder 'images' for '{schema.masks_dir}' to take the place of: put pictures below one")


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _keyed(folder: Path, prefix: str) -> list[tuple[str, Path]]:
    return [(prefix + _key(path, folder), path) for path in find_pictures(folder)[0]]


def _plain_pairs(root: Path, split: str, masks_dir: str, notes: list[str]) -> list[Pair]:
    """Pair one split of a folder that holds ``images/``, of which a fifth is val where it has no folders of its own for splits."""
    images, masks, instances = root / "images", root / masks_dir, root / "instances"
    if (images / split).is_dir():
        return _folder_pairs(images / split, masks / split, instances / split, notes)
    pairs, note = _divide(root, _folder_pairs(images, masks, instances, notes), split)
    notes.append(note)
    return pairs


def _divide(root: Path, pairs: list[Pair], split: str) -> tuple[list[Pair], str]:
    if len(pairs) < 2:
        raise DataError(f"{root}: found 1 picture, expected at least 2 to divide into train and val")
    ranked = sorted(pairs, key=lambda pair: blake2b(pair.key.encode("utf-8", "surrogateescape"), digest_size=8).digest())
    judged = {pair.key for pair in ranked[: max(1, round(len(pairs) / 5))]}
    note = f"images/ has no folders train and val, so {len(judged)} of {len(pairs)} pictures, chosen by a hash of their names, are val"
    return [pair for pair in pairs if (pair.key in judged) == (split == "val")], note


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        with file.open(encoding="utf-8") as lines:
            text = lines.read(2**16)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as class names, one a line: {error}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _labels_in(root: Path, masks: Sequence[Path]) -> LabelSpace:
    """Count the classes in the masks; refuse to guess where values are not plainly classes."""
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
    name, keys, described = root.resolve().name, [_key(path, root / "masks") for path in masks], Description(root / "dataset.yaml")
    # Two classes are meant where that explains the values; else each value is taken for a class, which the user is told how to name.
    for names in (("background", "object"), tuple(f"class{value}" for value in values[:32])):
        stored = StoredMasks(name, "masks", keys, names, occurs, counts, palettes=palettes, files=masks, description=described)
        (finding, *_) = diagnose([stored])
        if finding.kind != "no class" or len(values) == 2:
            break
    raise DataError(f"the masks hold the values {listed(values, 8)}, which are not plainly classes, and no names are given: {finding}")
