"""Measure the mean and the deviation of each band over a dataset, from which a network's first layer is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from upscore.data.dataset import Dataset, input_of
from upscore.data.pixel_blocks import flat_blocks
from upscore.errors import DataError
from upscore.input_spec import InputSpec

__all__ = ["MAX_IMAGES", "measure_bands"]

MAX_IMAGES = 1000
"""Images that are read to be measured, evenly spaced over a larger dataset."""


def measure_bands(dataset: Dataset, *, progress: Callable[[int, int], None] = lambda done, total: None) -> InputSpec:
    """Return the bands of a dataset with the statistics of its images, over all pixels of up to :data:`MAX_IMAGES` of them.

    Sums are in float64 about the first image's mean. Values that are no number are left out. A band that has one value everywhere gets a
    deviation of 1: it holds nothing to learn, and is not amplified. ``progress`` is called with (images read, of how many).

    Raises
    ------
    DataError
        An image cannot be read, or a band has no value at all.
    """
    spec = input_of(dataset)
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(MAX_IMAGES, len(dataset))).round().astype(int))
    counts, sums, squares = (np.zeros(len(spec)) for _ in range(3))
    shift: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
    for done, index in enumerate(indices.tolist(), start=1):
        image = dataset[index].image
        spec.check(image)
        for block in flat_blocks(image):
            values = block.astype(np.float64) / spec.unit
            valid = ~np.isnan(values)
            if shift is None:
                found = valid.sum(0)
                shift = np.where(found > 0, np.where(valid, values, 0).sum(0) / np.maximum(found, 1), 0.0)
            centred = np.where(valid, values - shift, 0.0)
            counts += valid.sum(0)
            sums += centred.sum(0)
            squares += np.square(centred).sum(0)
        progress(done, len(indices))
    assert shift is not None, "a dataset has an image"
    if empty := [band for band, count in zip(spec.bands, counts, strict=True) if not count]:
        raise DataError(f"{dataset.name} {dataset.split}: the band '{empty[0]}' has no value in any image: leave it out of the images")
    means = sums / counts
    deviations = np.sqrt(np.maximum(squares / counts - np.square(means), 0))
    means += shift
    flat = deviations <= 1e-7 * np.maximum(1e-30, np.abs(means))
    deviations[flat] = 1.0
    return spec.with_statistics([float(f"{mean:.8g}") for mean in means], [float(f"{std:.8g}") for std in deviations])
