"""The names of splits, and the division of undivided images into train and val."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from upscore.data.paired_files import Pair
from upscore.data.split_by import SplitBy
from upscore.errors import DataError, nearest_name

__all__ = ["SPLITS", "canonical_split", "choose_split", "divide", "group_of"]

_MIN_GROUPS = 5
_RUNNING_NUMBER = re.compile(r"[_\-. ]*\d+$")
_ROBOFLOW_HASH = re.compile(r"\.rf\.[0-9a-zA-Z]{8,64}$")

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Each split with the names that are understood; where there are several of them, the first one counts."""


def canonical_split(name: str) -> str | None:
    """Return the split that ``name`` stands for, in any letter case; None if it is no split's name.

    >>> canonical_split("Validation")
    'val'
    """
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def choose_split(source: Path, split: str, given: Iterable[str]) -> str:
    """Return that of the ``given`` splits that is called ``split``, or means the same; DataError where there is none."""
    names = tuple(given)
    if split in names:
        return split
    for other in SPLITS.get(canonical_split(split) or "", ()):
        for name in names:
            if name.lower() == other:
                return name
    raise DataError(f"{source}: no split '{split}'{nearest_name(split, names)}, expected one of {', '.join(names) or 'none'}")


def divide(
    root: Path, pairs: Sequence[Pair], split: str, warnings: list[str], *, because: str, by: SplitBy | None = None,
    rows: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Pair]:  # fmt: skip
    """Return the pairs of ``split``, train or val, of images that are not divided.

    About a fifth of the images is val, chosen by a hash: the same ones wherever and whenever the data is opened. Images whose names
    differ by a running number alone, such as the frames of a video, stay together (:func:`group_of`), unless there are fewer than five such
    groups, or val would be less than a tenth or more than three tenths of the images. With ``by`` they are grouped by that alone,
    however many groups there are; ``rows`` are the rows of a table by the images' keys. ``warnings`` gets a sentence that begins with
    ``because``. A DataError is raised where there are fewer than two images, or ``by`` puts all of them into one group.
    """
    if len(pairs) < 2:
        raise DataError(f"{root}: found 1 image, expected at least 2 to divide into train and val")
    wanted = max(1, round(len(pairs) / 5))
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        group = group_of(pair.key) if by is None else by.group(pair.key, None if rows is None else rows[pair.key])
        groups.setdefault(group, []).append(pair.key)
    val, of_groups = _chosen_groups(groups, wanted)
    if by is not None:
        by.used = True
        if len(groups) < 2:
            raise DataError(f"{root}: split_by {by.text} puts all {len(pairs)} images into one group, expected at least 2")
    elif len(groups) < _MIN_GROUPS or len(groups) == len(pairs) or not 0.1 <= len(val) / len(pairs) <= 0.3:
        val, of_groups = set(sorted((pair.key for pair in pairs), key=_hash)[:wanted]), 0
    chosen = "chosen by a hash of their names, are val"
    if of_groups:
        kind = "groups of names with a running number" if by is None else f"groups by {by.text}"
        chosen = f"those of {of_groups} of {len(groups)} {kind}, {chosen}"
    warnings.append(f"{because}, so {len(val)} of {len(pairs)} images, {chosen}")
    return [pair for pair in pairs if (pair.key in val) == (split == "val")]


def group_of(key: str) -> str:
    """Return what the names of images with a running number have in common; the key itself where it has no number at its end.

    Roboflow's hash, which tells apart the augmented copies of an image, is no part of it.

    >>> group_of("street/video3_0017"), group_of("b_jpg.rf.0a1b2c3d4e5f60718293"), group_of("tree")
    ('street/video3', 'b_jpg', 'tree')
    """
    key = _ROBOFLOW_HASH.sub("", key)
    stem = _RUNNING_NUMBER.sub("", key)
    return key if stem in ("", key) or stem.endswith("/") else stem


def _chosen_groups(groups: Mapping[str, Sequence[str]], wanted: int) -> tuple[set[str], int]:
    """Return the keys of as many groups as come closest to ``wanted`` images, in the order of a hash, and their number."""
    val = set[str]()
    count = 0
    for group in sorted(groups, key=_hash):
        size = len(val) + len(groups[group])
        if val and abs(size - wanted) >= abs(len(val) - wanted):
            continue
        val.update(groups[group])
        count += 1
    return val, count


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
