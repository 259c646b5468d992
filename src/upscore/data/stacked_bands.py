"""Images whose bands lie in two files: colour in one, depth or what is computed from it in the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upscore.data.dataset import RawLabel
from upscore.data.paired_files import PairedFiles
from upscore.errors import DataError
from upscore.input_spec import Image, InputSpec
from upscore.types import Sample

__all__ = ["StackedBands"]


class StackedBands:
    """A dataset of RGB images and masks, each image with the bands of another file behind its own.

    Parameters
    ----------
    colour : PairedFiles
        The RGB images and their masks.
    others : sequence of Path
        The file with the other bands of each image, in the same order.
    input : InputSpec
        Red, green and blue, and the other bands.
    read : callable
        Returns the other bands of a file, (H, W, C). It goes to other processes with the dataset.

    Raises
    ------
    DataError
        A file of ``others`` is missing.
    """

    def __init__(self, colour: PairedFiles, others: Sequence[Path], input: InputSpec, read: Callable[[Path], Image]) -> None:
        if missing := [path for path in others if not path.is_file()]:
            raise DataError(f"{missing[0]}: no such file; {len(missing)} of {len(others)} images of {colour.split} have none")
        self._colour, self._others, self._read, self.input = colour, tuple(others), read, input
        self.name, self.split, self.labels, self.keys = colour.name, colour.split, colour.labels, colour.keys
        self._selected: list[int] | None = None

    def __len__(self) -> int:
        return len(self._colour)

    def __getitem__(self, index: int) -> Sample:
        """Read sample ``index``; DataError as for its files, and where the two images differ in size."""
        sample = self._colour[index]
        other = self._read(self._others[index])
        if other.shape[:2] != sample.image.shape[:2]:
            sizes = [f"{image.shape[0]}×{image.shape[1]}" for image in (other, sample.image)]
            raise DataError(
                f"{self._others[index]}: the image is {sizes[0]} (height × width) and its colour image {sizes[1]}: they must agree"
            )
        image = np.concatenate([sample.image, other], axis=2, dtype=self.input.dtype)
        return replace(sample, image=image if self._selected is None else image[..., self._selected])

    def select_bands(self, spec: InputSpec) -> StackedBands:
        """Return the dataset with images of the bands of ``spec``, all of them its own, such as HHA without colour."""
        other = copy.copy(self)
        positions = [self.input.bands.index(band) for band in spec.bands]
        other._selected = positions if self._selected is None else [self._selected[position] for position in positions]
        other.input = spec
        return other

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the colour images and masks."""
        return self._colour.warnings

    @property
    def label_mapping(self) -> Mapping[int, int] | None:
        """Class of each stored value, 255 for ignored."""
        return self._colour.label_mapping

    def raw_label(self, index: int) -> RawLabel:
        """Return mask ``index`` as stored, after checking that its colour image is complete and of its size."""
        return self._colour.raw_label(index)
