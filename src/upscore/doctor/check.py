"""What a check is: a record with an id that never changes, and a function that finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.finding import Finding, Severity
from upscore.doctor.snapshot import Snapshot

__all__ = ["Check", "Marker", "is_possible", "run_check"]

Marker = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], npt.NDArray[np.bool_]]
"""Stored values and classes of a mask, (H, W) each, to the pixels that show what was found, (H, W) bool."""


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong with a dataset."""

    id: str  #: a family and a name, such as "values.object-as-255"
    title: str  #: what is wrong, in a few words
    severity: Severity  #: the highest of its findings
    find: Callable[[Snapshot], Iterable[Finding]]
    mends: str = ""  #: what a corrected copy does about it; empty where nothing can be done without a person
    asked: bool = False  #: whether it is mended only where the user names the check, since true labels may be changed too
    needs_run: bool = False  #: whether it needs a trained network
    needs_classes: bool = False  #: whether it counts classes, which means nothing where masks store them in another way
    marker: Callable[[Finding], Marker] | None = None  #: what to mark; the pixels of the finding's values where there is none

    @property
    def family(self) -> str:
        """The first part of its id."""
        return self.id.partition(".")[0]


def is_possible(check: Check, snapshot: Snapshot) -> bool:
    """Return whether a dataset is such that a check can find anything."""
    return snapshot.stores_classes or not check.needs_classes


def run_check(check: Check, snapshot: Snapshot) -> list[Finding]:
    """Return what a check finds; one that fails is an error of its own, so that nothing seems right that was not examined."""
    try:
        return list(check.find(snapshot)) if is_possible(check, snapshot) else []
    except Exception as error:
        what = f"the check could not be completed ({type(error).__name__}: {error}), so nothing is known about this"
        return [snapshot.finding(check.id, "error", what, advice="please report it, and leave the check out with --skip " + check.id)]
