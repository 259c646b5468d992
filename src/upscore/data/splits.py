"""The names of splits, and the division of undivided images into train and val."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from upscore.data.paired_files import Pair
from upscore.errors import DataError, nearest_name

__all__ = ["SPLITS", "canonical_split", "choose_split", "divide"]

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


def divide(root: Path, pairs: Sequence[Pair], split: str, warnings: list[str], *, because: str) -> list[Pair]:
    """Return the pairs of ``split``, train or val, of images that are not divided.

    A fifth of the images, chosen by a hash of their keys, is val: the same ones wherever
    and whenever the data is opened. ``warnings`` gets a sentence that begins with ``because``.
    A DataError is raised where there are fewer than two.
    """
    if len(pairs) < 2:
        raise DataError(f"{root}: found 1 image, expected at least 2 to divide into train and val")
    ranked = sorted(pairs, key=lambda pair: blake2b(pair.key.encode("utf-8", "surrogateescape"), digest_size=8).digest())
    val = {pair.key for pair in ranked[: max(1, round(len(pairs) / 5))]}
    warnings.append(f"{because}, so {len(val)} of {len(pairs)} images, chosen by a hash of their names, are val")
    return [pair for pair in pairs if (pair.key in val) == (split == "val")]
