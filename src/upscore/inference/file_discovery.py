"""Which images are meant by files, folders and patterns, what is left out, and what results are called.

Links to folders are not followed, so that no circle of them can be walked; masks of a dataset are not taken for images where a folder
is given; what is left out of a folder or pattern is counted by kind, in warnings.
"""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from upscore.data.encoded_image import split_page
from upscore.data.folder_roles import IMAGE_FOLDERS, MASK_FOLDERS, mask_word
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.errors import DataError, OutputError
from upscore.text import shortened

__all__ = ["DiscoveredImages", "NamedImage", "discover_images"]

RAW_IMAGES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw")

OTHER_IMAGES = {".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".dcm", ".psd", ".exr", ".hdr", ".svg", *RAW_IMAGES}
"""Suffixes of images in formats that are not read."""

_MAX_NAME = 200
"""Bytes of the name of a result, to which endings are added; file systems take 255."""

_MAX_LISTED = 6


@dataclass(frozen=True)
class NamedImage:
    """An image to label, and the name of its results."""

    path: Path
    name: PurePosixPath  #: relative to the output folder, without ending; unique among the images named together


@dataclass(frozen=True)
class DiscoveredImages:
    """The images that were meant."""

    images: tuple[NamedImage, ...]  #: each once
    left_out: int = 0  #: files of the folders and patterns that are not among them
    warnings: tuple[str, ...] = ()  #: a line for each kind of what was left out: how many, which, why, and what to do


def discover_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, exclude: str | os.PathLike[str] | None = None
) -> DiscoveredImages:
    """Find the images that are meant, each once, with unique output names.

    Parameters
    ----------
    paths : path or iterable of path
        Files (of any ending), pages of a TIFF (``stack.tif/page-0001``), folders (searched recursively for the endings of
        ``IMAGE_SUFFIXES``; links to folders, names that begin with a dot, and masks are left out: a folder called like one of
        masks beside one of images, and ``a_mask.png`` beside ``a.jpg``) and glob patterns such as ``"shots/**/*.jpg"``.
    exclude : path, optional
        A folder not to search: the output folder, if it lies in an input folder.

    Returns
    -------
    DiscoveredImages
        In the order given, folders and patterns sorted. Names preserve the structure below
        the folder or the fixed part of the pattern; where two would be the same
        (compared without case), the image's ending and then a number are added.

    Raises
    ------
    DataError
        A path does not exist, or a folder or pattern holds no image.
    OutputError
        ``exclude`` is itself a folder to search: results would be taken for images the next time.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise DataError("no images given: name files, folders or patterns")
    found: dict[str, tuple[Path, PurePosixPath]] = {}
    left_out, warnings = 0, list[str]()
    for path_or_pattern in given:
        search = _Search(os.fspath(path_or_pattern), None if exclude is None else _real(exclude))
        for path, relative in search.images():
            found.setdefault(_real(path), (path, relative))
        left_out += search.count
        warnings += search.warnings()
    return DiscoveredImages(tuple(_name(list(found.values()))), left_out, tuple(dict.fromkeys(warnings)))


@dataclass
class _Search:
    """One file, folder or pattern as it was given, and what its search left out."""

    given: str
    exclude: str | None
    suffixes: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    hidden_folders: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    mask_folders: list[str] = field(default_factory=list)
    results: bool = False

    def images(self) -> Iterator[tuple[Path, PurePosixPath]]:
        """Yield (image, name without ending)."""
        path = Path(self.given)
        if os.path.isdir(self.given):  # of a path an empty name would be the folder one is in
            self._refuse_results_among(path)
            images = self._without_masks([found for file in self._walk(path) if (found := self._taken(file))])
            if not images:
                raise DataError(f"{self._nothing('found no image in the folder')}, expected files ending in {', '.join(IMAGE_SUFFIXES)}")
            yield from ((found, _below(found, path)) for found in images)
        elif os.path.exists(self.given):
            yield path, PurePosixPath(path.stem)
        elif split_page(path)[1]:
            yield path, PurePosixPath(path.parent.stem, path.name)
        elif os.path.islink(path):
            raise DataError(f"{self.given!r}: the link leads nowhere: its target is missing, or it leads back to itself")
        elif glob.has_magic(self.given):
            fixed = Path(*_fixed_parts(path))
            self._refuse_results_among(fixed)
            images = [found for file in self._matching(path) if (found := self._taken(file))]
            if not images:
                raise DataError(f"{self._nothing('the pattern matches no image')}: check it, and put it in quotes")
            yield from ((found, _below(found, fixed)) for found in images)
        else:
            raise DataError(f"{self.given!r}: no such file or folder: check the path")

    @property
    def count(self) -> int:
        """Files that were left out."""
        return self.suffixes.total() + len(self.hidden) + len(self.nowhere) + len(self.special) + len(self.masks)

    def warnings(self) -> list[str]:
        """Return a line for each kind of what was left out."""
        lines = []
        if self.suffixes:
            kinds = [f"{count} {suffix or 'without a suffix'}" for suffix, count in self.suffixes.most_common(_MAX_LISTED)]
            more = [f"{len(self.suffixes) - _MAX_LISTED} other suffixes"] if len(self.suffixes) > _MAX_LISTED else []
            others = sorted(OTHER_IMAGES & self.suffixes.keys())
            way = f"; convert {_enumerated(others)} to PNG or JPEG to have them labelled" if others else ""
            files = _counted(self.suffixes.total(), "file was", "files were")
            lines.append(f"{files} left out as not named like an image that can be read: {_enumerated(kinds + more)}{way}")
        for names, singular, plural, why in (
            (self.hidden, "hidden image was", "hidden images were", "left out (names that begin with a dot)"),
            (self.nowhere, "link was", "links were", "left out as leading nowhere (the target is missing, or they lead in a circle)"),
            (self.special, "file was", "files were", "left out as pipes, devices or sockets"),
            (self.hidden_folders, "hidden folder was", "hidden folders were", "not searched (names that begin with a dot)"),
            (self.linked, "linked folder was", "linked folders were", "not searched (give what they lead to)"),
            (self.folders, "folder was", "folders were", "matched and not searched (give them, or a pattern with **)"),
            (self.unread, "folder", "folders", "could not be read"),
            (
                self.masks,
                "mask was",
                "masks were",
                "left out as named like the image beside it and _mask or the like (name the files to label them)",
            ),
            (
                self.mask_folders,
                "folder was",
                "folders were",
                "not searched, named as for masks and beside one of images (give it to have it labelled)",
            ),
        ):
            if names:
                listed = [f"'{shortened(name)}'" for name in sorted(names)[:_MAX_LISTED]]
                more = [f"{len(names) - _MAX_LISTED} more"] if len(names) > _MAX_LISTED else []
                lines.append(f"{_counted(len(names), singular, plural)} {why}: {_enumerated(listed + more)}")
        if self.results:
            lines.append("the folder of the results was not searched")
        return [f"{self.given}: {line}" for line in lines]

    def _nothing(self, what: str) -> str:
        warnings = [warning.removeprefix(f"{self.given}: ") for warning in self.warnings()]
        return f"{self.given}: {what}" + (f" ({'; '.join(warnings)})" if warnings else "")

    def _refuse_results_among(self, folder: Path) -> None:
        if self.exclude is not None and _real(folder) == self.exclude:
            raise OutputError(
                f"{self.given}: results would be written among the images they are made of, and taken for images the next time: "
                "choose a folder of its own for them"
            )

    def _taken(self, file: os.DirEntry[str]) -> Path | None:
        """Return the path of an image; count what is none."""
        suffix = Path(file.name).suffix.lower()
        if file.name.startswith(".") and not _asked_by_dot(self.given):
            if suffix in IMAGE_SUFFIXES:
                self.hidden.append(file.name)
        elif file.is_symlink() and not _is(file, "file"):
            self.nowhere.append(file.name)
        elif suffix not in IMAGE_SUFFIXES:
            self.suffixes[shortened(suffix, 20)] += 1
        elif _is(file, "file"):
            return Path(file.path)
        else:
            self.special.append(file.name)
        return None

    def _walk(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Yield what is no folder in a folder and those below it, folder by folder in the order of names."""
        waiting = [os.fspath(folder)]
        while waiting:
            files, folders = self._listed(waiting.pop())
            yield from files
            waiting += [inner.path for inner in reversed(folders)]

    def _without_masks(self, images: list[Path]) -> list[Path]:
        """Leave out what is named like another image of its folder with a word for masks."""
        names = {(path.parent, path.stem.lower()) for path in images}
        kept = []
        for path in images:
            stem = path.stem.lower()
            if (word := mask_word(stem)) and (path.parent, stem.removesuffix(word)) in names:
                self.masks.append(path.name)
            else:
                kept.append(path)
        return kept

    def _listed(self, folder: str) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
        """Return the files of a folder and the folders that are to be searched, each sorted."""
        files, folders = [], []
        entries = self._entries(folder)
        beside_images = any(entry.name.lower() in IMAGE_FOLDERS and _is(entry, "dir") for entry in entries)
        for entry in entries:
            if not _is(entry, "dir"):
                files.append(entry)
            elif beside_images and entry.name.lower() in (*MASK_FOLDERS, "instances"):
                self.mask_folders.append(entry.name)
            elif entry.is_symlink():
                self.linked.append(entry.name)
            elif entry.name.startswith("."):
                self.hidden_folders.append(entry.name)
            elif not self._holds_results(entry.path):
                folders.append(entry)
        return files, folders

    def _holds_results(self, folder: str) -> bool:
        """Whether this is the folder of the results; where it lies is asked only of a link or of one so named."""
        named = self.exclude is not None and os.path.basename(folder) in (os.path.basename(self.exclude), "..")
        results = (named or os.path.islink(folder)) and _real(folder) == self.exclude
        self.results |= results
        return results

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder or ".") as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (OSError, ValueError) as error:
            self.unread.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
            return []

    def _matching(self, pattern: Path) -> Iterator[os.DirEntry[str]]:
        """Yield the files that a pattern matches; ``**`` is any folders, and follows no links."""
        parts = pattern.parts[len(_fixed_parts(pattern)) :]
        folders = [os.fspath(Path(*_fixed_parts(pattern)))]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if part == "**" and last:
                for folder in folders:
                    yield from self._walk(Path(folder))
            elif part == "**":
                folders = [below for folder in folders for below in self._below(folder)]
            elif last:
                matching = [entry for folder in folders for entry in self._entries(folder) if _matches(entry.name, part)]
                self.folders += [entry.name for entry in matching if _is(entry, "dir") and "**" not in parts]
                yield from (entry for entry in matching if not _is(entry, "dir"))
            elif glob.has_magic(part):
                inner = [entry for folder in folders for entry in self._entries(folder) if _matches(entry.name, part) and _is(entry, "dir")]
                folders = [entry.path for entry in inner if not self._holds_results(entry.path)]
            else:
                paths = [os.path.join(folder, part) for folder in folders]
                folders = [path for path in paths if os.path.isdir(path) and not self._holds_results(path)]

    def _below(self, folder: str) -> Iterator[str]:
        """Yield a folder and all below it."""
        waiting = [folder]
        while waiting:
            yield (here := waiting.pop())
            waiting += [inner.path for inner in reversed(self._listed(here)[1])]


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    """Whether an entry is, or leads to, a folder or a regular file; a link in a circle leads to neither."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:
        return False


def _matches(name: str, part: str) -> bool:
    return fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))


def _asked_by_dot(given: str) -> bool:
    """Whether the last part of a pattern asks for hidden names."""
    return glob.has_magic(given) and Path(given).name.startswith(".")


def _real(path: str | os.PathLike[str]) -> str:
    """Return where a path leads, as far as it does: links in a circle are no error."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.fspath(path)


def _counted(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def _enumerated(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _fixed_parts(pattern: Path) -> tuple[str, ...]:
    parts = pattern.parts
    return parts[: next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))]


def _below(path: Path, folder: Path) -> PurePosixPath:
    relative = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
    # A pattern may hold "..", and results must stay in the output folder.
    return PurePosixPath(*(part for part in relative.with_suffix("").parts if part not in ("..", "/")))


def _name(found: list[tuple[Path, PurePosixPath]]) -> list[NamedImage]:
    """Make the names unique: first by the image's ending, then by a number."""
    short = [(path, _fitting(name)) for path, name in found]
    often = Counter(_folded(name) for _, name in short)
    taken: set[str] = set()
    named = []
    for path, plain in short:
        name = plain if often[_folded(plain)] == 1 else plain.with_name(f"{plain.name}_{path.suffix[1:]}" if path.suffix else plain.name)
        stem, number = name, 2
        while _folded(name) in taken:
            name, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        # The overlay of a very large "a" is a.overlay.png, which is also what the labels of "a.overlay" would be called.
        taken |= {_folded(name), f"{_folded(name)}.overlay"} | {_folded(name).removesuffix(".overlay")}
        named.append(NamedImage(path, name))
    return named


def _folded(name: PurePosixPath) -> str:
    """Return what is equal for two names that some file system takes for the same."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _fitting(name: PurePosixPath) -> PurePosixPath:
    """Return a name that leaves room for the endings of results."""
    last = name.name
    while len(os.fsencode(last)) > _MAX_NAME:
        last = last[:-1]
    return name if last == name.name else name.with_name(last)
