"""A census of crops reads some of them, evenly spread, and counts them all."""

import numpy as np
import pytest

from upscore.training import crop_splits
from upscore.types import LabelSpace, Sample


class Crops:
    """A dataset that records which of its crops are read."""

    name, split, warnings = "crops", "train", ()
    labels = LabelSpace(("background", "thing"))

    def __init__(self, count):
        self.keys = [f"crop {i}" for i in range(count)]
        self.read = []

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        self.read.append(index)
        label = np.zeros((8, 10), np.uint8)
        label[:2] = 1
        return Sample(self.keys[index], np.zeros((8, 10, 3), np.uint8), label)


@pytest.mark.parametrize(("count", "read"), [(3, 3), (20, 20), (21, 20), (1000, 20)])
def test_at_most_so_many_crops_are_read(monkeypatch, count, read):
    monkeypatch.setattr(crop_splits, "MAX_VALIDATED", 20)
    dataset = Crops(count)
    census = crop_splits.count_crops(dataset)
    assert len(set(dataset.read)) == read
    assert (min(dataset.read), max(dataset.read)) == (0, count - 1)
    steps = np.diff(sorted(set(dataset.read)))
    assert steps.max() - steps.min() <= 1
    assert census.images == count
    assert census.median == (8, 10)
    assert census.class_pixels[1] / census.class_pixels.sum() == 0.25
