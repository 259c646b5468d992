"""Folders of images and masks: described by a ``dataset.yaml``, or plainly ``images/`` beside ``masks/``.

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
Other names and orders of a plain folder's folders: :mod:`upscore.data.folder_roles`; files
of class names: :mod:`upscore.data.class_names`; lists: :mod:`upscore.data.image_lists`.

An ``instances/`` folder may mirror ``masks/``. A sample's key is its image's path below
the split's folder, without the suffix; the folder's name comes first where a split has
several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upscore.data.class_names import find_class_names
from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS, Places, find_places, holds_images, subfolders
from upscore.data.foreign_annotations import name_annotations
from upscore.data.image_files import read_mask
from upscore.data.image_lists import Line, read_list
from upscore.data.mask_findings import StoredMasks, diagnose
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, PairedFiles, list_images
from upscore.data.remedies import Description
from upscore.data.schema import Schema, read_schema
from upscore.data.splits import choose_split, divide
from upscore.errors import DataError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["open_plain_folder", "open_yaml", "plain_splits", "yaml_splits"]


def yaml_splits(file: Path) -> tuple[str, ...]:
    """Return the splits a ``dataset.yaml`` gives; where it gives none, those of the plain folder it lies in."""
    schema = read_schema(file)
    return tuple(schema.splits) or plain_splits(schema.root)


def open_yaml(file: Path, split: str, *, warnings: Sequence[str] = ()) -> PairedFiles:
    """Open one split of a ``dataset.yaml``.

    Parameters
    ----------
    file : Path
        See :mod:`upscore.data.schema`.
    split : str
        ``train``, ``val`` or ``test``, as the file gives them, or another name of these.
    warnings : sequence of str
        What is known already that the dataset's user should see.

    Raises
    ------
    DataError
        The file is wrong, the split is not given or empty, or images and masks do not
        match one to one.
    """
    schema = read_schema(file)
    described, name, warnings = Description(file), file.resolve().parent.name, [*warnings, *schema.warnings]
    if not schema.splits:
        own = Places(schema.root / "images", schema.root / schema.masks_dir, schema.root / "instances") if schema.masks_dir_given else None
        found, _ = _plain_pairs(schema.root, split, warnings, own)
        return PairedFiles(
            found, schema.labels, split=split, name=name, mapping=schema.mapping, warnings=_once(warnings), description=described
        )
    split = choose_split(file, split, schema.splits)
    hint = ": its download is not fetched, unpack it there yourself" if schema.download_given else ""
    if not schema.root.is_dir():
        raise DataError(f"{schema.root}: no such folder, expected the one that path in {file} leads to{hint}")
    places = schema.splits[split]
    pairs: dict[str, Pair] = {}
    for place in places:
        prefix = f"{place.strip('./')}/" if len(places) > 1 else ""
        if place.lower().endswith(".txt"):
            found = _list_pairs(schema, schema.root / place, prefix, warnings)
        else:
            folder = schema.root / place
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder, expected the one that {split} in {file} leads to{hint}")
            of = _places_of(schema, folder, warnings)
            below = folder.relative_to(of.images)
            found = _folder_pairs(folder, of.masks / below, of.instances / below, warnings, prefix)
        for pair in found:
            if pair.key in pairs:
                raise DataError(f"{file}: {split} holds the image {pair.image} twice: name each folder once")
            pairs[pair.key] = pair
    found = list(pairs.values())
    return PairedFiles(
        found, schema.labels, split=split, name=name, mapping=schema.mapping, warnings=_once(warnings), description=described
    )


def plain_splits(root: Path) -> tuple[str, ...]:
    """Return the splits of a plain folder: those with a folder of their own, or train and val."""
    return tuple(find_places(root)[1]) or ("train", "val")


def open_plain_folder(root: Path, split: str) -> PairedFiles:
    """Open one split of a folder that holds ``images/`` and ``masks/``, or folders that are called otherwise and mean the same.

    Where there are no folders train and val, a fifth of the images, chosen by a hash of
    their keys, is val and the rest train. Names come from ``classes.txt`` (one per line)
    or another file of class names; without one all masks are read once to count the
    classes. The dataset's ``warnings`` say so.

    Parameters
    ----------
    root : Path
        The folder.
    split : str
        One of :func:`plain_splits`, or another name of one.

    Raises
    ------
    DataError
        As :func:`open_yaml`; also masks whose values cannot be taken for classes without
        being told their names.
    """
    warnings: list[str] = []
    pairs, masks = _plain_pairs(root, split, warnings)
    named = find_class_names(root)
    if named is not None:
        labels, mapping = named.labels, named.mapping
        if named.file.name != "classes.txt":
            warnings.append(f"the names of the {len(labels)} classes come from {named.file.name}")
    else:
        labels, mapping = _labels_in(root, [mask for folder in masks for mask in list_images(folder)[0]]), None
        warnings.append(f"class names are not given, so the {len(labels)} classes found in the masks are called {listed(labels.names)}")
    described = None if named and named.mapping else Description(root / "dataset.yaml")
    split = choose_split(root, split, plain_splits(root))
    return PairedFiles(pairs, labels, split=split, name=root.resolve().name, mapping=mapping, warnings=warnings, description=described)


def _plain_pairs(root: Path, split: str, warnings: list[str], places: Places | None = None) -> tuple[list[Pair], list[Path]]:
    """Pair one split of a plain folder, of which a fifth is val where it has no folders for splits; return also all folders of masks.

    ``places`` are those of a description that names them, where they need not be found.
    """
    together, own = find_places(root)
    if places is not None and together is not None:
        own = {name: Places(of.images, places.masks / of.images.name, of.instances) for name, of in own.items()}
        together = places
    split = choose_split(root, split, tuple(own) or ("train", "val"))
    of_split = own.get(split, together)
    assert of_split is not None, "the folder was recognised"
    if places is None and (together or of_split).warning:
        warnings.append((together or of_split).warning)
    pairs = _folder_pairs(of_split.images, of_split.masks, of_split.instances, warnings)
    if not own:
        whole = len(pairs)
        pairs, of_val = divide(root, pairs, split)
        folder = of_split.images.name
        warnings.append(f"{folder}/ has no folders train and val, so {of_val} of {whole} images, chosen by a hash of their names, are val")
    return pairs, [together.masks] if together else [each.masks for each in own.values()]


def _folder_pairs(images: Path, masks: Path, instances: Path, warnings: list[str], prefix: str = "") -> list[Pair]:
    """Pair everything in one folder, adding to ``warnings`` what is left out."""
    found, others = list_images(images)
    if not found:
        raise DataError(f"{images}: the folder holds no image, expected at least one")
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder, expected the masks of {images}{_found_instead(images)}")
    if others:
        warnings.append(f"{len(others)} files in {images} are not images and were left out ({listed([path.name for path in others])})")
    numbered = _keyed(instances, prefix) if instances.is_dir() else []
    named = [(prefix + _key(path, images), path) for path in found]
    pairs = _matched(named, _keyed(masks, prefix), numbered, masks, warnings)
    without = [pair.key for pair in pairs if pair.instances is None]
    if numbered and without:
        warnings.append(f"{len(without)} of {len(pairs)} images have no instance mask ({listed(without)})")
    return pairs


def _matched(
    images: Sequence[tuple[str, Path]],
    masks: Sequence[tuple[str, Path]],
    instances: Sequence[tuple[str, Path]],
    folder: Path,
    warnings: list[str],
    *,
    extra_allowed: bool = False,
) -> list[Pair]:
    """Match masks by name; where that fails, also say what else lies in their folder."""
    try:
        return match_masks(images, masks, instances=instances, extra_allowed=extra_allowed, warnings=warnings)
    except DataError as error:
        if found := name_annotations(folder):
            raise DataError(f"{error}; {folder} holds {found}") from None
        raise


def _found_instead(images: Path) -> str:
    """Say what annotations lie where masks should be: among the images, or in the folders beside theirs."""
    dataset = next((folder.parent for folder in (images, *images.parents) if folder.name.lower() in IMAGE_FOLDERS), images)
    found = name_annotations(dataset)
    return f"; found {found}" if found else ""


def _list_pairs(schema: Schema, file: Path, prefix: str, warnings: list[str]) -> list[Pair]:
    """Pair the images a ``.txt`` names, one a line; masks beyond them are fine."""
    folders: dict[Places, list[Line]] = {}
    known: dict[tuple[Path, bool], Places] = {}
    for line in read_list(file, schema.root, warnings):
        inside = (line.image.parent, line.mask is not None)
        if inside not in known:
            known[inside] = _places_of(schema, line.image, warnings, with_mask=line.mask is not None)
        folders.setdefault(known[inside], []).append(line)
    pairs = []
    for of, lines in folders.items():
        start = prefix if len(folders) == 1 else f"{prefix}{of.images.as_posix()}/"
        named = [(start + _key(line.image, of.images), line.image) for line in lines]
        numbered = _keyed(of.instances, start) if of.instances.is_dir() else []
        given = [(key, line.mask) for (key, _), line in zip(named, lines, strict=True) if line.mask is not None]
        if len(given) == len(named):
            pairs += match_masks(named, given, instances=numbered)
            continue
        if given:
            raise DataError(f"{file}: {len(given)} of {len(named)} lines name a mask beside the image, expected all or none to do so")
        if not of.masks.is_dir():
            raise DataError(f"{of.masks}: no such folder, expected the masks of {of.images}{_found_instead(of.images)}")
        pairs += _matched(named, _keyed(of.masks, start), numbered, of.masks, warnings, extra_allowed=True)
    return pairs


def _places_of(schema: Schema, path: Path, warnings: list[str], *, with_mask: bool = False) -> Places:
    """Return the folders such that the mask of ``images/x`` is ``masks/x``, for a folder of images or one image.

    ``masks_dir`` takes the place of the last ``images`` in the path. A path without one
    has another folder that it stands beside; or it comes before the whole path.
    """
    part = schema.masks_dir
    above = [path, *path.parents]
    above = above[: above.index(schema.root)] if schema.root in above else above
    for folder in above:
        if folder.name == "images":
            masks = folder.parent / part
            if not schema.masks_dir_given and not masks.is_dir():
                masks = _other_masks(schema, folder, warnings) or masks
            return Places(folder, masks, folder.parent / "instances")
    if with_mask:  # nothing needs to be found: the folder is but where keys begin
        images = schema.root if path.is_relative_to(schema.root) else path.parent
        return Places(images, images, images / "instances")
    place = path if path.is_dir() else path.parent
    below = place.relative_to(schema.root) if place.is_relative_to(schema.root) else Path()
    if below.parts and (schema.root / part / below).is_dir():
        return Places(schema.root, schema.root / part, schema.root / "instances")
    for folder in above:
        if folder.name and folder.name != part and (folder.parent / part).is_dir():
            return Places(folder, folder.parent / part, folder.parent / "instances")
    raise DataError(
        f"{schema.file}: {path} has no folder 'images' for '{part}' to take the place of: put images below one, "
        f"or name the folder of the masks with masks_dir"
    )


def _other_masks(schema: Schema, images: Path, warnings: list[str]) -> Path | None:
    """Return the one folder beside ``images`` that holds masks under another name; None if there is not exactly one."""
    names = [name for name in subfolders(images.parent) if name.lower() in MASK_FOLDERS and holds_images(images.parent / name)]
    if len(names) != 1:
        return None
    warnings.append(f"{schema.file.name} gives no masks_dir and there is no folder masks, so {names[0]} was taken for the masks")
    return images.parent / names[0]


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _keyed(folder: Path, prefix: str) -> list[tuple[str, Path]]:
    return [(prefix + _key(path, folder), path) for path in list_images(folder)[0]]


def _once(warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warnings))


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
