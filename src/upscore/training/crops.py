"""What a training image is: an image, a cut around an object, or one around a proposal.

Images to validate on are cut in the same way, without repeating rare classes and at most
:data:`MOST_JUDGED` of them, so that what is evaluated is what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upscore.data.census import Census, take_census
from upscore.data.dataset import Dataset
from upscore.data.object_crops import CroppedObjects, CroppedProposals
from upscore.errors import RecipeError
from upscore.proposals import BoxFile, CachedProposer, EdgeBoxes, Proposer, create_proposer, proposals_folder
from upscore.training.recipe import CropsSection
from upscore.types import Sample

__all__ = ["MOST_JUDGED", "Cropped", "Subset", "count_crops", "cropped"]

MOST_JUDGED = 2000
"""Cuts that are evaluated in a validation, and counted in a census, at most: they are thinned evenly."""


@dataclass(frozen=True)
class Cropped:
    """A dataset's two parts as a network learns from them, and what a user should know of it."""

    train: Dataset
    val: Dataset
    warnings: tuple[str, ...] = ()


class Subset:
    """A dataset of at most ``most`` samples of another one, evenly spread over it."""

    def __init__(self, dataset: Dataset, most: int) -> None:
        self.dataset = dataset
        self._kept = np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(int)
        self.name, self.split, self.labels, self.warnings = dataset.name, dataset.split, dataset.labels, dataset.warnings
        self.keys: Sequence[str] = [dataset.keys[int(index)] for index in self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self._kept[index])]


def cropped(settings: CropsSection, train: Dataset, val: Dataset, *, progress: Callable[[int], None] = lambda read: None) -> Cropped:
    """Return both parts of a dataset as the ``[crops]`` section has them.

    Parameters
    ----------
    settings : CropsSection
        What is cut, and how.
    train, val : Dataset
        Whole images.
    progress : callable, optional
        Called with the number of images read so far.

    Raises
    ------
    DataError
        As :class:`~upscore.data.object_crops.CroppedObjects` and :class:`~upscore.data.object_crops.CroppedProposals`; a file of boxes or
        an edge model cannot be read.
    RecipeError
        Settings that contradict one another.
    """
    _check(settings)
    if settings.of == "images":
        return Cropped(train, val)
    view = _objects if settings.of == "objects" else _proposals
    learned = view(settings, train, balanced=settings.balanced, progress=progress)
    what = f"learns from {len(learned):,} cuts around {settings.of} of {len(train):,} images"
    if val[0].instances is None:
        return Cropped(learned, val, (what, f"{val.split}: has no instance masks: evaluated on whole images, which it does not learn from"))
    evaluated = view(settings, val, balanced=False, progress=lambda read: progress(len(train) + read))
    return Cropped(learned, Subset(evaluated, MOST_JUDGED), (what, "mean IoU while it trains is that of such cuts, not of whole images"))


def count_crops(view: Dataset) -> Census:
    """Return the census of cuts, of which at most :data:`MOST_JUDGED` are looked at."""
    counted = take_census(Subset(view, MOST_JUDGED))
    return replace(counted, images=len(view), sizes=np.full((len(view), 2), counted.median))


def _objects(settings: CropsSection, dataset: Dataset, **how: Any) -> Dataset:
    return CroppedObjects(dataset, background=settings.background, **_shape(settings), **how)


def _proposals(settings: CropsSection, dataset: Dataset, **how: Any) -> Dataset:
    return CroppedProposals(dataset, _source(settings), min_overlap=settings.overlap, **_shape(settings), **how)


def _shape(settings: CropsSection) -> dict[str, Any]:
    return {"enlarge": settings.enlarge, "side": settings.side, "min_side": settings.least_side}


def _source(settings: CropsSection) -> Proposer | BoxFile:
    if settings.boxes:
        return BoxFile(settings.boxes)
    propose = (
        EdgeBoxes(max_proposals=settings.most, model=settings.edges)
        if settings.edges
        else create_proposer(settings.by, max_proposals=settings.most)
    )
    return CachedProposer(propose, proposals_folder())


def _check(settings: CropsSection) -> None:
    if settings.boxes and settings.edges:
        raise RecipeError("crops.boxes and crops.edges are both set: boxes of a file need no edges, leave one out")
    if settings.edges and settings.by != "edge-boxes":
        raise RecipeError(
            f"crops.edges is set for boxes by {settings.by}, which uses no edges: set crops.by = 'edge-boxes' or leave it out"
        )
    if settings.of != "proposals" and (settings.boxes or settings.edges):
        name = "crops.boxes" if settings.boxes else "crops.edges"
        raise RecipeError(f"{name} is set, and nothing is cut around proposals: set crops.of = 'proposals' or leave it out")
