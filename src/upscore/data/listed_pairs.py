"""Pair the images that a list names, one a line without folder and suffix, with their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath

from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.image_lists import read_lines
from upscore.data.paired_files import Pair
from upscore.errors import DataError

__all__ = ["list_names", "pair_names", "read_names"]


def list_names(folder: Path, *, but: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the lists in a folder, without suffix, sorted; without those of ``but``."""
    return tuple(sorted(path.stem for path in folder.glob("*.txt") if path.stem not in but and not path.name.startswith(".")))


def read_names(file: Path) -> list[str]:
    r"""Return the names in a list, in its order, without folder and an image's suffix: ``a`` for ``scenes\a.jpg``.

    A DataError is raised where it cannot be read, is empty, or names an image twice.
    """
    names = []
    for line in read_lines(file):
        name = PureWindowsPath(line.split()[0]).name
        names.append(name[: name.rindex(".")] if name.lower().endswith(IMAGE_SUFFIXES) else name)
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file}: the list names '{repeated[:100]}' twice, expected each image once")
    if odd := next((name for name in names if not name or "\0" in name), None):
        raise DataError(f"{file}: the list names {odd[:100]!r}, expected an image's name")
    return names


def pair_names(
    names: Sequence[str], listed_in: str, *, image: Callable[[str], Path], mask: Callable[[str], Path],
    instances: Callable[[str], Path] | None = None,
) -> list[Pair]:  # fmt: skip
    """Return a pair for each name, whose files the functions find; instance masks may be missing.

    ``listed_in`` is where the names are from, for errors: a DataError is raised where images or masks are missing, or there is no name.
    """
    if not names:
        raise DataError(f"{listed_in} names no image, expected at least one")
    pairs = []
    for name in names:
        numbered = instances(name) if instances is not None else None
        pairs.append(Pair(name, image(name), mask(name), numbered if numbered is not None and numbered.is_file() else None))
    for what, missing in (
        ("images", [pair.image for pair in pairs if not pair.image.is_file()]),
        ("masks", [pair.mask for pair in pairs if not pair.mask.is_file()]),
    ):
        if missing:
            raise DataError(f"{missing[0]}: no such file; {listed_in} names {len(missing)} of {len(pairs)} {what} that are missing")
    return pairs
