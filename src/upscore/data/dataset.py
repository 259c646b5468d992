"""What a dataset is: any object with these attributes is one, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec
from upscore.types import LabelSpace, Sample

__all__ = ["Dataset", "InFiles", "RawLabel", "RawLabels", "SelectsBands", "input_of", "read_as", "second_labels_of"]


class Dataset(Protocol):
    """Images with masks, by index.

    Images of other bands than RGB of 8 bits are described by one more attribute, ``input``, an InputSpec (:func:`input_of`). Where each
    sample also has a second label map, an attribute ``second_labels`` is its LabelSpace (:func:`second_labels_of`).
    """

    @property
    def name(self) -> str:
        """Its name in reports."""

    @property
    def split(self) -> str:
        """Which part it is: ``"train"``, ``"val"``, …"""

    @property
    def labels(self) -> LabelSpace:
        """The classes."""

    @property
    def keys(self) -> Sequence[str]:
        """The samples' keys, in order; unique and stable."""

    @property
    def warnings(self) -> Sequence[str]:
        """Decisions of the reader that a user should know; a sentence each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class RawLabel:
    """A mask as it is stored."""

    values: npt.NDArray[np.uint8]  #: (H, W), the stored numbers
    palette: bytes = b""  #: red, green and blue of each number from 0, where the file gives its numbers colours


@runtime_checkable
class RawLabels(Protocol):
    """A dataset whose masks can be examined as they are stored, without decoding the images."""

    @property
    def label_mapping(self) -> Mapping[int, int] | None:
        """Class of each stored value, 255 for ignored, as are values not named; None where stored values are classes."""

    def raw_label(self, index: int) -> RawLabel:
        """Return mask ``index`` as stored; DataError where it does not fit its image."""


@runtime_checkable
class InFiles(Protocol):
    """A dataset whose images and masks are files."""

    def read_as(self, spec: InputSpec) -> Dataset:
        """Return the dataset with its images read as those of ``spec``."""

    @property
    def image_files(self) -> Sequence[Path]:
        """The images, in order."""

    @property
    def mask_files(self) -> Sequence[Path]:
        """Their masks; none where masks are drawn from the shapes of annotation files, or lie in Parquet files."""

    @property
    def settings_file(self) -> Path | None:
        """The ``dataset.yaml`` in which names and label_mapping may be set, which need not exist; None where the layout has none."""


@runtime_checkable
class SelectsBands(Protocol):
    """A dataset of which some bands can be read alone."""

    def select_bands(self, spec: InputSpec) -> Dataset:
        """Return the dataset with images of the bands of ``spec``, all of them its own."""


def input_of(dataset: Dataset) -> InputSpec:
    """Return the bands of a dataset's images and their type: its attribute ``input``, or RGB of 8 bits where it has none."""
    spec: InputSpec = getattr(dataset, "input", RGB)
    return spec


def second_labels_of(dataset: Dataset) -> LabelSpace | None:
    """Return the classes of a dataset's second label maps: its attribute ``second_labels``; None where it has no such maps."""
    labels: LabelSpace | None = getattr(dataset, "second_labels", None)
    return labels


def read_as(dataset: Dataset, spec: InputSpec) -> Dataset:
    """Return the dataset with images as ``spec`` describes them, such as those that a network takes.

    Files are read as such images, and one of other bands is an error when it is read. Of bands that lie in several files, some may be
    selected. For other datasets a DataError that shows both is raised where their images differ.
    """
    if isinstance(dataset, InFiles):
        return dataset.read_as(spec)
    found = input_of(dataset)
    if isinstance(dataset, SelectsBands) and spec.dtype == found.dtype and set(spec.bands) < set(found.bands):
        return dataset.select_bands(spec)
    if not spec.fits(found):
        raise DataError(f"{dataset.name} {dataset.split}: the images have {found}, expected {spec}, which the network takes")
    return dataset
