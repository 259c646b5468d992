"""What every reader hands out: an object with these attributes is a dataset, whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from upscore.types import LabelSpace, Sample

__all__ = ["Dataset", "RawLabels"]


class Dataset(Protocol):
    """Pictures with masks, by number.

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
    notes : sequence of str
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
    def notes(self) -> Sequence[str]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class RawLabels(Protocol):
    """A dataset whose masks can be examined as they are stored, without reading the pictures.

    Attributes
    ----------
    mapping : (256,) uint8, optional
        Class of each stored value, 255 where ignored; none where stored values are classes.
    mapped_values : frozenset of int
        Stored values the user's mapping names.
    """

    mapping: npt.NDArray[np.uint8] | None
    mapped_values: frozenset[int]

    def raw_label(self, index: int) -> npt.NDArray[np.uint8]:
        """Return mask ``index`` as stored, (H, W) uint8; DataError where it does not fit its picture."""
        ...
