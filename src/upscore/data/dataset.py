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
    """Images with masks, by index.

    Attributes
    ----------
    name : str
        Its name in reports.
    split : str
        Which part it is: ``"train"``, ``"val"``, …
    labels : LabelSpace
        The classes.
    keys : sequence of str
        The samples' keys, in order; unique and stable.
    warnings : sequence of str
        Decisions of the reader that a user should know; a sentence each.
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
    settings_file : Path, optional
        The ``dataset.yaml`` in which names and label_mapping may be set, which need not exist; None where the layout has none.
    """

    @property
    def image_files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def mask_files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def settings_file(self) -> Path | None: ...  # noqa: D102
