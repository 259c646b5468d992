"""Pair the images and masks of whole folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upscore.data.folder_roles import IMAGE_FOLDERS, Folders, find_folders
from upscore.data.foreign_annotations import name_annotations
from upscore.data.matching import match_masks
from upscore.data.paired_files import Pair, list_images
from upscore.data.split_by import SplitBy
from upscore.data.splits import choose_split, divide
from upscore.errors import DataError
from upscore.text import listed

__all__ = ["file_key", "list_keyed", "match_masks_in", "name_annotations_beside", "pair_folder", "pair_plain_folder", "plain_splits"]


def plain_splits(root: Path) -> tuple[str, ...]:
    """Return the splits of a folder of images and masks: those with a folder of their own, or train and val."""
    return tuple(find_folders(root)[1]) or ("train", "val")


def pair_plain_folder(
    root: Path, split: str, warnings: list[str], folders: Folders | None = None, by: SplitBy | None = None
) -> tuple[list[Pair], list[Path]]:
    """Pair one split of a folder of images and masks.

    Without folders for the splits a fifth of the images, chosen by a hash of their keys, is val and the others are train.

    Parameters
    ----------
    split : str
        One of :func:`plain_splits`, or another name for it.
    warnings : list of str
        Gets a sentence for each decision.
    folders : Folders, optional
        Those that a description of the dataset gives; found by their names when not given.
    by : SplitBy, optional
        What images are grouped by where they are divided.

    Returns
    -------
    list of Pair, list of Path
        The split's pairs, and the folders of the masks of all splits.
    """
    together, by_split = find_folders(root)
    if folders is not None and together is not None:
        by_split = {name: Folders(found.images, folders.masks / found.images.name, found.instances) for name, found in by_split.items()}
        together = folders
    split = choose_split(root, split, tuple(by_split) or ("train", "val"))
    of_split = by_split.get(split, together)
    assert of_split is not None, "the folder was recognised"
    if folders is None and (together or of_split).warning:
        warnings.append((together or of_split).warning)
    pairs = pair_folder(of_split, warnings)
    if not by_split:
        pairs = divide(root, pairs, split, warnings, because=f"{of_split.images.name}/ has no folders train and val", by=by)
    return pairs, [together.masks] if together else [found.masks for found in by_split.values()]


def pair_folder(folders: Folders, warnings: list[str], prefix: str = "") -> list[Pair]:
    """Pair all images of one folder; keys begin with ``prefix``, and ``warnings`` gets what is left out."""
    images, masks, instances = folders.images, folders.masks, folders.instances
    found, others = list_images(images)
    if not found:
        raise DataError(f"{images}: the folder holds no image, expected at least one")
    if not masks.is_dir():
        raise DataError(f"{masks}: no such folder, expected the masks of {images}{name_annotations_beside(images)}")
    if others:
        warnings.append(f"{len(others)} files in {images} are not images and were left out ({listed([path.name for path in others])})")
    numbered = list_keyed(instances, prefix) if instances.is_dir() else []
    named = [(prefix + file_key(path, images), path) for path in found]
    pairs = match_masks_in(masks, named, list_keyed(masks, prefix), numbered, warnings)
    without = [pair.key for pair in pairs if pair.instances is None]
    if numbered and without:
        warnings.append(f"{len(without)} of {len(pairs)} images have no instance mask ({listed(without)})")
    return pairs


def match_masks_in(
    folder: Path,
    images: Sequence[tuple[str, Path]],
    masks: Sequence[tuple[str, Path]],
    instances: Sequence[tuple[str, Path]],
    warnings: list[str],
    *,
    extra_allowed: bool = False,
) -> list[Pair]:
    """Call :func:`~upscore.data.matching.match_masks`; its error also names annotations of other kinds in the masks' ``folder``."""
    try:
        return match_masks(images, masks, instances=instances, extra_allowed=extra_allowed, warnings=warnings)
    except DataError as error:
        if found := name_annotations(folder):
            raise DataError(f"{error}; {folder} holds {found}") from None
        raise


def name_annotations_beside(images: Path) -> str:
    """Return "; found …" for annotations among the images or in the folders beside theirs; "" if none are known."""
    dataset = next((folder.parent for folder in (images, *images.parents) if folder.name.lower() in IMAGE_FOLDERS), images)
    found = name_annotations(dataset)
    return f"; found {found}" if found else ""


def file_key(path: Path, folder: Path) -> str:
    """Return a file's key: its path below ``folder`` without the suffix, with slashes.

    >>> file_key(Path("images/train/a.jpg"), Path("images"))
    'train/a'
    """
    return path.relative_to(folder).with_suffix("").as_posix()


def list_keyed(folder: Path, prefix: str) -> list[tuple[str, Path]]:
    """Return the key, with ``prefix``, and the path of each mask in a folder; MATLAB's files where there are no images."""
    images, others = list_images(folder)
    found = images or [path for path in others if path.suffix.lower() == ".mat"]
    return [(prefix + file_key(path, folder), path) for path in found]
