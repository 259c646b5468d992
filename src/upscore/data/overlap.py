"""Find images of evaluation that are among those of training.

Metrics on images of the training set do not measure generalisation. Images are the same if
they are the same file, by whatever path, or files with the same bytes: nothing is decoded for that, and a
file is read only where another has its size, at three offsets first. They are also the same if their decoded pixels
are (:mod:`upscore.data.pixel_digests`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from upscore.data.dataset import Dataset, InFiles
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.encoded_image import split_page
from upscore.data.finding import Finding
from upscore.data.pixel_digests import PixelDigests, digest_images
from upscore.data.readable_images import SKIP_ADVICE
from upscore.errors import DataError
from upscore.text import listed

__all__ = ["compare_splits", "dataset_identity", "find_shared_images", "refuse_shared_images", "shared_images_finding"]

_SAMPLE = 4096
"""Bytes that are read at the beginning, middle and end of a file."""

_LISTED = 50
"""Images that an error lists by name."""

_MAX_READ = 2**31
"""Bytes of files that are read in full to be compared; beyond them the three samples decide."""


def find_shared_images(
    train: Dataset,
    evaluated: Dataset,
    *,
    train_digests: Mapping[str, bytes] | None = None,
    evaluated_digests: Mapping[str, bytes] | None = None,
) -> list[tuple[str, str]]:
    """Return the images of ``evaluated`` that ``train`` holds too, as (key, key in ``train``), in the order of ``evaluated``.

    Files are compared where both are in files, and digests of decoded pixels, by key, where they are given.
    """
    shared = dict(_find_shared_files(train, evaluated))
    by_digest = {train_digests[key]: key for key in reversed(train.keys) if key in train_digests} if train_digests else {}
    for key, digest in (evaluated_digests or {}).items():
        if digest in by_digest:
            shared.setdefault(key, by_digest[digest])
    return [(key, shared[key]) for key in evaluated.keys if key in shared]


def compare_splits(
    train: Dataset,
    val: Dataset,
    train_statistics: DatasetStatistics,
    val_statistics: DatasetStatistics,
    *,
    decoded: Mapping[str, bytes],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PixelDigests, list[tuple[str, str]]]:
    """Return the digests of the training images, and which validation images are among them, as :func:`find_shared_images` does.

    Images are decoded for it, as many as :func:`~upscore.data.pixel_digests.digest_images` decodes; ``decoded`` are digests of training
    images by key that are known already. ``progress`` is called with (images decoded, number of images).
    """
    total = len(train) + len(val)
    known = {**train_statistics.digests, **decoded}
    try:
        of_train = digest_images(train, train_statistics.sizes, decoded=known, progress=lambda done, _: progress(done, total))
    except DataError as error:
        raise DataError(f"{error}; {SKIP_ADVICE}") from error
    of_val = digest_images(
        val, val_statistics.sizes, decoded=val_statistics.digests, progress=lambda done, _: progress(len(train) + done, total)
    )
    progress(total, total)
    return of_train, find_shared_images(train, val, train_digests=of_train.by_key, evaluated_digests=of_val.by_key)


def _find_shared_files(train: Dataset, evaluated: Dataset) -> list[tuple[str, str]]:
    """Return (key, key in ``train``) of equal files; none where either dataset is not in files."""
    if not isinstance(train, InFiles) or not isinstance(evaluated, InFiles):
        return []
    by_identity = dict[object, str]()
    by_size: dict[int, list[tuple[str, Path]]] = {}
    for key, path in zip(train.keys, train.image_files, strict=True):
        if found := _stat(path):
            by_identity.setdefault(_file_identity(path, found), key)
            by_size.setdefault(found.st_size, []).append((key, path))
    by_digest: dict[int, dict[bytes, list[tuple[str, Path]]]] = {}
    contents = _Contents()
    shared = []
    for key, path in zip(evaluated.keys, evaluated.image_files, strict=True):
        if not (found := _stat(path)):
            continue
        same = by_identity.get(_file_identity(path, found))
        size = found.st_size
        if same is None and size in by_size:
            if size not in by_digest:
                by_digest[size] = {}
                for candidate in by_size[size]:
                    by_digest[size].setdefault(_digest(candidate[1]), []).append(candidate)
            candidates = by_digest[size].get(_digest(path), [])
            same = next((train_key for train_key, other in candidates if contents.equal(path, other, size)), None)
        if same is not None:
            shared.append((key, same))
    return shared


def shared_images_finding(
    shared: Sequence[tuple[str, str]], train: str, evaluated: str, count: int, *, splits: tuple[str, str] | None = None
) -> Finding | None:
    """Return a finding on the ``shared`` images, (key, key in ``train``), of the ``count`` images of ``evaluated``; None without any.

    ``train`` and ``evaluated`` are what the text calls them; ``splits`` are their names, for the evidence.
    """
    if not shared:
        return None
    first = listed([key if key == train_key else f"{key}, there {train_key}" for key, train_key in shared])
    how_many = f"all {count}" if len(shared) == count else f"{len(shared)} of {count}"
    what = (
        f"{how_many} images of {evaluated} are also in {train} ({first}): metrics on them measure how well they are memorised, "
        "not how well new images are labelled"
    )
    pairs = tuple(((splits[1], key), (splits[0], other)) for key, other in shared) if splits else ()
    return Finding("splits.shared-images", "warning", "", what, tuple(key for key, _ in shared), evidence=pairs)


def refuse_shared_images(shared: Sequence[tuple[str, str]], evaluated: str, count: int) -> None:
    """Raise a DataError that lists the ``shared`` images, (key, key in the training data), of the ``count`` of ``evaluated``, if any."""
    if shared:
        raise DataError(
            f"{len(shared)} of {count} images of {evaluated} are also in the training data, which the recipe refuses "
            "(data.refuse_overlap), as its numbers are of images that were not trained on; leave them out of either list, or choose "
            f"another split with --set data.val=: {listed([key for key, _ in shared], _LISTED)}"
        )


def dataset_identity(dataset: Dataset) -> str:
    """Return 32 hexadecimal digits that are the same for the same images, whatever their names and order.

    They depend on the size of each file and its bytes at three offsets; where images are not files, on name, split and keys.
    """
    if isinstance(dataset, InFiles):
        parts: Iterable[bytes] = sorted(_digest(path) for path in dataset.image_files)
    else:
        parts = (text.encode("utf-8", "surrogateescape") for text in (dataset.name, dataset.split, *dataset.keys))
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


class _Contents:
    """Compares the contents of files of one size; each is read once, and no more than :data:`_MAX_READ` of all."""

    def __init__(self) -> None:
        self._digests: dict[Path, bytes] = {}
        self._left = _MAX_READ

    def equal(self, path: Path, other: Path, size: int) -> bool:
        """Return whether files that agree at three offsets are equal."""
        unread = [file for file in (path, other) if file not in self._digests]
        if size <= 3 * _SAMPLE or len(unread) * size > self._left:
            return True
        self._left -= len(unread) * size
        for file in unread:
            try:
                with file.open("rb") as content:
                    self._digests[file] = hashlib.file_digest(content, "sha256").digest()
            except OSError:
                return False
        return self._digests[path] == self._digests[other]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _file_identity(path: Path, found: os.stat_result) -> object:
    """Return what is equal for all paths of a file."""
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def _digest(path: Path) -> bytes:
    """Return a digest of a file's size and its bytes at three offsets; empty where it cannot be read."""
    file_path, page = split_page(path)
    try:
        with file_path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(size.to_bytes(8, "little") + (page.to_bytes(4, "little") if page else b""), digest_size=16)
            offsets = (0, size // 2, size - _SAMPLE) if size > 3 * _SAMPLE else (0,)
            for offset in offsets:
                file.seek(max(0, offset))
                digest.update(file.read(_SAMPLE if len(offsets) > 1 else size))
            return digest.digest()
    except OSError:
        return b""
