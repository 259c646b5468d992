"""Objects and proposals as images of their own: what DeconvNet learns from.

::

    stage 1                                    stage 2
    ┌───────────────┐                          ┌───────────────┐
    │  ┌ ─ ─ ─ ┐    │  an object's tight box,  │ ┌ ─ ─ ─ ─ ┐   │  a proposal that meets an
    │    ┌───┐       │  enlarged by 1.2; the    │   ┌─────┐     │  object by 0.5 or more,
    │  │ │ a │ │ b  │  label is the object's   │ │ │  a  │b│   │  enlarged by 1.2; all labels
    │    └───┘       │  class, all else is      │   └─────┘     │  are kept
    │  └ ─ ─ ─ ┘    │  background              │ └ ─ ─ ─ ─ ┘   │
    └───────────────┘                          └───────────────┘

A view is a dataset like any other: nothing is written to disk, and a crop is cut when it is asked
for. Beyond the image pixels are 0 and labels ignored.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, §4.2, §6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.errors import DataError, RecipeError
from upscore.proposals import BoxFile
from upscore.proposals.boxes import Boxes, boxes_of_objects, enlarge_boxes, pairwise_iou
from upscore.proposals.proposers import Proposer
from upscore.types import IGNORE, LabelSpace, Sample

__all__ = ["CroppedObjects", "CroppedProposals", "Objects", "objects_of"]

SIDE = 250
"""Height and width of a crop, of which training then cuts 224×224 at a random place."""


class Objects(NamedTuple):
    """The objects of one image.

    Attributes
    ----------
    numbers : (N,) int64
        As the instance mask has them, ascending.
    boxes : Boxes
        Tight ones.
    classes : (N,) int64
        The class that most of an object's labelled pixels have.
    """

    numbers: npt.NDArray[np.int64]
    boxes: Boxes
    classes: npt.NDArray[np.int64]


def objects_of(sample: Sample, labels: LabelSpace) -> Objects:
    """Return the objects of a sample.

    Raises
    ------
    DataError
        It has no instance mask, or an object has no class: all of its pixels are ignored.
    """
    if sample.instances is None or sample.label is None:
        raise DataError(f"{sample.key}: has no instance mask: add an instances/ folder beside masks/ with a number for each object")
    numbers, boxes = boxes_of_objects(sample.instances)
    inside = sample.instances > 0
    votes = np.zeros((len(numbers), 256), np.int64)
    np.add.at(votes, (np.searchsorted(numbers, sample.instances[inside]), sample.label[inside]), 1)
    votes = votes[:, : len(labels)]
    if (empty := np.flatnonzero(votes.sum(1) == 0)).size:
        raise DataError(f"{sample.key}: object {numbers[empty[0]]} has no class: every pixel of it is ignored ({IGNORE}) in the mask")
    return Objects(numbers, boxes, votes.argmax(1) if len(votes) else np.empty(0, np.int64))


class _View:
    """What both views are: cuts of a dataset, by number."""

    def __init__(self, dataset: Dataset, cuts: _Cuts, what: str, side: int) -> None:
        self.dataset, self._cuts, self.side = dataset, cuts, side
        self.name, self.split, self.labels, self.warnings = f"{dataset.name}, {what}s", dataset.split, dataset.labels, dataset.warnings
        self.keys: Sequence[str] = _Keys(dataset.keys, cuts, what)

    def __len__(self) -> int:
        return len(self.keys)


class CroppedObjects(_View):
    """Every object of a dataset in the middle of an image of its own: DeconvNet's first stage.

    Parameters
    ----------
    dataset : Dataset
        With instance masks; all are read once, here.
    background : str
        The class of everything that is not the object.
    enlarge : float
        Sides of the crop over those of the tight box.
    side : int
        Height and width of the crop in pixels.
    least_side : int
        Leave out objects whose tight box is narrower or lower, in pixels: slivers of what others hide.
    balanced : bool
        Repeat the objects of rare classes, so that no class has far fewer than the median one.
    progress : callable, optional
        Called with the number of images read so far.

    Raises
    ------
    DataError
        An image has no instance mask, an object no class, there is no such class as the
        background, or no object at all.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        background: str = "background",
        enlarge: float = 1.2,
        side: int = SIDE,
        least_side: int = 1,
        balanced: bool = True,
        progress: Callable[[int], None] = lambda read: None,
    ) -> None:
        names = dataset.labels.names
        if background not in names:
            raise DataError(f"{dataset.name}: has no class '{background}' for what is not the object: name one of {', '.join(names)}")
        _check(side, enlarge, least_side)
        self.background = names.index(background)
        found = []
        for index in range(len(dataset)):
            numbers, boxes, classes = objects_of(dataset[index], dataset.labels)
            shown = (classes != self.background) & _large(boxes, least_side)
            found.append(_Cuts.of(index, numbers[shown], enlarge_boxes(boxes[shown], enlarge), classes[shown]))
            progress(index + 1)
        super().__init__(dataset, _Cuts.joined(found, balanced=balanced), "object", side)
        if not len(self):
            large = f" of {least_side} pixels and more" if least_side > 1 else ""
            raise DataError(f"{dataset.name}: its {len(dataset)} images hold no object{large}, expected at least one")

    def __getitem__(self, index: int) -> Sample:
        cuts = self._cuts
        sample = self.dataset[int(cuts.image[index])]
        assert sample.label is not None
        assert sample.instances is not None
        label = np.where(sample.instances == cuts.number[index], cuts.kind[index], self.background).astype(np.uint8)
        label[sample.label == IGNORE] = IGNORE
        return _cut(self.keys[index], sample.image, label, sample.instances, cuts.corners[index], self.side)


class CroppedProposals(_View):
    """Every proposal that meets an object, as an image of its own with all its labels: DeconvNet's second stage.

    Parameters
    ----------
    dataset : Dataset
        With instance masks; all images are read, and searched, once, here.
    propose : callable or BoxFile
        What guesses the boxes; :class:`~upscore.proposals.cache.Kept` spares the search the
        next time. Or a file that has them by sample key.
    overlap : float
        Least intersection over union with the tight box of an object.
    enlarge, side, least_side, balanced, progress
        As :class:`CroppedObjects`; it is the proposal that is too small, and the class that is balanced is that of the object met best.

    Raises
    ------
    DataError
        An image has no instance mask, an object no class, or no proposal meets an object.
    """

    def __init__(
        self,
        dataset: Dataset,
        propose: Proposer | BoxFile,
        *,
        overlap: float = 0.5,
        enlarge: float = 1.2,
        side: int = SIDE,
        least_side: int = 1,
        balanced: bool = True,
        progress: Callable[[int], None] = lambda read: None,
    ) -> None:
        _check(side, enlarge, least_side)
        if not 0 < overlap <= 1:
            raise RecipeError(f"found overlap {overlap}, expected a share above 0 and up to 1")
        found = []
        for index in range(len(dataset)):
            sample = dataset[index]
            _, tight, classes = objects_of(sample, dataset.labels)
            if len(tight):
                height, width = sample.image.shape[:2]
                boxes = propose.boxes(sample.key, (height, width)) if isinstance(propose, BoxFile) else propose(sample.image)
                shared = pairwise_iou(boxes, tight)
                meeting = np.flatnonzero((shared.max(1) >= overlap) & _large(boxes, least_side))
                found.append(_Cuts.of(index, meeting, enlarge_boxes(boxes[meeting], enlarge), classes[shared[meeting].argmax(1)]))
            progress(index + 1)
        super().__init__(dataset, _Cuts.joined(found, balanced=balanced), "proposal", side)
        if not len(self):
            raise DataError(
                f"{dataset.name}: no proposal meets an object by {overlap:g} in {len(dataset)} images: make more, or ask for less"
            )

    def __getitem__(self, index: int) -> Sample:
        cuts = self._cuts
        sample = self.dataset[int(cuts.image[index])]
        assert sample.label is not None
        return _cut(self.keys[index], sample.image, sample.label, sample.instances, cuts.corners[index], self.side)


@dataclass(frozen=True)
class _Cuts:
    """What is cut: arrays, since there are millions of proposals."""

    image: npt.NDArray[np.int64]  # (N,)
    number: npt.NDArray[np.int64]  # (N,) of the object, or place of the proposal
    corners: npt.NDArray[np.int64]  # (N, 4)
    kind: npt.NDArray[np.int64]  # (N,) class that is balanced
    turn: npt.NDArray[np.int64]  # (N,) how often it came before

    @classmethod
    def of(cls, image: int, number: npt.NDArray[np.int64], boxes: Boxes, kind: npt.NDArray[np.int64]) -> _Cuts:
        return cls(np.full(len(boxes), image), number, boxes.corners, kind, np.zeros(len(boxes), np.int64))

    @classmethod
    def joined(cls, parts: Sequence[_Cuts], *, balanced: bool) -> _Cuts:
        """Return all of them in order, each as often in a row as its class needs."""
        if not parts:
            return cls.of(0, np.empty(0, np.int64), Boxes([]), np.empty(0, np.int64))
        joined = cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("image", "number", "corners", "kind", "turn")))
        if not balanced or not len(joined.kind):
            return joined
        counts = np.bincount(joined.kind)
        times = np.maximum(1, np.rint(np.median(counts[counts > 0]) / np.maximum(counts, 1)).astype(np.int64))[joined.kind]
        which = np.repeat(np.arange(len(times)), times)
        turn = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
        return cls(joined.image[which], joined.number[which], joined.corners[which], joined.kind[which], turn)


class _Keys(Sequence[str]):
    """The crops' keys, made when they are asked for: augmentation varies with them, so that a repeated crop is not the same twice."""

    def __init__(self, keys: Sequence[str], cuts: _Cuts, what: str) -> None:
        self._of, self._cuts, self._what = keys, cuts, what

    def __len__(self) -> int:
        return len(self._cuts.image)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # a sequence's two forms
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        cuts = self._cuts
        turn = f" again {cuts.turn[index]}" if cuts.turn[index] else ""
        return f"{self._of[int(cuts.image[index])]} {self._what} {cuts.number[index]}{turn}"


def _cut(
    key: str,
    image: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8],
    instances: npt.NDArray[np.integer] | None,
    corners: npt.NDArray[np.int64],
    side: int,
) -> Sample:
    """Cut one box out and resize it: colours smoothly, labels by their nearest pixel."""
    left, top, right, bottom = (int(corner) for corner in corners)
    height, width = label.shape
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    beyond = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    smooth = cv2.INTER_AREA if min(bottom - top, right - left) >= 2 * side else cv2.INTER_LINEAR

    def one(plane: npt.NDArray, fill: float, how: int) -> npt.NDArray:  # type: ignore[type-arg]  # of any type
        inside = cv2.copyMakeBorder(plane[rows, columns], *beyond, cv2.BORDER_CONSTANT, value=(fill,) * 3)
        return np.asarray(cv2.resize(inside, (side, side), interpolation=how))

    nearest = cv2.INTER_NEAREST_EXACT
    moved = None if instances is None else one(instances.astype(np.int32), 0, nearest)
    return Sample(key, one(image, 0, smooth), one(label, IGNORE, nearest), moved)


def _large(boxes: Boxes, least_side: int) -> npt.NDArray[np.bool_]:
    return np.asarray((boxes.corners[:, 2:] - boxes.corners[:, :2] >= least_side).all(1))


def _check(side: int, enlarge: float, least_side: int) -> None:
    if not isinstance(side, int) or not 1 <= side <= 16384:
        raise RecipeError(f"found crops of side {side}, expected 1 to 16384 pixels")
    if not 0.1 <= enlarge <= 10:
        raise RecipeError(f"found enlarge {enlarge}, expected 0.1 to 10")
    if not isinstance(least_side, int) or least_side < 1:
        raise RecipeError(f"found least_side {least_side}, expected a whole number of pixels from 1")
