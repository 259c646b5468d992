"""Pictures and masks as files in pairs: finding them, and the dataset they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.pictures import PICTURE_SUFFIXES, check_picture, read_instances, read_label, read_picture
from upscore.errors import DataError
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["Pair", "PairedFiles", "find_pictures", "listed"]

_MAX_FILES = 5_000_000  # a link to / must not be walked for hours
_LEFT_BY_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")  # those of macOS begin with a dot


@dataclass(frozen=True)
class Pair:
    """One picture's files: its key, the picture, its mask, and its instance mask where there is one."""

    key: str
    picture: Path
    mask: Path
    instances: Path | None = None


class PairedFiles:
    """A dataset of picture and mask files.

    Parameters
    ----------
    pairs : sequence of Pair
        At least one; keys are unique.
    labels : LabelSpace
        What the masks' numbers mean.
    split, name : str
        Which part of which dataset this is.
    mapping : dict of int to int, optional
        Class of each stored value; 255 or -1, and every value not named, is ignored.
        Without it stored values are classes, and any other value but 255 is an error.
    void_instance : int, optional
        An instance number that means no object, such as VOC's 255.
    read_mask : callable, optional
        Reads a mask file as stored values, (H, W) uint8; :func:`~upscore.data.pictures.read_label`
        when not given. It goes to other processes with the dataset.
    hint : str
        What to do where masks hold values that are no class, if that is not a matter of
        ``label_mapping``.
    notes : sequence of str
        Decisions the user should see.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        labels: LabelSpace,
        *,
        split: str,
        name: str,
        mapping: Mapping[int, int] | None = None,
        void_instance: int | None = None,
        read_mask: Callable[[Path], npt.NDArray[np.uint8]] = read_label,
        hint: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self.pairs = tuple(pairs)
        self.labels = labels
        self.split = split
        self.name = name
        self.hint = hint
        self.notes = tuple(notes)
        self.keys = [pair.key for pair in pairs]
        self.mapping: npt.NDArray[np.uint8] | None = None
        self.mapped_values: frozenset[int] = frozenset(mapping or ())
        self._void_instance = void_instance
        self._read_mask = read_mask
        if mapping is not None:
            self.mapping = np.full(256, IGNORE, np.uint8)
            for value, label in mapping.items():
                if 0 <= value <= 255:  # others never occur in masks of 8 bits
                    self.mapping[value] = IGNORE if label == -1 else label

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read sample ``index``.

        Raises
        ------
        DataError
            A file cannot be read, sizes differ, or the mask holds a value that is no class.
        """
        pair = self.pairs[index]
        image = read_picture(pair.picture)
        stored = self._read_mask(pair.mask)
        _check_size(pair, image.shape[:2], stored.shape, pair.mask)
        label = self._to_classes(pair, stored)
        instances = None
        if pair.instances is not None:
            instances = read_instances(pair.instances)
            _check_size(pair, image.shape[:2], instances.shape, pair.instances)
            if self._void_instance is not None:
                instances[instances == self._void_instance] = 0
        return Sample(pair.key, image, label, instances)

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self)} pictures, {len(self.labels)} classes>"

    def raw_label(self, index: int) -> npt.NDArray[np.uint8]:
        """Return mask ``index`` as stored, (H, W) uint8, after making sure that the picture is whole and of its size.

        Raises
        ------
        DataError
            A file cannot be read, or the two differ in size.
        """
        pair = self.pairs[index]
        stored = self._read_mask(pair.mask)
        _check_size(pair, check_picture(pair.picture), stored.shape, pair.mask)
        return stored

    def _to_classes(self, pair: Pair, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if self.mapping is not None:
            return np.asarray(cv2.LUT(stored, self.mapping), np.uint8)
        classes = len(self.labels)
        if classes < IGNORE and cv2.countNonZero(cv2.inRange(stored, classes, IGNORE - 1)):
            wrong = [int(value) for value in np.unique(stored) if classes <= value < IGNORE]
            raise DataError(
                f"{pair.mask}: found {listed(wrong)} in the mask, expected 0 to {classes - 1} for the {classes} classes "
                f"or {IGNORE} for ignored: {self.hint or 'map the values with label_mapping'}"
            )
        return stored


def listed(found: Collection[object], most: int = 3) -> str:
    """Return the first few of ``found`` as ``"a, b, c and 7 more"``."""
    shown = ", ".join(str(one) for one in list(found)[:most])
    return shown + (f" and {len(found) - most} more" if len(found) > most else "")


def find_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's pictures, however deep, and its other files; both sorted.

    Links are followed, never in circles. Names that begin with a dot are left out, and so
    are the files Windows leaves in folders.

    Raises
    ------
    DataError
        The folder does not exist, cannot be listed, or holds millions of files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    pictures: list[Path] = []
    others: list[Path] = []
    seen = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for root, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and name.lower() not in _LEFT_BY_SYSTEMS:
                (pictures if name.lower().endswith(PICTURE_SUFFIXES) else others).append(Path(root, name))
        if len(pictures) + len(others) > _MAX_FILES:
            raise DataError(f"{folder}: holds more than {_MAX_FILES} files, links followed: name the folder of the images themselves")
    return sorted(pictures), sorted(others)


def _check_size(pair: Pair, picture: Sequence[int], mask: Sequence[int], file: Path) -> None:
    if tuple(picture) != tuple(mask):
        raise DataError(
            f"{file}: the mask is {mask[0]}×{mask[1]} (height × width) and its picture {pair.picture.name} is "
            f"{picture[0]}×{picture[1]}: they must agree pixel for pixel"
        )
