"""Count and evaluate every mask of a dataset before a network sees it.

Most failed trainings fail here: objects saved as 255, which means ignored; classes
numbered from 1; colours instead of numbers; masks blurred by a resize. The census finds
them in seconds and says what they probably are. Class weights and defaults are chosen
from its counts. What the counts mean is told by :mod:`upscore.data.mask_findings`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, InFiles, RawLabel, RawLabels
from upscore.data.mask_findings import Finding, StoredMasks, diagnose
from upscore.errors import DataError, UpscoreError
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["Census", "Fault", "check_dataset", "check_splits", "take_census"]


@dataclass(frozen=True)
class Fault:
    """What is wrong with one sample: its key and one line."""

    key: str
    message: str


@dataclass(frozen=True, eq=False)
class Census:
    """What a dataset's masks hold.

    Parameters
    ----------
    labels : LabelSpace
        The classes.
    images : int
        How many there are.
    class_pixels : (K,) int64
        Pixels of each class.
    pixels_with_class : (K,) int64
        Pixels that are not ignored in the images that show the class: what median
        frequency balancing divides by.
    images_with_class : (K,) int64
        Images that show the class.
    ignored_pixels : int
        Pixels with label 255.
    sizes : (images, 2) int64
        Height and width of each image; 0 where it could not be read.
    faults : tuple of Fault
        Samples that cannot be used as they are, in the dataset's order.
    findings : tuple of Finding
        What is wrong with the masks together and what mends it: one that is fatal, or any number of others.
    """

    labels: LabelSpace
    images: int
    class_pixels: npt.NDArray[np.int64]
    pixels_with_class: npt.NDArray[np.int64]
    images_with_class: npt.NDArray[np.int64]
    ignored_pixels: int
    sizes: npt.NDArray[np.int64]
    faults: tuple[Fault, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def diagnosis(self) -> str:
        """What keeps the masks from being trained on and what to do, one line; "" if nothing does."""
        return next((str(finding) for finding in self.findings if finding.fatal), "")

    @property
    def smallest(self) -> tuple[int, int]:
        """Least height and least width, (0, 0) if nothing could be read."""
        return self._size(np.min)

    @property
    def median(self) -> tuple[int, int]:
        """Median height and median width, rounded down."""
        return self._size(np.median)

    @property
    def largest(self) -> tuple[int, int]:
        """Greatest height and greatest width."""
        return self._size(np.max)

    def absent(self) -> tuple[str, ...]:
        """Return the names of classes no mask shows."""
        return tuple(name for name, pixels in zip(self.labels.names, self.class_pixels, strict=True) if pixels == 0)

    def _size(self, reduce: Callable[..., npt.NDArray[np.int64]]) -> tuple[int, int]:
        read = self.sizes[self.sizes[:, 0] > 0]
        if not len(read):
            return 0, 0
        height, width = reduce(read, axis=0)
        return int(height), int(width)


def check_dataset(dataset: Dataset, *, training: bool = True, progress: Callable[[int, int], None] | None = None) -> Census:
    """Read every mask and return what they hold, or say why they cannot be used.

    Parameters
    ----------
    dataset : Dataset
        Images are not decoded where the dataset can read masks alone.
    training : bool
        Whether it is to be learned from; fewer than two classes are then refused, and otherwise among the findings.
    progress : callable, optional
        Called with (masks read, masks in all), from this thread.

    Returns
    -------
    Census

    Raises
    ------
    DataError
        A mask cannot be read, is not of its image's size or holds a value that is no class;
        or the masks together are one of the mistakes of :mod:`upscore.data.mask_findings`.
        The one line names the files, the values, how many pixels, what they probably are
        and what to do.
    """
    census = take_census(dataset, training=training, progress=progress)
    if census.diagnosis:
        raise DataError(census.diagnosis)
    return census


def check_splits(train: Dataset, val: Dataset, *, progress: Callable[[int, int], None] | None = None) -> tuple[Census, Census]:
    """Do what :func:`check_dataset` does for the two splits of one dataset, whose masks must agree with one another.

    The findings on both are the first census's. ``progress`` is called with masks read, and masks in all, of the two.
    """
    report = progress or (lambda done, of: None)
    total = len(train) + len(val)
    learned, unreadable, masks = _read(train, lambda done, _: report(done, total))
    evaluated, also_unreadable, others = _read(val, lambda done, _: report(len(train) + done, total))
    found = unreadable or also_unreadable or _hinted(diagnose([masks, others]), train)
    learned = replace(learned, findings=tuple(found))
    if learned.diagnosis:
        raise DataError(learned.diagnosis)
    return learned, evaluated


def take_census(dataset: Dataset, *, training: bool = True, progress: Callable[[int, int], None] | None = None) -> Census:
    """Do what :func:`check_dataset` does, but return what was found instead of raising it."""
    census, unreadable, masks = _read(dataset, progress)
    return replace(census, findings=tuple(unreadable or _hinted(diagnose([masks], training=training), dataset)))


def _hinted(findings: Sequence[Finding], dataset: Dataset) -> list[Finding]:
    """Put before the remedies for values that are no class what the reader knows of the classes it took."""
    hint = getattr(dataset, "hint", "")
    return [replace(found, told=f"{hint}; or {found.told}") if hint and found.kind == "no class" else found for found in findings]


def _read(dataset: Dataset, progress: Callable[[int, int], None] | None) -> tuple[Census, list[Finding], StoredMasks]:
    """Return what a split's masks hold, a finding if some cannot be read, and the numbers that they store."""
    count, classes = len(dataset), len(dataset.labels)
    stored = np.zeros((count, 256), np.int64)
    sizes = np.zeros((count, 2), np.int64)
    palettes: list[bytes] = [b""] * count
    known: dict[bytes, bytes] = {}  # one object for each palette, of which there are few
    unreadable: dict[int, str] = {}

    def read(index: int) -> tuple[npt.NDArray[np.int64], tuple[int, ...], bytes] | str:
        try:
            raw = dataset.raw_label(index) if isinstance(dataset, RawLabels) else _as_stored(dataset[index].label)
        except UpscoreError as error:
            return str(error)
        if raw is None:
            return f"{dataset.keys[index]}: the sample has no label, expected one"
        return np.bincount(raw.values.ravel(), minlength=256), raw.values.shape, raw.palette

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, found in enumerate(pool.map(read, range(count))):
            if isinstance(found, str):
                unreadable[index] = found
            else:
                stored[index], sizes[index], palette = found
                palettes[index] = known.setdefault(palette, palette)
            if progress is not None:
                progress(index + 1, count)

    mapping = dataset.label_mapping if isinstance(dataset, RawLabels) else None
    masks = StoredMasks(
        dataset.name,
        dataset.split,
        dataset.keys,
        dataset.labels.names,
        stored > 0,
        stored.sum(axis=0),
        mapping,
        palettes,
        dataset.mask_files if isinstance(dataset, InFiles) else (),
        dataset.description if isinstance(dataset, InFiles) else None,
    )
    counts = stored if mapping is None else _mapped(stored, masks)
    faults = dict(unreadable)
    strange = counts[:, classes:IGNORE]
    for index in np.flatnonzero(strange.any(axis=1)).tolist():
        values = [classes + int(value) for value in np.flatnonzero(strange[index])]
        faults[index] = f"{dataset.keys[index]}: {int(strange[index].sum())} pixels hold {listed(values, 6)}, which is no class"
    of_classes = counts[:, :classes]
    shows = of_classes > 0
    census = Census(
        labels=dataset.labels,
        images=count,
        class_pixels=of_classes.sum(axis=0),
        pixels_with_class=(shows * of_classes.sum(axis=1, keepdims=True)).sum(axis=0),
        images_with_class=shows.sum(axis=0, dtype=np.int64),
        ignored_pixels=int(counts[:, IGNORE].sum()),
        sizes=sizes,
        faults=tuple(Fault(dataset.keys[index], faults[index]) for index in sorted(faults)),
    )
    if not unreadable:
        return census, [], masks
    what = f"{len(unreadable)} of {count} masks cannot be used, first {next(iter(unreadable.values()))}"
    keys = tuple(dataset.keys[index] for index in unreadable)
    return census, [Finding("unreadable", True, f"{dataset.name} ({dataset.split})", what, keys)], masks


def _as_stored(label: npt.NDArray[np.uint8] | None) -> RawLabel | None:
    return None if label is None else RawLabel(label)


def _mapped(stored: npt.NDArray[np.int64], masks: StoredMasks) -> npt.NDArray[np.int64]:
    counts = np.zeros_like(stored)
    for value in range(256):
        counts[:, masks.class_of(value)] += stored[:, value]
    return counts
