"""Splits: the names they go by, and the division of images that come in one part.

The names are train, val and test. Others in use are understood as one of these:
``training``; ``valid``, ``validation`` and ``dev``; ``testing``.
"""

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
"""Each split with the names it goes by; where a place holds several of them, the first one counts."""


def canonical_split(name: str) -> str | None:
    """Return the split that ``name`` stands for, in any letter case; None if it is no split's name.

    >>> canonical_split("Validation")
    'val'
    """
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def choose_split(place: Path, split: str, given: Iterable[str]) -> str:
    """Return the member of ``given`` that is meant by ``split``: itself, or another name of the same split.

    Raises
    ------
    DataError
        There is none.
    """
    names = tuple(given)
    if split in names:
        return split
    wanted = canonical_split(split)
    if wanted is not None:
        for other in SPLITS[wanted]:
            for name in names:
                if name.lower() == other:
                    return name
    raise DataError(f"{place}: no split '{split}'{nearest_name(split, names)}, expected one of {', '.join(names) or 'none'}")


def divide(place: Path, pairs: Sequence[Pair], split: str) -> tuple[list[Pair], int]:
    """Return the pairs of ``split``, train or val, and how many of all are val.

    A fifth of the images, chosen by a hash of their keys, is val: the same ones wherever
    and whenever the data is opened.

    Raises
    ------
    DataError
        There are fewer than two.
    """
    if len(pairs) < 2:
        raise DataError(f"{place}: found 1 image, expected at least 2 to divide into train and val")
    ranked = sorted(pairs, key=lambda pair: blake2b(pair.key.encode("utf-8", "surrogateescape"), digest_size=8).digest())
    val = {pair.key for pair in ranked[: max(1, round(len(pairs) / 5))]}
    return [pair for pair in pairs if (pair.key in val) == (split == "val")], len(val)
