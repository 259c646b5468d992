"""The values that masks store, counted: what the rules on masks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.finding import DescribedMasks, Finding, Remedy, Severity, with_background
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["OBJECT_VALUES", "AllMasks", "StoredMasks", "pixel_counts", "two_classes"]

OBJECT_VALUES = {1, 127, 128, 254, 255}
"""What masks of one object on a background store for it."""


@dataclass(frozen=True, eq=False)
class StoredMasks:
    """The values that the masks of one split store."""

    name: str
    split: str
    keys: Sequence[str]
    names: tuple[str, ...]  #: the classes
    occurs: npt.NDArray[np.bool_]  #: (masks, 256) which stored values each mask holds
    pixels: npt.NDArray[np.int64]  #: (256,) pixels of each stored value, over all masks
    mapping: Mapping[int, int] | None = None  #: the label_mapping; 255 means ignored
    palettes: Sequence[bytes] = ()  #: RGB of each mask's numbers, empty where it has none; empty altogether where masks are not files
    files: Sequence[Path] = ()  #: empty where masks are not files
    settings_file: Path | None = None  #: the dataset.yaml in which names and label_mapping are set

    def class_of(self, value: int) -> int:
        """Return the class of a stored value, 255 where it is ignored; a value that is no class is returned as it is."""
        return value if self.mapping is None else self.mapping.get(value, IGNORE)

    def values(self) -> list[int]:
        """Return the stored values that occur, in order."""
        return [int(value) for value in np.flatnonzero(self.pixels)]

    def classes_shown(self) -> list[int]:
        """Return the classes that occur, in order."""
        return sorted({self.class_of(value) for value in self.values()} & set(range(len(self.names))))


class AllMasks:
    """The masks of all splits of a dataset, with common names and label_mapping; ``parts`` has those of each split."""

    def __init__(self, parts: Sequence[StoredMasks]) -> None:
        first = parts[0]
        self.parts, self.names, self.mapping, self.class_of = parts, first.names, first.mapping, first.class_of
        self.mapped_values = frozenset(first.mapping or ())
        self.occurs = np.concatenate([part.occurs for part in parts])
        self.pixels = np.sum([part.pixels for part in parts], axis=0)
        self.palettes = [palette for part in parts for palette in part.palettes]
        self.values = [int(value) for value in np.flatnonzero(self.pixels)]
        self.count, self.classes = len(self.occurs), len(self.names)
        # Values that are neither a class nor ignored on purpose.
        if self.mapping is None:
            self.undefined = [value for value in self.values if self.classes <= value < IGNORE]
        else:
            self.undefined = [value for value in self.values if value not in self.mapped_values and value != IGNORE]
        self._files = tuple(file for part in parts for file in part.files)
        several = len(parts) > 1
        self._keys = [f"{part.split} {key}" if several else key for part in parts for key in part.keys]

    def holding(self, values: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return which masks hold any of ``values``, (masks,) bool."""
        return np.asarray(self.occurs[:, list(values)].any(axis=1))

    def keys(self, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the keys of the chosen masks; with their split where there are several."""
        return tuple(self._keys[index] for index in np.flatnonzero(chosen).tolist())

    def describe(self, chosen: npt.NDArray[np.bool_]) -> str:
        """Return the number of the chosen masks and the first keys, as "2 of 9 masks (a, b)"."""
        return f"{int(chosen.sum())} of {self.count} masks ({listed(self.keys(chosen))})"

    def counted(self, values: Sequence[int]) -> dict[int, int]:
        """Return the pixels of each of ``values``."""
        return {value: int(self.pixels[value]) for value in values}

    def finding(
        self, check: str, what: str, remedies: Sequence[Remedy] = (), *, severity: Severity = "error",
        chosen: npt.NDArray[np.bool_] | None = None, values: Sequence[int] = (), part: StoredMasks | None = None,
    ) -> Finding:  # fmt: skip
        """Return a finding on the ``chosen`` masks, (masks,) bool, or on all; ``part`` is the split it is about."""
        parts = self.parts if part is None else [part]
        where = f"{parts[0].name} ({' and '.join(part.split for part in parts)})"
        indices = () if chosen is None else np.flatnonzero(chosen).tolist()
        files, keys = (part.files, part.keys) if part is not None else (self._files, self._keys)
        samples = [(of.split, key) for of in ([part] if part is not None else self.parts) for key in of.keys]
        masks = DescribedMasks(tuple(self.names), self._files, self.parts[0].settings_file)
        return Finding(
            check, severity, where, what, tuple(keys[index] for index in indices),
            tuple(files[index] for index in indices) if files else (),
            self.counted(values), tuple(remedies), masks, tuple((samples[index],) for index in indices),
        )  # fmt: skip


def two_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Return two names for a dataset that names one class: a background before it, or an object after the background."""
    return with_background(names) or (names[0], "object")


def pixel_counts(counts: Mapping[int, int]) -> str:
    """Return "value: pixels px" for each of ``counts``."""
    return listed([f"{value}: {pixels} px" for value, pixels in counts.items()], 6)
