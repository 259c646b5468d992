"""Some of the images of a dataset, as a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upscore.data.dataset import Dataset, input_of, second_labels_of
from upscore.data.paired_files import PairedFiles
from upscore.types import Sample

__all__ = ["Selection", "select", "thin"]


def select(dataset: Dataset, indices: Sequence[int]) -> Dataset:
    """Return the images of ``dataset`` at ``indices``, as a dataset; files stay files."""
    return dataset.select(indices) if isinstance(dataset, PairedFiles) else Selection(dataset, indices)


def thin(dataset: Dataset, max_images: int) -> Dataset:
    """Return up to ``max_images`` images of ``dataset``, evenly spread over it."""
    return select(dataset, np.linspace(0, len(dataset) - 1, min(max_images, len(dataset))).round().astype(int).tolist())


class Selection:
    """The images of any dataset at some indices."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, tuple(indices)
        self.name, self.split, self.labels, self.warnings = dataset.name, dataset.split, dataset.labels, dataset.warnings
        self.input, self.second_labels = input_of(dataset), second_labels_of(dataset)
        self.keys: Sequence[str] = [dataset.keys[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
