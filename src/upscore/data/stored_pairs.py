"""An image and its mask as they are stored, each read once: what is examined where something may be wrong with either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from upscore.data.dataset import Dataset, InFiles, RawLabels, input_of
from upscore.data.image_files import DecodedImage, StoredImage, read_image_with_metadata
from upscore.data.mask_files import DecodedMask
from upscore.errors import DataError

__all__ = ["StoredPair", "StoredPairs", "read_stored_pair"]


@dataclass(frozen=True, eq=False)
class StoredPair:
    """An image and its mask, or the error of reading either."""

    image: StoredImage | DataError
    mask: DecodedMask | DataError  #: stored values


@runtime_checkable
class StoredPairs(Protocol):
    """A dataset that reads each file of a sample once, whatever is wrong with it."""

    def stored_pair(self, index: int) -> StoredPair:
        """Return the sample's image and mask, or their errors."""


def read_stored_pair(dataset: Dataset, index: int) -> StoredPair:
    """Read the image and the mask of a sample of any dataset, or the error of reading either.

    Where the dataset is no :class:`StoredPairs`, both come with the same error, and a file may be read twice.
    """
    if isinstance(dataset, StoredPairs):
        return dataset.stored_pair(index)
    try:
        raw = dataset.raw_label(index) if isinstance(dataset, RawLabels) else None
        if raw is not None and isinstance(dataset, InFiles):
            image = read_image_with_metadata(dataset.image_files[index], input_of(dataset))
        else:
            image = DecodedImage((sample := dataset[index]).image, 1, tuple(sample.warnings))
        if raw is not None:
            mask = DecodedMask(raw.values, 1, palette=raw.palette)
        elif sample.label is None:
            raise DataError(f"{dataset.keys[index]}: the sample has no label, expected one", check="files.unreadable")
        else:
            mask = DecodedMask(sample.label, 1)
    except DataError as error:
        return StoredPair(error, error)
    return StoredPair(StoredImage(image, input_of(dataset)), mask)
