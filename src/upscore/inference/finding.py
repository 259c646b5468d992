"""Which pictures are meant by files, folders and patterns, and what their results are called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from upscore.data.pictures import PICTURE_SUFFIXES
from upscore.errors import DataError

__all__ = ["NamedPicture", "expand_pictures"]


@dataclass(frozen=True)
class NamedPicture:
    """A picture to label, and the name of what comes of it.

    Parameters
    ----------
    path : Path
        Where the picture is.
    name : PurePosixPath
        Relative to the output folder, without ending; unique among the pictures named together.
    """

    path: Path
    name: PurePosixPath


def expand_pictures(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, exclude: str | os.PathLike[str] | None = None
) -> list[NamedPicture]:
    """Find the pictures that are meant, each once, with unique output names.

    Parameters
    ----------
    paths : path or iterable of path
        Files (of any ending), folders (searched recursively for the endings of
        ``PICTURE_SUFFIXES``; links to folders and names that begin with a dot are left
        out) and glob patterns such as ``"shots/**/*.jpg"``.
    exclude : path, optional
        A folder not to search: the output folder, if it lies in an input folder.

    Returns
    -------
    list of NamedPicture
        In the order given, folders and patterns sorted. Names keep the structure below
        the folder or the fixed part of the pattern; where two would be the same
        (compared without case), the picture's ending and then a number are added.

    Raises
    ------
    DataError
        A path does not exist, or a folder or pattern holds no picture.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise DataError("no pictures given: name files, folders or patterns")
    found: dict[Path, tuple[Path, PurePosixPath]] = {}
    for one in given:
        for path, relative in _expand(os.fspath(one), _real(exclude) if exclude is not None else None):
            found.setdefault(_real(path), (path, relative))
    return _name(list(found.values()))


def _expand(given: str, exclude: Path | None) -> Iterator[tuple[Path, PurePosixPath]]:
    """Yield (picture, name without ending) for one path, folder or pattern."""
    path = Path(given)
    if os.path.isdir(given):
        pictures = list(_walk(path, exclude))
        if not pictures:
            raise DataError(f"{given}: found no picture in the folder, expected files ending in {', '.join(PICTURE_SUFFIXES)}")
        yield from ((found, _below(found, path)) for found in pictures)
    elif os.path.exists(given):
        yield path, PurePosixPath(path.stem)
    elif glob.has_magic(given):
        matches = sorted(match for match in glob.glob(given, recursive=True) if Path(match).suffix.lower() in PICTURE_SUFFIXES)
        pictures = [match for match in map(Path, matches) if os.path.isfile(match) and not _lies_in(match, exclude)]
        if not pictures:
            raise DataError(f"{given}: the pattern matches no picture: check it, and put it in quotes")
        fixed = Path(*_fixed_parts(given))
        yield from ((found, _below(found, fixed)) for found in pictures)
    else:
        raise DataError(f"{given!r}: no such file or folder: check the path")


def _walk(folder: Path, exclude: Path | None) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _lies_in(Path(place, name), exclude))
        yield from (
            Path(place, name) for name in sorted(files) if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES
        )


def _lies_in(path: Path, folder: Path | None) -> bool:
    return folder is not None and _real(path).is_relative_to(folder)


def _real(path: str | os.PathLike[str]) -> Path:
    """Return the path without links; of a circle of links, and of a name that no file can have, what can be said."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path).absolute()


def _fixed_parts(pattern: str) -> Sequence[str]:
    parts = Path(pattern).parts
    return parts[: next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))]


def _below(path: Path, folder: Path) -> PurePosixPath:
    relative = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    # A pattern may hold "..", and results must stay in the output folder.
    return PurePosixPath(*(part for part in relative.with_suffix("").parts if part not in ("..", "/")))


def _name(found: list[tuple[Path, PurePosixPath]]) -> list[NamedPicture]:
    """Make the names unique: first by the picture's ending, then by a number."""
    often = Counter(str(name).casefold() for _, name in found)
    taken: set[str] = set()
    named = []
    for path, plain in found:
        name = (
            plain
            if often[str(plain).casefold()] == 1
            else plain.with_name(f"{plain.name}_{path.suffix[1:]}" if path.suffix else plain.name)
        )
        stem, number = name, 2
        while str(name).casefold() in taken:
            name, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        taken.add(str(name).casefold())
        named.append(NamedPicture(path, name))
    return named
