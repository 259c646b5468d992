"""What a dataset is: any object with these attributes is one, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from upscore.types import LabelSpace, Sample

__all__ = ["Dataset", "InFiles", "RawLabel", "RawLabels"]


class Dataset(Protocol):
    """Images with masks, by index."""

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

    @property
    def image_files(self) -> Sequence[Path]:
        """The images, in order."""

    @property
    def mask_files(self) -> Sequence[Path]:
        """Their masks."""

    @property
    def settings_file(self) -> Path | None:
        """The ``dataset.yaml`` in which names and label_mapping may be set, which need not exist; None where the layout has none."""
