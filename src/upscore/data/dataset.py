"""What every reader hands out: an object with these attributes is a dataset, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from upscore.data.remedies import Description
from upscore.types import LabelSpace, Sample

__all__ = ["Dataset", "InFiles", "RawLabel", "RawLabels"]


class Dataset(Protocol):
    """Images with masks, by number.

    Attributes
    ----------
    name : str
        What a report calls it.
    split : str
        Which part it is: ``"train"``, ``"val"``, …
    labels : LabelSpace
        What the masks' numbers mean.
    keys : sequence of str
        The samples' keys, in order; unique and stable.
    warnings : sequence of str
        Decisions the reader made that its user should see; each one sentence.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def split(self) -> str: ...  # noqa: D102

    @property
    def labels(self) -> LabelSpace: ...  # noqa: D102

    @property
    def keys(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def warnings(self) -> Sequence[str]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class RawLabel:
    """A mask as it is stored.

    Parameters
    ----------
    values : (H, W) uint8
        The stored numbers.
    palette : bytes
        Red, green and blue of each number from 0, where the file gives its numbers colours; else empty.
    """

    values: npt.NDArray[np.uint8]
    palette: bytes = b""


@runtime_checkable
class RawLabels(Protocol):
    """A dataset whose masks can be examined as they are stored, without decoding the images.

    Attributes
    ----------
    label_mapping : mapping of int to int, optional
        Class of each stored value that the user names, 255 where it is to be ignored; values not named are ignored too.
        None where stored values are classes.
    """

    @property
    def label_mapping(self) -> Mapping[int, int] | None: ...  # noqa: D102

    def raw_label(self, index: int) -> RawLabel:
        """Return mask ``index`` as stored; DataError where it does not fit its image."""
        ...


@runtime_checkable
class InFiles(Protocol):
    """A dataset whose images and masks are files.

    Attributes
    ----------
    image_files, mask_files : sequence of Path
        The samples' files, in order.
    description : Description, optional
        The ``dataset.yaml`` in which names and label_mapping may be set; None where the layout has no place for them.
    """

    @property
    def image_files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def mask_files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def description(self) -> Description | None: ...  # noqa: D102
