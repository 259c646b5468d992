"""A dataset in the classes of another, by their names: COCO's as PASCAL VOC's.

All 20 classes of VOC are among COCO's 80, six under other names. Every other class becomes the background, as it is in VOC, and what
is ignored stays ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, RawLabel
from upscore.data.paired_files import PairedFiles
from upscore.data.voc_names import VOC_NAMES
from upscore.errors import DataError, nearest_name
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["CLASS_SETS", "ClassSet", "map_classes"]


@dataclass(frozen=True)
class ClassSet:
    """Classes that a dataset can be mapped to."""

    labels: LabelSpace  #: the first is the background
    other_names: Mapping[str, str]  #: what another dataset calls one of them, and its name here

    def find(self, name: str) -> int | None:
        """Return the number of the class that another dataset calls ``name``; None where there is none.

        >>> CLASS_SETS["voc"].find("tv"), CLASS_SETS["voc"].find("truck")
        (20, None)
        """
        plain = name.strip().lower()
        plain = self.other_names.get(plain, plain)
        return self.labels.names.index(plain) if plain in self.labels.names else None


CLASS_SETS = {
    "voc": ClassSet(
        LabelSpace(VOC_NAMES),
        {
            "airplane": "aeroplane",
            "couch": "sofa",
            "dining table": "diningtable",
            "motorcycle": "motorbike",
            "potted plant": "pottedplant",
            "tv": "tvmonitor",
        },
    )
}
"""By the name that settings and flags take."""


def map_classes(dataset: Dataset, name: str) -> Dataset:
    """Return a dataset of image and mask files in the classes of a set.

    The classes that are mapped, and those that become background with the number of their pixels, are among its warnings once its masks
    were checked. DataError where no set has that name, the data is not in files, or has none of the classes.
    """
    if name not in CLASS_SETS:
        raise DataError(f"unknown classes '{name[:80]}'{nearest_name(name, list(CLASS_SETS))}: expected {', '.join(CLASS_SETS)}")
    if not isinstance(dataset, PairedFiles):
        raise DataError(f"{dataset.name}: its classes cannot be mapped to those of '{name}': expected images and masks in files")
    return _MappedFiles.of(dataset, name)


class _MappedFiles(PairedFiles):
    """Image and mask files whose classes are mapped to others."""

    @classmethod
    def of(cls, dataset: PairedFiles, name: str) -> _MappedFiles:
        """Return the dataset in the classes of the set ``name``."""
        wanted, names = CLASS_SETS[name], dataset.labels.names
        found = [wanted.find(own) for own in names]
        if not any(found):
            raise DataError(f"{dataset.name}: has none of the classes of '{name}', found {listed(names, 8)}: leave classes out")
        mapped = cls.__new__(cls)
        mapped.__dict__ |= dataset.__dict__
        classes = {number: target or 0 for number, target in enumerate(found)} | {IGNORE: IGNORE}
        stored = dataset.label_mapping or {number: number for number in classes}
        mapped.labels = wanted.labels
        mapped.label_mapping = {value: classes[label] for value, label in stored.items()}
        mapped._mapping = np.full(256, IGNORE, np.uint8)
        mapped._mapping[list(mapped.label_mapping)] = list(mapped.label_mapping.values())
        mapped._found, mapped._counted, mapped._unnamed = {}, {}, {}
        others = [own for own, target in zip(names, found, strict=True) if target is None]
        mapped._others = np.array([value for value, label in stored.items() if label != IGNORE and found[label] is None], np.int64)
        mapped._became_background = f"pixels of {len(others)} other classes ({listed(others)}) are the class 'background'"
        there = f"{len({target for target in found if target})} of {len(wanted.labels) - 1} are there"
        mapped._given_warnings = (*dataset._given_warnings, f"the {len(names)} classes are mapped to those of '{name}' by name: {there}")
        return mapped

    _others: npt.NDArray[np.int64]
    _became_background: str

    def raw_label(self, index: int) -> RawLabel:
        """Return mask ``index`` as stored, as :meth:`PairedFiles.raw_label`; pixels that become background are counted."""
        raw = super().raw_label(index)
        if pixels := int(np.bincount(raw.values.ravel(), minlength=256)[self._others].sum()):
            self._counted.setdefault(self._became_background, {})[index] = pixels
        return raw
