"""What a reader of datasets is: a record with a name, and functions that recognise and open a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from upscore.data.dataset import Dataset

__all__ = ["Reader"]


@dataclass(frozen=True)
class Reader:
    """One layout of datasets that can be opened.

    Parameters
    ----------
    name : str
        A word for help texts; part of ``description``.
    description : str
        What can be opened, as a phrase that may follow "expected".
    recognise : callable
        ``recognise(path) -> bool``: whether ``path``, as the user wrote it, has this layout; False where it does not exist.
    splits : callable
        ``splits(path) -> tuple of str``: the names of the splits.
    open : callable
        ``open(path, split, **options) -> Dataset``.
    options : tuple of str
        Names of further arguments of ``open``.
    """

    name: str
    description: str
    recognise: Callable[[str], bool]
    splits: Callable[[str], tuple[str, ...]]
    open: Callable[..., Dataset]
    options: tuple[str, ...] = ()
