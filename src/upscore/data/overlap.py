"""Whether images to evaluate on are among those that were learned from.

Scores on images that a network has seen say how well it remembers them. Looked for are the
same files, by whatever path, and files with the same bytes. Nothing is decoded; a file is
read only where another one has its size, at three places first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from upscore.data.dataset import Dataset, InFiles
from upscore.text import listed

__all__ = ["identify", "shared_images", "tell_shared"]

_SAMPLE = 4096
"""Bytes that are read at the beginning, middle and end of a file."""

_MOST_READ = 2**31
"""Bytes of files that are read whole to be compared; beyond them the three places decide."""


def shared_images(seen: Dataset, evaluated: Dataset) -> list[tuple[str, str]]:
    """Return the images of ``evaluated`` that ``seen`` holds too, as (key there, key in ``seen``), in order.

    Files that are one and the same, or hold the same bytes; datasets that are not files share nothing.
    """
    if not isinstance(seen, InFiles) or not isinstance(evaluated, InFiles):
        return []
    by_place = dict[object, str]()
    by_size: dict[int, list[tuple[str, Path]]] = {}
    for key, path in zip(seen.keys, seen.image_files, strict=True):
        if found := _stat(path):
            by_place.setdefault(_place(path, found), key)
            by_size.setdefault(found.st_size, []).append((key, path))
    by_sample: dict[int, dict[bytes, list[tuple[str, Path]]]] = {}
    whole = _WholeFiles()
    shared = []
    for key, path in zip(evaluated.keys, evaluated.image_files, strict=True):
        if not (found := _stat(path)):
            continue
        same = by_place.get(_place(path, found))
        size = found.st_size
        if same is None and size in by_size:
            if size not in by_sample:
                by_sample[size] = {}
                for there in by_size[size]:
                    by_sample[size].setdefault(_sampled(there[1]), []).append(there)
            alike = by_sample[size].get(_sampled(path), [])
            same = next((other for other, there in alike if whole.equal(path, there, size)), None)
        if same is not None:
            shared.append((key, same))
    return shared


def tell_shared(shared: Sequence[tuple[str, str]], seen: str, evaluated: str, count: int) -> str:
    """Return a sentence on the ``shared`` images of the split ``evaluated``, which holds ``count``; "" if there are none."""
    if not shared:
        return ""
    first = listed([key if key == there else f"{key}, there {there}" for key, there in shared])
    how_many = f"all {count}" if len(shared) == count else f"{len(shared)} of {count}"
    return (
        f"{how_many} images of {evaluated} are also in {seen} ({first}): scores on them say how well they are remembered, "
        "not how well new images are labelled"
    )


def identify(dataset: Dataset) -> str:
    """Return 32 hexadecimal digits that are the same for the same images, whatever their names and order.

    Files are told by their size and the bytes at three places; of other datasets by name, split and keys.
    """
    if isinstance(dataset, InFiles):
        parts: Iterable[bytes] = sorted(_sampled(path) for path in dataset.image_files)
    else:
        parts = (text.encode("utf-8", "surrogateescape") for text in (dataset.name, dataset.split, *dataset.keys))
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


class _WholeFiles:
    """Compares files of one size, each read once, until too much has been read."""

    def __init__(self) -> None:
        self._digests: dict[Path, bytes] = {}
        self._left = _MOST_READ

    def equal(self, one: Path, other: Path, size: int) -> bool:
        """Return whether files that agree at three places agree altogether."""
        unread = [path for path in (one, other) if path not in self._digests]
        if size <= 3 * _SAMPLE or len(unread) * size > self._left:
            return True
        self._left -= len(unread) * size
        for path in unread:
            try:
                with path.open("rb") as file:
                    self._digests[path] = hashlib.file_digest(file, "sha256").digest()
            except OSError:
                return False
        return self._digests[one] == self._digests[other]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _place(path: Path, found: os.stat_result) -> object:
    """Return what two paths of one file share."""
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def _sampled(path: Path) -> bytes:
    """Return a digest of a file's size and its bytes at three places; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
            places = (0, size // 2, size - _SAMPLE) if size > 3 * _SAMPLE else (0,)
            for place in places:
                file.seek(max(0, place))
                digest.update(file.read(_SAMPLE if len(places) > 1 else size))
            return digest.digest()
    except OSError:
        return b""
