"""Folders described by a ``dataset.yaml``.

::

    data/
    ├── dataset.yaml
    ├── images/
    │   ├── train/a.jpg
    │   └── val/b.jpg
    ├── masks/
    │   ├── train/a.png
    │   └── val/b.png
    └── instances/train/a.png         optional: numbers of objects

The keys of the file: :mod:`upscore.data.schema`; lists of images: :mod:`upscore.data.image_lists`.
Where it gives no split, it only names the classes of a plain folder. A sample's key is its
image's path below the split's folder, without the suffix; the folder's name comes first where
a split has several.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upscore.data.description_files import YAML_SUFFIXES, describing_files, find_description
from upscore.data.folder_pairs import (
    file_key,
    list_keyed,
    match_masks_in,
    name_annotations_beside,
    pair_folder,
    pair_plain_folder,
    plain_splits,
)
from upscore.data.folder_roles import MASK_FOLDERS, Folders, holds_images, subfolders
from upscore.data.image_lists import Line, read_list
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.reader import Reader
from upscore.data.reading_options import DEFAULT_OPTIONS, DIVIDED, ReadingOptions, reading_options
from upscore.data.schema import Schema, read_schema
from upscore.data.splits import choose_split
from upscore.errors import DataError
from upscore.text import listed

__all__ = ["READER", "open_yaml", "yaml_splits"]


def yaml_splits(file: Path) -> tuple[str, ...]:
    """Return the splits a ``dataset.yaml`` gives; where it gives none, those of the plain folder it lies in."""
    schema = read_schema(file)
    return tuple(schema.splits) or plain_splits(schema.root)


def open_yaml(file: Path, split: str, *, warnings: Sequence[str] = (), options: ReadingOptions = DEFAULT_OPTIONS) -> PairedFiles:
    """Open the split ``train``, ``val`` or ``test``, also by another name for it, of a ``dataset.yaml``; see :mod:`upscore.data.schema`.

    The dataset's warnings begin with ``warnings``. A DataError is raised where the file is wrong, the split is not given or empty, or
    images and masks do not match one to one.
    """
    schema = read_schema(file)
    found_warnings = [*warnings, *schema.warnings]
    if schema.splits:
        split = choose_split(file, split, schema.splits)
        pairs = _pairs_of_split(schema, split, found_warnings)
    else:
        own = Folders(schema.root / "images", schema.root / schema.masks_dir, schema.root / "instances") if schema.masks_dir_given else None
        pairs, _ = pair_plain_folder(schema.root, split, found_warnings, own, options.split_by)
    return PairedFiles(
        pairs,
        schema.labels,
        split=split,
        name=file.resolve().parent.name,
        mapping=schema.mapping,
        warnings=tuple(dict.fromkeys(found_warnings)),
        settings_file=file,
        bands=schema.channels,
    )


def _pairs_of_split(schema: Schema, split: str, warnings: list[str]) -> list[Pair]:
    hint = ": its download is not fetched, unpack it there yourself" if schema.download_given else ""
    if not schema.root.is_dir():
        raise DataError(f"{schema.root}: no such folder, expected the one that path in {schema.file} leads to{hint}")
    sources = schema.splits[split]
    pairs: dict[str, Pair] = {}
    for source in sources:
        prefix = f"{source.strip('./')}/" if len(sources) > 1 else ""
        if source.lower().endswith(".txt"):
            found = _pairs_of_list(schema, schema.root / source, prefix, warnings)
        else:
            images = schema.root / source
            if not images.is_dir():
                raise DataError(f"{images}: no such folder, expected the one that {split} in {schema.file} leads to{hint}")
            folders = _folders_of(schema, images, warnings)
            below = images.relative_to(folders.images)
            found = pair_folder(Folders(images, folders.masks / below, folders.instances / below), warnings, prefix)
        for pair in found:
            if pair.key in pairs:
                raise DataError(f"{schema.file}: {split} holds the image {pair.image} twice: name each folder once")
            pairs[pair.key] = pair
    return list(pairs.values())


def _pairs_of_list(schema: Schema, file: Path, prefix: str, warnings: list[str]) -> list[Pair]:
    """Pair the images a ``.txt`` names, one a line; masks without an image in the list are allowed."""
    lines_of: dict[Folders, list[Line]] = {}
    known: dict[tuple[Path, bool], Folders] = {}
    for line in read_list(file, schema.root, warnings):
        inside = (line.image.parent, line.mask is not None)
        if inside not in known:
            known[inside] = _folders_of(schema, line.image, warnings, with_mask=line.mask is not None)
        lines_of.setdefault(known[inside], []).append(line)
    pairs = []
    for folders, lines in lines_of.items():
        start = prefix if len(lines_of) == 1 else f"{prefix}{folders.images.as_posix()}/"
        named = [(start + file_key(line.image, folders.images), line.image) for line in lines]
        numbered = list_keyed(folders.instances, start) if folders.instances.is_dir() else []
        given = [(key, line.mask) for (key, _), line in zip(named, lines, strict=True) if line.mask is not None]
        if len(given) == len(named):
            pairs += match_masks(named, given, instances=numbered)
            continue
        if given:
            raise DataError(f"{file}: {len(given)} of {len(named)} lines name a mask beside the image, expected all or none to do so")
        masks = folders.masks
        if not masks.is_dir():
            raise DataError(f"{masks}: no such folder, expected the masks of {folders.images}{name_annotations_beside(folders.images)}")
        pairs += match_masks_in(masks, named, list_keyed(masks, start), numbered, warnings, extra_allowed=True)
    return pairs


def _folders_of(schema: Schema, path: Path, warnings: list[str], *, with_mask: bool = False) -> Folders:
    """Return the folders such that the mask of ``images/x`` is ``masks/x``, for a folder of images or one image.

    ``masks_dir`` replaces the last ``images`` in the path. In a path without one it replaces
    another folder beside which it lies, or precedes the whole path.
    """
    masks_dir = schema.masks_dir
    above = [path, *path.parents]
    above = above[: above.index(schema.root)] if schema.root in above else above
    for folder in above:
        if folder.name == "images":
            masks = folder.parent / masks_dir
            if not schema.masks_dir_given and not masks.is_dir():
                masks = _other_masks(schema, folder, warnings) or masks
            return Folders(folder, masks, folder.parent / "instances")
    if with_mask:  # no folder of masks is needed: the folder of the images only determines the keys
        images = schema.root if path.is_relative_to(schema.root) else path.parent
        return Folders(images, images, images / "instances")
    own = path if path.is_dir() else path.parent
    below = own.relative_to(schema.root) if own.is_relative_to(schema.root) else Path()
    if below.parts and (schema.root / masks_dir / below).is_dir():
        return Folders(schema.root, schema.root / masks_dir, schema.root / "instances")
    for folder in above:
        if folder.name and folder.name != masks_dir and (folder.parent / masks_dir).is_dir():
            return Folders(folder, folder.parent / masks_dir, folder.parent / "instances")
    raise DataError(
        f"{schema.file}: {path} has no folder 'images' for '{masks_dir}' to replace: put images below one, "
        f"or name the folder of the masks with masks_dir"
    )


def _other_masks(schema: Schema, images: Path, warnings: list[str]) -> Path | None:
    """Return the one folder beside ``images`` that holds masks under another name; None if there is not exactly one."""
    names = [name for name in subfolders(images.parent) if name.lower() in MASK_FOLDERS and holds_images(images.parent / name)]
    if len(names) != 1:
        return None
    warnings.append(f"{schema.file.name} gives no masks_dir and there is no folder masks, so {names[0]} was taken for the masks")
    return images.parent / names[0]


def _recognise(path: str) -> bool:
    if os.path.isdir(path):
        return bool(describing_files(Path(path)))
    return os.path.exists(path) and path.lower().endswith(YAML_SUFFIXES)


def _open(path: str, split: str, **options: Any) -> PairedFiles:
    file, others = find_description(path)
    warnings = (f"{file.name} was read, and {listed(others)} beside it, which also describes a dataset, was not read",) if others else ()
    return open_yaml(file, split, warnings=warnings, options=reading_options(**options))


READER = Reader(
    "dataset.yaml",
    "a dataset.yaml or a folder with one",
    recognise=_recognise,
    splits=lambda path: yaml_splits(find_description(path)[0]),
    open=_open,
    options=DIVIDED,
)
