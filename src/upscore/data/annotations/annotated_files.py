"""What is common to opening annotation files: which split a file belongs to, and what is told of images and shapes that do not match."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from upscore.data.annotations.classes import AnnotatedClasses
from upscore.data.annotations.drawing import Drawing
from upscore.data.annotations.image_lookup import ImageLookup
from upscore.data.annotations.recognition import files_with_suffix
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.paired_files import Pair, PairedFiles
from upscore.data.split_by import SplitBy
from upscore.data.splits import canonical_split, choose_split, divide
from upscore.documents import parse_large_json, parse_xml
from upscore.errors import DataError
from upscore.files import read_text
from upscore.text import listed

__all__ = [
    "MAX_BYTES",
    "FoundImages",
    "Same",
    "files_by_split",
    "key_of",
    "known_splits",
    "open_annotated",
    "open_one_file",
    "pairs_of_split",
    "read_json",
    "read_xml",
    "splits_of",
]

MAX_BYTES = 2**31
"""The largest annotation file that is read."""

_Item = TypeVar("_Item")
_WORDS = re.compile(r"[A-Za-z]+")


def read_json(file: Path, what: str) -> Any:
    """Return the value of an annotation file in JSON; DataError where it cannot be read."""
    try:
        return parse_large_json(read_text(file, max_bytes=MAX_BYTES, what=what))
    except ValueError as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None


def read_xml(file: Path, what: str) -> Any:
    """Return the root element of an annotation file in XML; DataError where it cannot be read."""
    try:
        return parse_xml(read_text(file, max_bytes=MAX_BYTES, what=what))
    except ValueError as error:
        raise DataError(f"{file}: not valid XML: {error}") from None


def files_by_split(root: Path, files: Sequence[Path], *, by_name: bool) -> dict[str, list[Path]]:
    """Return the files of each split: by the names of the folders they are in below ``root``, or with ``by_name`` also by a word of
    their own.

    Where there are not both a train and a val, all but those of test are of the split ``""``, which is to be divided. Otherwise those of
    no split are left out.
    """
    found: dict[str, list[Path]] = {}
    if not files:
        return {}
    for file in files:
        below = file.relative_to(root).parts if file.is_relative_to(root) else (file.name,)
        words = [re.sub(r"\d+$", "", part) for part in below[:-1]]
        words += _WORDS.findall(file.stem) if by_name else []
        split = next((split for word in words if (split := canonical_split(word))), "")
        found.setdefault(split, []).append(file)
    return known_splits(found)


def known_splits(found: Mapping[str, list[_Item]]) -> dict[str, list[_Item]]:
    """Return what there is of train, val and test, or ``""`` of all but test where train and val are not both there.

    ``found`` has the items of each of these splits, and those of none under ``""``.
    """
    if {"train", "val"} <= found.keys():
        return {split: found[split] for split in ("train", "val", "test") if split in found}
    others = [item for split, items in found.items() if split != "test" for item in items]
    test = found.get("test", [])
    return {"": others, **({"test": test} if test else {})} if others else {"": test}


def splits_of(files: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Return the names of the splits of :func:`files_by_split`: train and val where the images are to be divided."""
    return tuple(files) if "" not in files else ("train", "val", *(["test"] if "test" in files else []))


def pairs_of_split(
    root: Path, split: str, files: Mapping[str, Sequence[_Item]], read: Callable[[Sequence[_Item]], list[Pair]], warnings: list[str],
    by: SplitBy | None = None,
) -> tuple[str, list[Pair]]:  # fmt: skip
    """Return the split that ``split`` means, and its pairs, which ``read`` returns for some of the files, or of what is in them.

    Images that are not divided into splits are divided here, and ``warnings`` gets a sentence on it.
    """
    split = choose_split(root, split, splits_of(files))
    pairs = read(files[split] if split in files else files[""])
    if split not in files:
        pairs = divide(root, pairs, split, warnings, because="the annotations are not divided into train and val", by=by)
    return split, pairs


class Same:
    """Returns a drawing that is known already."""

    __slots__ = ("drawing",)

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing

    def __call__(self) -> Drawing:
        """Return the drawing."""
        return self.drawing


def open_annotated(root: Path, split: str, pairs: Sequence[Pair], classes: AnnotatedClasses, warnings: Iterable[str]) -> PairedFiles:
    """Return the dataset of images whose masks are drawn."""
    folder = root if root.is_dir() else root.parent
    given = tuple(dict.fromkeys((*classes.warnings, *warnings)))
    return PairedFiles(pairs, classes.labels, split=split, name=folder.resolve().name, warnings=given)


def open_one_file(
    root: Path,
    split: str,
    files: Mapping[str, Sequence[Path]],
    read: Callable[[Path, Path, list[str]], tuple[list[Pair], AnnotatedClasses]],
    what: str,
    by: SplitBy | None = None,
) -> PairedFiles:
    """Return the dataset of one split where each has one file; ``read`` gets it, ``root`` and the warnings.

    DataError where the split has several files of ``what``, and as ``read`` raises it.
    """
    warnings: list[str] = []
    classes: list[AnnotatedClasses] = []

    def read_only_one(chosen: Sequence[Path]) -> list[Pair]:
        if len(chosen) > 1:
            raise DataError(f"{root}: found {len(chosen)} files of {what} ({listed(chosen)}): name the one that is meant")
        pairs, known = read(chosen[0], root, warnings)
        classes.append(known)
        return pairs

    split, pairs = pairs_of_split(root, split, files, read_only_one, warnings, by)
    return open_annotated(root, split, pairs, classes[0], warnings)


class FoundImages:
    """The images that an annotation file names, with those that are missing."""

    def __init__(self, root: Path, folders: Sequence[Path] = ()) -> None:
        self.root = root if root.is_dir() else root.parent
        self._lookup = ImageLookup([self.root, *folders])
        self._missing: list[str] = []
        self._keys: dict[str, Path] = {}

    def add(self, file: Path, name: Any) -> tuple[str, Path] | None:
        """Return the key and the path of the image that ``file`` calls ``name``; None where it is missing, which is counted.

        A DataError is raised where it is no name, or the same image or key was added before.
        """
        if not isinstance(name, str) or not name or "\0" in name:
            raise DataError(f"{file}: an image has no name, expected the path of its file")
        path = self._lookup.find(name)
        if path is None:
            self._missing.append(name)
            return None
        return self.add_path(file, path), path

    def add_path(self, file: Path, path: Path) -> str:
        """Return the key of an image; DataError where it was added before."""
        key = key_of(path, self.root)
        if key in self._keys:
            other = self._keys[key]
            same = (
                f"the image {path} twice: leave one entry" if other == path else f"two images of one name, {other} and {path}: rename one"
            )
            raise DataError(f"{file}: names {same}")
        self._keys[key] = path
        return key

    def find(self, *names: str) -> Path | None:
        """Return the image that one of several names, the last one without a suffix, leads to; None where none does, which is counted."""
        path = next((path for name in names[:-1] if name and (path := self._lookup.find(name))), None) or self._lookup.find_by_stem(
            names[-1]
        )
        if path is None:
            self._missing.append(names[0] or names[-1])
        return path

    def check(self, file: Path, warnings: list[str]) -> None:
        """Warn of the images that are missing; DataError where there are no others."""
        total = len(self._missing) + len(self._keys)
        if not self._keys:
            missing = (
                f"none of the {total} images that it names ({listed(self._missing)}) is below {self.root}" if total else "it names no image"
            )
            raise DataError(f"{file}: {missing}: put them beside the file, or into a folder images there")
        if self._missing:
            warnings.append(
                f"{len(self._missing)} of {total} images that {file.name} names are not below {self.root} and were left out "
                f"({listed(self._missing)})"
            )

    def warn_of_others(self, warnings: list[str], lack: str) -> None:
        """Warn of images in the folders of those that were found that lack annotations, which ``lack`` puts in words."""
        known = set(self._keys.values())
        folders = sorted({path.parent for path in known})
        others = [path.name for folder in folders for path in files_with_suffix(folder, IMAGE_SUFFIXES) if path not in known]
        if others:
            warnings.append(f"{len(others)} images {lack} and were left out ({listed(others)})")


def key_of(path: Path, root: Path) -> str:
    """Return an image's key: its path below ``root`` without the suffix; its name where it is not below it.

    >>> key_of(Path("data/images/a.v2.jpg"), Path("data")), key_of(Path("images/a.jpg"), Path("."))
    ('images/a.v2', 'images/a')
    """
    text, start = path.as_posix(), "" if root == Path() else f"{root.as_posix().rstrip('/')}/"  # in a third of the time that pathlib takes
    return os.path.splitext(text[len(start) :] if text.startswith(start) else path.name)[0]
