"""One pass over a dataset: every image and mask is read and decoded once, and leaves a record of three kilobytes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, RawLabels
from upscore.data.finding import SampleName, has_background
from upscore.data.image_files import StoredImage
from upscore.data.mask_files import DecodedMask
from upscore.data.stored_pairs import StoredPairs, read_stored_pair
from upscore.doctor.measurements import Alignment, ImageMeasures, MaskMeasures, align, measure_image, measure_mask
from upscore.doctor.turned_masks import turn
from upscore.errors import UpscoreError
from upscore.types import IGNORE

__all__ = ["Record", "classes_of", "count_values", "scan", "sum_counts", "to_classes"]

Stored = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """What is known of one sample. An image or a mask that could not be read, or whose sizes differ, has an error and no measures."""

    split: str
    key: str
    size: tuple[int, int] = (0, 0)  #: of the upright image; (0, 0) where it could not be read
    bands: str = ""  #: number and type of the image's bands
    orientation: int = 1  #: the image's EXIF orientation
    mask_orientation: int = 1
    image: ImageMeasures | None = None
    mask: MaskMeasures | None = None
    stored: npt.NDArray[np.int64] | None = None  #: (2, V) values that the mask stores, and their pixels; None where it was not read
    palette: bytes = b""  #: the mask's, where it has one
    alignment: Alignment | None = None
    turned_strength: float = 0.0  #: of the alignment where the mask is turned as its image's EXIF tag says; 0 where there is no such tag
    image_error: UpscoreError | None = None
    mask_error: UpscoreError | None = None

    @property
    def counts(self) -> npt.NDArray[np.int64] | None:
        """Pixels of each stored value, (256,) int64; None where the mask was not read."""
        if self.stored is None:
            return None
        counts = np.zeros(256, np.int64)
        counts[self.stored[0]] = self.stored[1]
        return counts

    @property
    def error(self) -> UpscoreError | None:
        """Why it cannot be used."""
        return self.image_error or self.mask_error

    @property
    def name(self) -> SampleName:
        """Split and key."""
        return self.split, self.key


def classes_of(dataset: Dataset) -> Stored:
    """Return the class of each stored value of a dataset's masks, (256,) uint8; 255 where it is ignored or no class."""
    table = np.full(256, IGNORE, np.uint8)
    mapping = dataset.label_mapping if isinstance(dataset, RawLabels) else None
    for value, label in {value: value for value in range(len(dataset.labels))}.items() if mapping is None else mapping.items():
        table[value] = label
    return table


def to_classes(stored: Stored, table: Stored) -> Stored:
    """Return the classes of stored values (H, W)."""
    return np.asarray(table[stored], np.uint8)


def count_values(stored: Stored) -> npt.NDArray[np.int64]:
    """Return the values that a mask (H, W) stores, and the pixels of each, (2, V).

    >>> count_values(np.array([[0, 7, 7]], np.uint8)).tolist()
    [[0, 7], [1, 2]]
    """
    counts = np.bincount(stored.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    return np.stack([values, counts[values]])


def sum_counts(records: Iterable[Record]) -> npt.NDArray[np.int64]:
    """Return the pixels of each stored value in all masks that were read, (256,) int64."""
    total = np.zeros(256, np.int64)
    for record in records:
        if record.stored is not None:
            total[record.stored[0]] += record.stored[1]
    return total


def scan(dataset: Dataset, *, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Record]:
    """Return a record of each sample, in order; ``progress`` is called with (samples read, number of samples), from this thread.

    Samples are read in threads where the dataset allows it, and no more of them are in memory than there are threads and a few.
    """
    table, background = classes_of(dataset), has_background(dataset.labels.names)
    records: list[Record] = []
    shared: dict[bytes, bytes] = {}
    for record in _in_order(lambda index: _examine(dataset, index, table, shared, background=background), dataset):
        records.append(record)
        progress(len(records), len(dataset))
    return records


def _in_order(examine: Callable[[int], Record], dataset: Dataset) -> Iterator[Record]:
    if not isinstance(dataset, StoredPairs | RawLabels):  # a caller's own dataset may not be safe in threads
        yield from map(examine, range(len(dataset)))
        return
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[Record]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index in range(len(dataset)):
                waiting.append(pool.submit(examine, index))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _examine(dataset: Dataset, index: int, table: Stored, shared: dict[bytes, bytes], *, background: bool) -> Record:
    """Return the record of a sample: its files are read, measured and forgotten. ``shared`` are the palettes of all records."""
    split, key = dataset.split, dataset.keys[index]
    try:
        pair = read_stored_pair(dataset, index)
    except UpscoreError as error:
        return Record(split, key, image_error=error, mask_error=error)
    image_error = mask_error = None
    size, bands, orientation, measures, grey = (0, 0), "", 1, None, None
    if isinstance(pair.image, StoredImage):
        pixels = pair.image.decoded.pixels
        size, bands, orientation = (pixels.shape[0], pixels.shape[1]), sys.intern(str(pair.image.spec)), pair.image.decoded.orientation
        measures, grey = measure_image(pixels, pair.image.spec.unit)
    else:
        image_error = pair.image
    if not isinstance(pair.mask, DecodedMask):
        mask_error = pair.mask
        return Record(split, key, size, bands, orientation, image=measures, image_error=image_error, mask_error=mask_error)
    stored = pair.mask.label
    classes = to_classes(stored, table)
    alignment, turned = None, 0.0
    if grey is not None and grey.shape == classes.shape:
        alignment = align(grey, classes, background=background)
        if orientation != 1 and pair.mask.orientation == 1 and (upright := turn(classes, orientation)).shape == grey.shape:
            compared = align(grey, upright, background=background)
            turned = 0.0 if compared is None else float(compared.shifts[8, 8])
    return Record(
        split, key, size, bands, orientation, pair.mask.orientation, measures, measure_mask(stored, classes, background=background),
        count_values(stored), shared.setdefault(pair.mask.palette, pair.mask.palette), alignment, turned, image_error, mask_error,
    )  # fmt: skip
