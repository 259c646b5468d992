"""Leave the training images out that cannot be read.

Only for training, and only where a user asks for it: metrics on fewer images than the validation split holds could not be compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from upscore.data.dataset import Dataset, InFiles, RawLabels, input_of
from upscore.data.finding import Finding
from upscore.data.image_files import read_image_with_metadata
from upscore.data.pixel_digests import digest_pixels
from upscore.data.selection import select
from upscore.errors import DataError, UpscoreError
from upscore.text import listed

__all__ = ["MAX_UNREADABLE", "SKIP_ADVICE", "ReadableImages", "leave_out_unreadable"]

MAX_UNREADABLE = 0.5
"""The largest fraction of the images that may be left out."""

SKIP_ADVICE = "or leave out training images that cannot be read with --skip-bad (data.skip_bad = true)"
"""What else can be done about an unreadable image; it completes an error."""


@dataclass(frozen=True)
class ReadableImages:
    """The images of a dataset that can be read."""

    dataset: Dataset
    skipped: Mapping[str, str]  #: why each image was left out, by its key, in the dataset's order
    digests: Mapping[str, bytes]  #: of the images that were read, by key

    @property
    def finding(self) -> Finding | None:
        """How many were left out, and the first of them; None where all can be read."""
        if not self.skipped:
            return None
        count, total = len(self.skipped), len(self.skipped) + len(self.dataset)
        what = f"{count} of {total} training images cannot be read and are left out ({listed(list(self.skipped))}), first "
        return Finding("files.unreadable", "warning", "", what + next(iter(self.skipped.values())), tuple(self.skipped))


def leave_out_unreadable(dataset: Dataset, *, progress: Callable[[int, int], None] = lambda done, total: None) -> ReadableImages:
    """Decode every image and mask of a dataset, and leave out those that cannot be decoded, or whose sizes differ.

    A mask that can be read and holds values that are no class is not left out: that is a mistake of the whole dataset, which
    :mod:`upscore.data.mask_check` explains. ``progress`` is called with (images read, number of images).

    Raises
    ------
    DataError
        More than :data:`MAX_UNREADABLE` of the images cannot be read.
    """
    digests: dict[str, bytes] = {}

    def read(index: int) -> str:
        try:
            digests[dataset.keys[index]] = digest_pixels(dataset[index].image)
        except (UpscoreError, OSError) as error:
            return "" if _can_be_read(dataset, index) else str(error)
        return ""

    skipped: dict[str, str] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, reason in enumerate(pool.map(read, range(len(dataset)))):
            if reason:
                skipped[dataset.keys[index]] = reason
            progress(index + 1, len(dataset))
    if len(skipped) > MAX_UNREADABLE * len(dataset):
        raise DataError(
            f"{dataset.name} ({dataset.split}): {len(skipped)} of {len(dataset)} images cannot be read, expected at most half even with "
            f"--skip-bad: something is wrong with all of them, first {next(iter(skipped.values()))}"
        )
    readable = [index for index, key in enumerate(dataset.keys) if key not in skipped]
    return ReadableImages(select(dataset, readable) if skipped else dataset, skipped, digests)


def _can_be_read(dataset: Dataset, index: int) -> bool:
    """Return whether the files of an image and its mask can be decoded and agree in size, though the sample is refused."""
    if not isinstance(dataset, RawLabels) or not isinstance(dataset, InFiles):
        return False
    try:
        dataset.raw_label(index)
        read_image_with_metadata(dataset.image_files[index], input_of(dataset))
    except UpscoreError:
        return False
    return True
