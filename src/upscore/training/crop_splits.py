"""Splits of object or proposal crops instead of whole images, as a ``[crops]`` section describes them.

Validation images are cropped in the same way, without repeating rare classes and up to
:data:`MAX_VALIDATED`, so that training is validated on what it learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upscore.data.dataset import Dataset
from upscore.data.dataset_statistics import DatasetStatistics
from upscore.data.mask_check import inspect_dataset
from upscore.data.object_crops import CroppedObjects, CroppedProposals
from upscore.data.selection import thin
from upscore.errors import RecipeError
from upscore.proposals import BoxFile, CachedProposer, Proposer, create_proposer, proposals_folder
from upscore.settings.proposals import EDGE_BOXES
from upscore.training.recipe_sections import CropsSection

__all__ = ["MAX_VALIDATED", "CroppedSplits", "count_crops", "crop_splits"]

MAX_VALIDATED = 2000
"""Largest number of crops that a validation evaluates and a census reads: a subset spread evenly over all."""


@dataclass(frozen=True)
class CroppedSplits:
    """The two splits that a network is trained and validated on, and what a user should know of them."""

    train: Dataset
    val: Dataset
    messages: tuple[str, ...] = ()


def crop_splits(
    settings: CropsSection, train: Dataset, val: Dataset, *, progress: Callable[[int], None] = lambda read: None
) -> CroppedSplits:
    """Return both splits of whole images as the ``[crops]`` section describes them.

    ``progress`` is called with the number of images read so far. Raises RecipeError for settings that contradict one another, and
    DataError as :class:`~upscore.data.object_crops.CroppedObjects` and :class:`~upscore.data.object_crops.CroppedProposals` do, or where
    a file of boxes or an edge model cannot be read.
    """
    _check(settings)
    if settings.of == "images":
        return CroppedSplits(train, val)
    crops = _crop(settings, train, balanced=settings.balanced, progress=progress)
    trained = f"trains on {len(crops):,} crops around {settings.of} of {len(train):,} images"
    if val[0].instances is None:
        return CroppedSplits(
            crops, val, (trained, f"{val.split}: has no instance masks: validated on whole images, which it does not train on")
        )
    validated = _crop(settings, val, balanced=False, progress=lambda read: progress(len(train) + read))
    return CroppedSplits(
        crops, thin(validated, MAX_VALIDATED), (trained, "mean IoU during training is that of such crops, not of whole images")
    )


def count_crops(crops: Dataset) -> DatasetStatistics:
    """Return the census of crops, of which up to :data:`MAX_VALIDATED` are read."""
    counted = inspect_dataset(thin(crops, MAX_VALIDATED))
    return replace(counted, images=len(crops), sizes=np.full((len(crops), 2), counted.median))


def _crop(settings: CropsSection, dataset: Dataset, **options: Any) -> Dataset:
    options |= {"enlarge": settings.enlarge, "side": settings.side, "min_side": settings.min_side}
    if settings.of == "objects":
        return CroppedObjects(dataset, background=settings.background, **options)
    return CroppedProposals(dataset, _box_source(settings), min_overlap=settings.min_overlap, **options)


def _box_source(settings: CropsSection) -> Proposer | BoxFile:
    if settings.boxes:
        return BoxFile(settings.boxes)
    own: dict[str, Any] = {name: getattr(settings, name) for name in EDGE_BOXES} if settings.proposer == "edge-boxes" else {}
    own |= {"model": settings.edges} if settings.edges else {}
    return CachedProposer(create_proposer(settings.proposer, max_proposals=settings.max_proposals, **own), proposals_folder())


def _check(settings: CropsSection) -> None:
    if settings.boxes and settings.edges:
        raise RecipeError("crops.boxes and crops.edges are both set: boxes of a file need no edges, leave one out")
    if settings.edges and settings.proposer != "edge-boxes":
        raise RecipeError(
            f"crops.edges is set for boxes by {settings.proposer}, which uses no edges: set crops.proposer = 'edge-boxes' or leave it out"
        )
    own = {name: type(settings).model_fields[name].default for name in EDGE_BOXES}
    if (settings.proposer != "edge-boxes" or settings.boxes) and (given := [name for name in own if getattr(settings, name) != own[name]]):
        raise RecipeError(f"crops.{given[0]} is set, which only edge-boxes reads: set crops.proposer = 'edge-boxes' or leave it out")
    if settings.of != "proposals" and (settings.boxes or settings.edges):
        name = "crops.boxes" if settings.boxes else "crops.edges"
        raise RecipeError(f"{name} is set, and there are no crops around proposals: set crops.of = 'proposals' or leave it out")
