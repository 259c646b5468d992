"""Count and judge every mask of a dataset before a network sees it.

Most failed trainings fail here: objects saved as 255, which means ignored; classes
numbered from 1; colours instead of numbers; masks blurred by a resize. The census finds
them in seconds and says what they probably are. Class weights and defaults are chosen
from its counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, RawLabels
from upscore.data.pairs import listed
from upscore.errors import DataError, UpscoreError
from upscore.types import IGNORE, LabelSpace

__all__ = ["Census", "Fault", "check_dataset", "take_census"]


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
    pictures : int
        How many there are.
    class_pixels : (K,) int64
        Pixels of each class.
    pixels_with_class : (K,) int64
        Pixels that are not ignored in the pictures that show the class: what median
        frequency balancing divides by.
    pictures_with_class : (K,) int64
        Pictures that show the class.
    ignored_pixels : int
        Pixels with label 255.
    sizes : (pictures, 2) int64
        Height and width of each picture; 0 where it could not be read.
    faults : tuple of Fault
        Samples that cannot be used as they are, in the dataset's order.
    diagnosis : str
        What is wrong with the masks together and what to do, one line; "" if nothing is.
    """

    labels: LabelSpace
    pictures: int
    class_pixels: npt.NDArray[np.int64]
    pixels_with_class: npt.NDArray[np.int64]
    pictures_with_class: npt.NDArray[np.int64]
    ignored_pixels: int
    sizes: npt.NDArray[np.int64]
    faults: tuple[Fault, ...] = ()
    diagnosis: str = ""

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


def check_dataset(dataset: Dataset, *, progress: Callable[[int, int], None] | None = None) -> Census:
    """Read every mask and return what they hold, or say why they cannot be trained on.

    Parameters
    ----------
    dataset : Dataset
        Pictures are not decoded where the dataset can read masks alone.
    progress : callable, optional
        Called with (masks read, masks in all), from this thread.

    Returns
    -------
    Census

    Raises
    ------
    DataError
        A mask cannot be read, is not of its picture's size or holds a value that is no
        class; or all masks together hold only 0 and 255, so that the objects would be
        ignored in silence. The one line names the files, the values, how many pixels and
        what they probably are.
    """
    census = take_census(dataset, progress=progress)
    if census.diagnosis:
        raise DataError(census.diagnosis)
    return census


def take_census(dataset: Dataset, *, progress: Callable[[int, int], None] | None = None) -> Census:
    """Do what :func:`check_dataset` does, but return the faults instead of raising them."""
    count, classes = len(dataset), len(dataset.labels)
    stored = np.zeros((count, 256), np.int64)
    sizes = np.zeros((count, 2), np.int64)
    unreadable: dict[int, str] = {}

    def read(index: int) -> tuple[npt.NDArray[np.int64], tuple[int, ...]] | str:
        try:
            label = dataset.raw_label(index) if isinstance(dataset, RawLabels) else dataset[index].label
        except UpscoreError as error:
            return str(error)
        if label is None:
            return f"{dataset.keys[index]}: the sample has no label, expected one"
        return np.bincount(label.ravel(), minlength=256), label.shape

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, found in enumerate(pool.map(read, range(count))):
            if isinstance(found, str):
                unreadable[index] = found
            else:
                stored[index], sizes[index] = found
            if progress is not None:
                progress(index + 1, count)

    mapping = dataset.mapping if isinstance(dataset, RawLabels) else None
    named = dataset.mapped_values if isinstance(dataset, RawLabels) else frozenset()
    counts = stored if mapping is None else _mapped(stored, mapping)
    faults = dict(unreadable)
    strange = counts[:, classes:IGNORE]
    for index in np.flatnonzero(strange.any(axis=1)).tolist():
        values = [classes + int(value) for value in np.flatnonzero(strange[index])]
        faults[index] = f"{dataset.keys[index]}: {int(strange[index].sum())} pixels hold {listed(values, 6)}, which is no class"
    of_classes = counts[:, :classes]
    shows = of_classes > 0
    return Census(
        labels=dataset.labels,
        pictures=count,
        class_pixels=of_classes.sum(axis=0),
        pixels_with_class=(shows * of_classes.sum(axis=1, keepdims=True)).sum(axis=0),
        pictures_with_class=shows.sum(axis=0, dtype=np.int64),
        ignored_pixels=int(counts[:, IGNORE].sum()),
        sizes=sizes,
        faults=tuple(Fault(dataset.keys[index], faults[index]) for index in sorted(faults)),
        diagnosis=_diagnose(dataset, stored, mapping, named, list(unreadable.values())),
    )


def _mapped(stored: npt.NDArray[np.int64], mapping: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    counts = np.zeros_like(stored)
    for value in range(256):
        counts[:, mapping[value]] += stored[:, value]
    return counts


def _diagnose(
    dataset: Dataset,
    stored: npt.NDArray[np.int64],
    mapping: npt.NDArray[np.uint8] | None,
    named: frozenset[int],
    unreadable: Sequence[str],
) -> str:
    """Say in one line what keeps the masks from being trained on; ``""`` if nothing does."""
    where = f"{dataset.name} ({dataset.split})"
    count, classes = len(stored), len(dataset.labels)
    if unreadable:
        return f"{where}: {len(unreadable)} of {count} masks cannot be used, first {unreadable[0]}"
    total = stored.sum(axis=0)
    present = [int(value) for value in np.flatnonzero(total)]
    if not total[:IGNORE].any() or (mapping is not None and (mapping[present] == IGNORE).all()):
        return f"{where}: every pixel of all {count} masks is ignored, expected classes: check the masks and label_mapping"
    if classes > 1 and IGNORE not in named and set(present) == {0, IGNORE}:
        return (
            f"{where}: all {count} masks hold only 0 and 255 ({int(total[IGNORE])} pixels): 0/255 masks, the object saved as 255, "
            f"which means ignored; map it with label_mapping: {{0: 0, 255: 1}}"
        )
    wrong = [value for value in present if classes <= value < IGNORE] if mapping is None else []
    if not wrong:
        return ""
    files = np.flatnonzero(stored[:, wrong].any(axis=1))
    pixels = ", ".join(f"{value}: {int(total[value])} px" for value in wrong[:6])
    more = f" and {len(wrong) - 6} more values" if len(wrong) > 6 else ""
    keys = listed([dataset.keys[index] for index in files.tolist()])
    return (
        f"{where}: {len(files)} of {count} masks ({keys}) hold values that are no class ({pixels}{more}), expected 0 to {classes - 1} "
        f"or 255 for ignored: {getattr(dataset, 'hint', '') or _guess(present, wrong, total, classes)}"
    )


def _guess(present: Sequence[int], wrong: Sequence[int], total: npt.NDArray[np.int64], classes: int) -> str:
    """Say what values that are no class probably are, and what to do."""
    kept = ", ".join(f"{value}: {value}" for value in range(min(classes, 4))) + (", …" if classes > 4 else "")
    others = [value for value in present if value != IGNORE]
    if len(present) > max(32, classes + 8):
        return f"{len(present)} different values: masks resized with interpolation, blurred or saved as photographs; export them anew"
    if others[0] == 1 and others[-1] == classes:
        shifted = ", ".join(f"{value}: {value - 1}" for value in range(1, min(classes, 4) + 1)) + (", …" if classes > 4 else "")
        return f"classes numbered from 1 to {classes}; map them with label_mapping: {{{shifted}}}"
    if others == [0, *wrong] and len(others) == classes:
        spread = ", ".join(f"{value}: {number}" for number, value in enumerate(others[:6])) + (", …" if len(others) > 6 else "")
        return f"as many values as classes, spread out; map them with label_mapping: {{{spread}}}"
    if len(wrong) == 1:
        return f"probably a void class or one missing from names; to ignore it, map it with label_mapping: {{{kept}, {wrong[0]}: 255}}"
    return f"add the classes to names, or map the values with label_mapping: {{{kept}, {wrong[0]}: 255}}"
