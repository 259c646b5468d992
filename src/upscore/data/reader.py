"""What a reader of datasets is: a record with a name, and functions that recognise and open a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from upscore.data.dataset import Dataset

__all__ = ["Reader"]


@dataclass(frozen=True)
class Reader:
    """One layout of datasets that can be opened."""

    name: str  #: a word for help texts; part of the description
    description: str  #: what can be opened, as a phrase that may follow "expected"
    recognise: Callable[[str], bool]  #: whether a path, as the user wrote it, has this layout; False where it does not exist
    splits: Callable[[str], tuple[str, ...]]  #: the names of the splits at a path
    open: Callable[..., Dataset]  #: open(path, split, **options)
    options: tuple[str, ...] = ()  #: names of further arguments of open
