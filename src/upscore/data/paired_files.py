"""Datasets of image and mask files in pairs."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.annotations.drawing import Drawing, draw_for_image
from upscore.data.dataset import RawLabel
from upscore.data.encoded_image import is_cell
from upscore.data.headers import IMAGE_SUFFIXES
from upscore.data.image_files import StoredImage, find_stored_input, inspect_image, read_image_with_metadata, read_stored_image
from upscore.data.mask_files import DecodedMask, read_instances, read_mask
from upscore.data.mask_size import check_size
from upscore.data.stored_pairs import StoredPair
from upscore.data.tiff import count_pages, list_pages
from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["Pair", "PairedFiles", "list_images"]

_MAX_FILES = 5_000_000  # a link to / must not be searched for hours
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")  # those of macOS begin with a dot

TURNED_WARNING = (
    "image turned upright by its EXIF orientation tag, mask without such a tag taken to match the upright image; "
    "if it was drawn on the image as stored, remove the image's tag (exiftool -Orientation= FILE)"
)
TURNED_MASK_WARNING = (
    "mask turned upright by its own EXIF orientation tag, which differs from its image's; "
    "if it matches the image as stored, remove the tag (exiftool -Orientation= FILE)"
)
_IMAGES_INSPECTED = 16  # of which the bands are found
_IMAGES_DECODED = 16  # about, of more than 8 bits, for the warning about dark ones while masks are counted


@dataclass(frozen=True)
class Pair:
    """One image's files: its key, the image, its mask, and its instance mask where there is one."""

    key: str
    image: Path
    mask: Path  #: or the annotation file whose shapes are drawn
    instances: Path | None = None
    drawing: Callable[[], Drawing] | None = None  #: returns the shapes, where there are such; it goes to other processes with the dataset


class PairedFiles:
    """A dataset of image and mask files.

    Parameters
    ----------
    pairs : sequence of Pair
        At least one; keys are unique.
    labels : LabelSpace
    split, name : str
    mapping : dict of int to int, optional
        Class of each stored value, which may be any 32-bit number, signed or not; 255 or -1
        means ignored. Values from 0 to 255 that are not named are ignored; others that are not
        named are an error. Without it stored values are classes, and any other value but 255
        is an error.
    void_instance : int, optional
        An instance number that means no object, such as VOC's 255.
    second : PairedFiles, optional
        The same images with masks of other classes, for networks with two heads.
    read_mask : callable, optional
        Reads a mask file as stored values, (H, W) uint8; :func:`~upscore.data.mask_files.read_mask` when not
        given. It goes to other processes with the dataset.
    hint : str
        What to do where masks hold values that are no class, if not set ``label_mapping``.
    warnings : sequence of str
        Decisions of the reader that a user should know.
    settings_file : Path, optional
        The ``dataset.yaml`` that sets names and label_mapping, or may be written to set them.
    bands : int, optional
        How many bands the images must have, where a description of the dataset says so.
    holds : object, optional
        What must live as long as the dataset, such as what its images are read from; it goes to other processes with the dataset.

    Attributes
    ----------
    label_mapping : dict of int to int, optional
        Class of each value that :meth:`raw_label` returns, 255 where it is ignored. Where
        ``mapping`` names values outside 0 to 255, masks are mapped as they are read, and this
        one leaves classes as they are.
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
        read_mask: Callable[[Path], npt.NDArray[np.uint8]] | None = None,
        hint: str = "",
        warnings: Sequence[str] = (),
        settings_file: Path | None = None,
        bands: int | None = None,
        second: PairedFiles | None = None,
        holds: object = None,
    ) -> None:
        self.pairs, self.labels, self.split, self.name = tuple(page for pair in pairs for page in _pages_of(pair)), labels, split, name
        self.keys = [pair.key for pair in self.pairs]
        self.hint, self.settings_file, self._bands, self.second = hint, settings_file, bands, second
        self._holds = holds
        self._void_instance, self._read_mask = void_instance, read_mask
        self._given_warnings = tuple(warnings)
        if stacks := [pair.key for pair in pairs if count_pages(pair.mask) > 1]:
            pages = len(self.pairs) - len(pairs) + len(stacks)
            self._given_warnings += (
                f"{len(stacks)} of {len(pairs)} images of {split} ({listed(stacks)}) are stacks whose masks have as many pages: "
                f"each of the {pages} pages is an image",
            )
        if layered := [pair.key for pair in self.pairs if count_pages(pair.image) > 1]:
            self._given_warnings += (
                f"{len(layered)} of {len(self)} images of {split} ({listed(layered)}) have several pages under one mask: "
                "the pages are the bands of one image",
            )
        self._found: dict[str, set[int]] = {}
        self._counted: dict[str, dict[int, int]] = {}
        self._unnamed: dict[int, tuple[int, ...]] = {}
        self._mapping: npt.NDArray[np.uint8] | None = None
        self.label_mapping = None if mapping is None else {value: IGNORE if label == -1 else label for value, label in mapping.items()}
        self._mapping_of_files: dict[int, int] | None = None
        if self.label_mapping is not None:
            if not all(0 <= value <= IGNORE for value in self.label_mapping):
                self._mapping_of_files = self.label_mapping
                self.label_mapping = {label: label for label in (*range(len(labels)), IGNORE)}
            self._mapping = np.full(256, IGNORE, np.uint8)
            for value, label in self.label_mapping.items():
                self._mapping[value] = label

    @cached_property
    def input(self) -> InputSpec:
        """The images' bands and type: those of :meth:`read_as`, or found in the headers of about sixteen images, evenly spaced.

        Images of 8-bit grey and colour are RGB. Others must be equal in their bands, which every image is checked for when it is read.
        A DataError is raised where they differ. Files that cannot be read do not count.
        """
        step = max(1, len(self) // _IMAGES_INSPECTED)
        found: dict[InputSpec, list[str]] = {}
        for pair in self.pairs[::step]:
            with contextlib.suppress(DataError):  # what cannot be read is reported with all that is wrong with the masks
                found.setdefault(find_stored_input(pair.image), []).append(pair.image.name)
        specs = sorted(found, key=lambda spec: -len(found[spec])) or [RGB]
        if len(specs) > 1:
            kinds = "; ".join(f"{len(found[spec])} have {spec}, such as {found[spec][0]}" for spec in specs[:4])
            raise DataError(
                f"the images of {self.name} {self.split} differ in their bands: of {sum(map(len, found.values()))} headers, "
                f"{kinds}: convert them to one kind, or read all as RGB of 8 bits with --set input.dtype=uint8"
            )
        if self._bands not in (None, len(specs[0])):
            raise DataError(f"{self.settings_file}: channels is {self._bands}, but the images have {specs[0]}: correct it, or leave it out")
        return specs[0]

    def read_as(self, spec: InputSpec) -> PairedFiles:
        """Return the dataset with its images read as those of ``spec``; an image of other bands is a DataError when it is read."""
        other = copy.copy(self)
        other._found, other._counted, other._unnamed = {}, {}, {}
        other.__dict__["input"] = spec
        return other

    @property
    def warnings(self) -> tuple[str, ...]:
        """Decisions that a user should know: those given, and what :meth:`raw_label` found in masks and headers."""
        found = [
            f"{len(indices)} of {len(self)} images of {self.split} ({listed([self.keys[i] for i in sorted(indices)])}): {warning}"
            for warning, indices in sorted(self._found.items())
        ]
        for sentence, counts in sorted(self._counted.items()):
            total, keys = sum(counts.values()), listed([self.keys[i] for i in sorted(counts)])
            found.append(f"{total:,} {sentence} (in {len(counts)} of {len(self)} images of {self.split}: {keys})")
        if unnamed := dict(self._unnamed):
            values = sorted({value for values in unnamed.values() for value in values})
            found.append(
                f"{len(unnamed)} of {len(self)} masks of {self.split} ({listed([self.keys[i] for i in sorted(unnamed)])}) hold values "
                f"that label_mapping does not name, and that are ignored: {listed(values, 8)}"
            )
        return (*self._given_warnings, *found)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read sample ``index``; DataError where a file cannot be read, sizes differ, or the mask holds a value that is no class."""
        pair = self.pairs[index]
        image = read_image_with_metadata(pair.image, self.input)
        size = image.pixels.shape[0], image.pixels.shape[1]
        mask = self._mask(pair, size, image.orientation)
        label = self._to_classes(pair, mask.label)
        instances = mask.instances if pair.instances is None else self._numbers(pair, pair.instances, size, image.orientation)
        warnings = (*_orientation_warnings(image.orientation, mask.orientation), *image.warnings)
        second_label = None if self.second is None else self.second._label(index, size, image.orientation)
        return Sample(pair.key, image.pixels, label, instances, warnings=warnings, second_label=second_label)

    def instances(self, index: int) -> npt.NDArray[np.int32] | None:
        """Read the number of each pixel's object of sample ``index``, without its image; None where the dataset tells no objects."""
        pair = self.pairs[index]
        if pair.instances is None and pair.drawing is None:
            return None
        image = inspect_image(pair.image, self.input)
        if pair.instances is None:
            return self._mask(pair, image.size, image.orientation).instances
        return self._numbers(pair, pair.instances, image.size, image.orientation)

    def _numbers(self, pair: Pair, file: Path, size: tuple[int, int], orientation: int) -> npt.NDArray[np.int32]:
        numbers = read_instances(file)
        check_size(pair.image, size, orientation, numbers.shape, file)
        if self._void_instance is not None:
            numbers[numbers == self._void_instance] = 0
        return numbers

    @property
    def second_labels(self) -> LabelSpace | None:
        """The classes of the second masks; None where there are none."""
        return None if self.second is None else self.second.labels

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self)} images, {len(self.labels)} classes>"

    @cached_property
    def image_files(self) -> list[Path]:
        """The image of each sample."""
        return [pair.image for pair in self.pairs]

    @cached_property
    def mask_files(self) -> list[Path]:
        """The mask of each sample; none where masks are drawn, or lie in Parquet files."""
        return [] if any(pair.drawing or is_cell(pair.mask) for pair in self.pairs) else [pair.mask for pair in self.pairs]

    def select(self, indices: Sequence[int]) -> PairedFiles:
        """Return a dataset of the samples at ``indices``."""
        selected = copy.copy(self)
        selected.pairs = tuple(self.pairs[index] for index in indices)
        selected.keys = [pair.key for pair in selected.pairs]
        selected._found, selected._counted, selected._unnamed = {}, {}, {}
        for files in ("image_files", "mask_files"):
            selected.__dict__.pop(files, None)
        selected.second = None if self.second is None else self.second.select(indices)
        return selected

    def raw_label(self, index: int) -> RawLabel:
        """Return mask ``index`` as stored, after checking that its image is complete and of its size.

        Decisions (a turned image, an alpha channel, values the mapping does not name) are added to ``warnings``. Where the mapping
        names values outside 0 to 255, classes are returned. About sixteen images of more than 8 bits are decoded, for the warning
        about dark ones. A DataError is raised where a file cannot be read, or the two differ in size.
        """
        pair = self.pairs[index]
        image = inspect_image(pair.image, self.input, values=index % max(1, len(self) // _IMAGES_DECODED) == 0)
        mask, counted = self._decoded(pair, image.size, image.orientation)
        self._add_counts(index, counted)
        check_size(pair.image, image.size, image.orientation, mask.label.shape, pair.mask)
        for warning in (*_orientation_warnings(image.orientation, mask.orientation), *image.warnings):
            self._found.setdefault(warning, set()).add(index)
        if mask.unnamed:
            self._unnamed[index] = mask.unnamed
        if self.second is not None:
            self.second._label(index, image.size, image.orientation)  # so that it is known that it can be read
        return RawLabel(mask.label, mask.palette)

    @property
    def masks_as_stored(self) -> bool:
        """Whether mask files hold the values of :meth:`raw_label`: they are read as they are, and not by colours or wider numbers."""
        return self._read_mask is None and self._mapping_of_files is None and not any(pair.drawing for pair in self.pairs)

    def stored_pair(self, index: int) -> StoredPair:
        """Read the image and the mask of a sample as they are, each once, whatever their sizes, bands and values.

        Where a file cannot be read its error is returned in place of its content; where the sizes differ, that of the mask. What is
        counted while a mask is drawn is added to ``warnings``.
        """
        pair = self.pairs[index]
        image: StoredImage | DataError
        mask: DecodedMask | DataError
        try:
            image = read_stored_image(pair.image)
        except DataError as error:
            image = error
        try:
            if isinstance(image, DataError):
                mask = image if pair.drawing else self._decoded(pair, (0, 0), 1)[0]
            else:
                rows, columns = image.decoded.pixels.shape[:2]
                mask, counted = self._decoded(pair, (rows, columns), image.decoded.orientation)
                self._add_counts(index, counted)
                check_size(pair.image, (rows, columns), image.decoded.orientation, mask.label.shape, pair.mask)
        except DataError as error:
            mask = error
        return StoredPair(image, mask)

    def _add_counts(self, index: int, counted: Mapping[str, int]) -> None:
        """Add to the warnings what was counted while a mask was drawn."""
        for sentence, number in counted.items():
            self._counted.setdefault(sentence, {})[index] = number

    def _decoded(self, pair: Pair, size: tuple[int, int], orientation: int) -> tuple[DecodedMask, Mapping[str, int]]:
        """Return the mask of an image of this size and EXIF orientation, and what was counted while it was drawn."""
        if pair.drawing is not None:
            drawn = draw_for_image(pair.drawing(), pair.mask, pair.image, size, orientation)
            return DecodedMask(drawn.label, orientation, instances=drawn.instances), drawn.notes
        if self._read_mask is not None:
            return DecodedMask(self._read_mask(pair.mask), 1), {}
        return read_mask(pair.mask, mapping=self._mapping_of_files), {}

    def _mask(self, pair: Pair, size: tuple[int, int], orientation: int) -> DecodedMask:
        mask, _ = self._decoded(pair, size, orientation)
        check_size(pair.image, size, orientation, mask.label.shape, pair.mask)
        return mask

    def _label(self, index: int, size: tuple[int, int], orientation: int) -> npt.NDArray[np.uint8]:
        """Return the classes of mask ``index``, for an image of this size and EXIF orientation."""
        pair = self.pairs[index]
        return self._to_classes(pair, self._mask(pair, size, orientation).label)

    def _to_classes(self, pair: Pair, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if self._mapping is not None:
            return np.asarray(cv2.LUT(stored, self._mapping), np.uint8)
        classes = len(self.labels)
        if classes < IGNORE and cv2.countNonZero(cv2.inRange(stored, classes, IGNORE - 1)):
            wrong = [int(value) for value in np.unique(stored) if classes <= value < IGNORE]
            raise DataError(
                f"{pair.mask}: found {listed(wrong)} in the mask, expected 0 to {classes - 1} for the {classes} classes "
                f"or {IGNORE} for ignored: {self.hint or 'map the values with label_mapping'}"
            )
        return stored


def _pages_of(pair: Pair) -> list[Pair]:
    """Return a pair for each page of a stack whose mask has pages too; pages under a single mask are the image's bands."""
    if pair.drawing is not None:
        return [pair]
    masks = list_pages(pair.mask)
    if len(masks) == 1:
        return [pair]
    planes = []
    for file in (pair.image, *([pair.instances] if pair.instances else [])):
        planes.append(list_pages(file))
        if len(planes[-1]) != len(masks):
            raise DataError(f"{pair.mask}: the mask has {len(masks)} pages and {file.name} has {len(planes[-1])}, expected as many")
    return [Pair(f"{pair.key}/{page[0].name}", page[0], mask, *page[1:]) for mask, *page in zip(masks, *planes, strict=True)]


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's images, however deep, and its other files; both sorted.

    Links are followed, never in circles. Names that begin with a dot are left out, and so are the files Windows leaves in folders.
    A DataError is raised where the folder does not exist, cannot be listed, or holds millions of files.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder")
    images: list[Path] = []
    others: list[Path] = []
    seen = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for root, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and name.lower() not in _SYSTEM_FILES:
                (images if name.lower().endswith(IMAGE_SUFFIXES) else others).append(Path(root, name))
        if len(images) + len(others) > _MAX_FILES:
            raise DataError(f"{folder}: holds more than {_MAX_FILES} files, links followed: name the folder of the images themselves")
    return sorted(images), sorted(others)


def _orientation_warnings(image: int, mask: int) -> tuple[str, ...]:
    """Return warnings on an image and a mask with these EXIF orientations."""
    if image == mask:
        return ()
    return (TURNED_WARNING,) if mask == 1 else (TURNED_MASK_WARNING,)
