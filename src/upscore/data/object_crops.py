"""Crops around objects and proposals: DeconvNet's training data.

::

    stage 1                                    stage 2
    ┌───────────────┐                          ┌───────────────┐
    │  ┌ ─ ─ ─ ┐    │  an object's tight box,  │ ┌ ─ ─ ─ ─ ┐   │  a proposal that overlaps an
    │    ┌───┐       │  enlarged by 1.2; the    │   ┌─────┐     │  object by an IoU ≥ 0.5,
    │  │ │ a │ │ b  │  label is the object's   │ │ │  a  │b│   │  enlarged by 1.2; all labels
    │    └───┘       │  class, all else is      │   └─────┘     │  remain
    │  └ ─ ─ ─ ┘    │  background              │ └ ─ ─ ─ ─ ┘   │
    └───────────────┘                          └───────────────┘

Both are datasets like any other: nothing is written to disk, and a crop is made when it is read.
Beyond the image pixels are 0 and labels ignored.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, §4.2, §6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.band_groups import map_bands
from upscore.data.dataset import Dataset, input_of
from upscore.errors import DataError, RecipeError
from upscore.input_spec import Image
from upscore.proposals import BoxFile
from upscore.proposals.boxes import Boxes, boxes_of_objects, enlarge_boxes, pairwise_iou
from upscore.proposals.proposers import Proposer
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["CroppedObjects", "CroppedProposals", "Objects", "find_objects"]

SIDE = 250
"""Height and width of a crop; training then crops 224×224 of it at a random position."""


class Objects(NamedTuple):
    """The objects of one image."""

    numbers: npt.NDArray[np.int64]  #: (N,) in the instance mask, ascending
    boxes: Boxes  #: tight
    classes: npt.NDArray[np.int64]  #: (N,) the most frequent class of the object's labelled pixels


def find_objects(sample: Sample, labels: LabelSpace) -> Objects:
    """Return the objects of a sample.

    Raises
    ------
    DataError
        It has no instance mask, or an object has no class: all of its pixels are ignored.
    """
    if sample.instances is None or sample.label is None:
        raise DataError(
            f"{sample.key}: has no instance mask: add an instances/ folder beside masks/, or open files whose shapes are objects"
        )
    numbers, boxes = boxes_of_objects(sample.instances)
    inside = sample.instances > 0
    votes = np.zeros((len(numbers), 256), np.int64)
    np.add.at(votes, (np.searchsorted(numbers, sample.instances[inside]), sample.label[inside]), 1)
    votes = votes[:, : len(labels)]
    if (empty := np.flatnonzero(votes.sum(1) == 0)).size:
        raise DataError(f"{sample.key}: object {numbers[empty[0]]} has no class: every pixel of it is ignored ({IGNORE}) in the mask")
    return Objects(numbers, boxes, votes.argmax(1) if len(votes) else np.empty(0, np.int64))


class _Crops:
    """The crops of a dataset, by index."""

    def __init__(self, dataset: Dataset, table: _CropTable, kind: str, side: int) -> None:
        self.dataset, self._table, self.side = dataset, table, side
        self.name, self.split, self.labels, self.warnings = f"{dataset.name}, {kind}s", dataset.split, dataset.labels, dataset.warnings
        self.input = input_of(dataset)
        self.keys: Sequence[str] = _Keys(dataset.keys, table, kind)

    def __len__(self) -> int:
        return len(self.keys)


class CroppedObjects(_Crops):
    """A crop around every object of a dataset: DeconvNet's first training stage.

    Parameters
    ----------
    dataset : Dataset
        With instance masks; all samples are read once, on construction.
    background : str
        The class of all pixels outside the object.
    enlarge : float
        Side of the crop divided by that of the tight box.
    side : int
        Height and width of the crop in pixels.
    min_side : int
        Smallest height and width of a tight box, in pixels; smaller ones are left out, such as slivers of occluded objects.
    balanced : bool
        Repeat the objects of rare classes, so that no class has far fewer than the median class.
    progress : callable, optional
        Called with the number of images read so far.

    Raises
    ------
    DataError
        An image has no instance mask, an object has no class, the background is no class of the
        dataset, or there is no object.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        background: str = "background",
        enlarge: float = 1.2,
        side: int = SIDE,
        min_side: int = 1,
        balanced: bool = True,
        progress: Callable[[int], None] = lambda read: None,
    ) -> None:
        names = dataset.labels.names
        if background not in names:
            raise DataError(f"{dataset.name}: has no class '{background}' for what is not the object: name one of {', '.join(names)}")
        _check(side, enlarge, min_side)
        self.background = names.index(background)
        found = []
        for index in range(len(dataset)):
            numbers, boxes, classes = find_objects(dataset[index], dataset.labels)
            shown = (classes != self.background) & _large(boxes, min_side)
            found.append(_CropTable.of(index, numbers[shown], enlarge_boxes(boxes[shown], enlarge), classes[shown]))
            progress(index + 1)
        super().__init__(dataset, _CropTable.joined(found, balanced=balanced), "object", side)
        if not len(self):
            large = f" of {min_side} pixels and more" if min_side > 1 else ""
            raise DataError(f"{dataset.name}: its {len(dataset)} images hold no object{large}, expected at least one")

    def __getitem__(self, index: int) -> Sample:
        table = self._table
        sample = self.dataset[int(table.image[index])]
        assert sample.label is not None
        assert sample.instances is not None
        label = np.where(sample.instances == table.number[index], table.label_class[index], self.background).astype(np.uint8)
        label[sample.label == IGNORE] = IGNORE
        return _crop(self.keys[index], sample.image, label, sample.instances, table.corners[index], self.side)


class CroppedProposals(_Crops):
    """A crop around every proposal that overlaps an object, with all its labels: DeconvNet's second training stage.

    Parameters
    ----------
    dataset : Dataset
        With instance masks; all samples are read, and boxes proposed, once, on construction.
    propose : callable or BoxFile
        What proposes the boxes; :class:`~upscore.proposals.cache.CachedProposer` avoids doing so
        again. Or a file of them by sample key.
    min_overlap : float
        Smallest intersection over union with the tight box of an object, above 0 and up to 1.
    enlarge, side, min_side, balanced, progress
        As for :class:`CroppedObjects`; ``min_side`` is of the proposal, and the class is that of the object with the largest overlap.

    Raises
    ------
    DataError
        An image has no instance mask, an object has no class, or no proposal overlaps an object.
    """

    def __init__(
        self,
        dataset: Dataset,
        propose: Proposer | BoxFile,
        *,
        min_overlap: float = 0.5,
        enlarge: float = 1.2,
        side: int = SIDE,
        min_side: int = 1,
        balanced: bool = True,
        progress: Callable[[int], None] = lambda read: None,
    ) -> None:
        _check(side, enlarge, min_side)
        if not 0 < min_overlap <= 1:
            raise RecipeError(f"found min_overlap {min_overlap}, expected a fraction above 0 and up to 1")
        found = []
        for index in range(len(dataset)):
            sample = dataset[index]
            _, tight, classes = find_objects(sample, dataset.labels)
            if len(tight):
                height, width = sample.image.shape[:2]
                boxes = (
                    propose.boxes(sample.key, (height, width))
                    if isinstance(propose, BoxFile)
                    else propose(input_of(dataset).display(sample.image))
                )
                overlaps = pairwise_iou(boxes, tight)
                selected = np.flatnonzero((overlaps.max(1) >= min_overlap) & _large(boxes, min_side))
                found.append(_CropTable.of(index, selected, enlarge_boxes(boxes[selected], enlarge), classes[overlaps[selected].argmax(1)]))
            progress(index + 1)
        super().__init__(dataset, _CropTable.joined(found, balanced=balanced), "proposal", side)
        if not len(self):
            raise DataError(
                f"{dataset.name}: no proposal overlaps an object by {min_overlap:g} in {len(dataset)} images: raise max_proposals or "
                "lower min_overlap"
            )

    def __getitem__(self, index: int) -> Sample:
        table = self._table
        sample = self.dataset[int(table.image[index])]
        assert sample.label is not None
        return _crop(self.keys[index], sample.image, sample.label, sample.instances, table.corners[index], self.side)


@dataclass(frozen=True)
class _CropTable:
    """All crops as arrays, since there are millions of proposals."""

    image: npt.NDArray[np.int64]  # (N,)
    number: npt.NDArray[np.int64]  # (N,) of the object in the instance mask, or of the proposal in its order
    corners: npt.NDArray[np.int64]  # (N, 4)
    label_class: npt.NDArray[np.int64]  # (N,) by which crops are balanced
    repetition: npt.NDArray[np.int64]  # (N,) how often the same crop came before

    @classmethod
    def of(cls, image: int, number: npt.NDArray[np.int64], boxes: Boxes, label_class: npt.NDArray[np.int64]) -> _CropTable:
        return cls(np.full(len(boxes), image), number, boxes.corners, label_class, np.zeros(len(boxes), np.int64))

    @classmethod
    def joined(cls, parts: Sequence[_CropTable], *, balanced: bool) -> _CropTable:
        """Concatenate ``parts``; balanced, each crop is repeated in a row as often as its class needs."""
        if not parts:
            return cls.of(0, np.empty(0, np.int64), Boxes([]), np.empty(0, np.int64))
        joined = cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))
        if not balanced or not len(joined.label_class):
            return joined
        counts = np.bincount(joined.label_class)
        times = np.maximum(1, np.rint(np.median(counts[counts > 0]) / np.maximum(counts, 1)).astype(np.int64))[joined.label_class]
        which = np.repeat(np.arange(len(times)), times)
        repetition = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
        return cls(joined.image[which], joined.number[which], joined.corners[which], joined.label_class[which], repetition)


class _Keys(Sequence[str]):
    """The crops' keys, made when they are read; repetitions differ, so that each is augmented differently."""

    def __init__(self, image_keys: Sequence[str], table: _CropTable, kind: str) -> None:
        self._image_keys, self._table, self._kind = image_keys, table, kind

    def __len__(self) -> int:
        return len(self._table.image)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # a sequence's two forms
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        table = self._table
        again = f" again {table.repetition[index]}" if table.repetition[index] else ""
        return f"{self._image_keys[int(table.image[index])]} {self._kind} {table.number[index]}{again}"


def _crop(
    key: str,
    image: Image,
    label: npt.NDArray[np.uint8],
    instances: npt.NDArray[np.integer] | None,
    corners: npt.NDArray[np.int64],
    side: int,
) -> Sample:
    """Crop one box and resize it: bands are interpolated, labels taken from the nearest pixel."""
    left, top, right, bottom = (int(corner) for corner in corners)
    height, width = label.shape
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    beyond = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    smooth = cv2.INTER_AREA if min(bottom - top, right - left) >= 2 * side else cv2.INTER_LINEAR

    def crop(plane: npt.NDArray, fill: float, interpolation: int) -> npt.NDArray:  # type: ignore[type-arg]  # of any type
        inside = cv2.copyMakeBorder(plane[rows, columns], *beyond, cv2.BORDER_CONSTANT, value=(fill,) * 4)
        return np.asarray(cv2.resize(inside, (side, side), interpolation=interpolation))

    nearest = cv2.INTER_NEAREST_EXACT
    moved = None if instances is None else crop(instances.astype(np.int32), 0, nearest)
    bands = map_bands(lambda part, _: crop(part, 0, smooth), image)
    return Sample(key, bands, crop(label, IGNORE, nearest), moved)


def _large(boxes: Boxes, min_side: int) -> npt.NDArray[np.bool_]:
    return np.asarray((boxes.corners[:, 2:] - boxes.corners[:, :2] >= min_side).all(1))


def _check(side: int, enlarge: float, min_side: int) -> None:
    if not isinstance(side, int) or not 1 <= side <= 16384:
        raise RecipeError(f"found crops of side {side}, expected 1 to 16384 pixels")
    if not 0.1 <= enlarge <= 10:
        raise RecipeError(f"found enlarge {enlarge}, expected 0.1 to 10")
    if not isinstance(min_side, int) or min_side < 1:
        raise RecipeError(f"found min_side {min_side}, expected a whole number of pixels from 1")
