"""Where the boxes come from by which an image is labelled: a file of them, a caller's own function, or a proposer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from upscore.errors import RecipeError
from upscore.proposals import BoxFile, CachedProposer, EdgeBoxes, Proposer, create_proposer, proposals_folder
from upscore.settings import ProposalSettings

__all__ = ["BoxSource"]


class BoxSource:
    """Gives each image what finds its boxes.

    Parameters
    ----------
    boxes : BoxFile or path, optional
        A file of them, by the images' names.
    propose : callable, optional
        Finds them, in place of the proposer that the settings name.
    edges : path, optional
        A structured-edge model of the caller's own, by which edge boxes are found.
    used : sequence of ProposalSettings
        Those of the networks that use proposals.

    Raises
    ------
    RecipeError, DataError
        More than one is given, or one where no network uses proposals; an edge model for another proposer, or one that cannot be read.
    """

    def __init__(
        self,
        boxes: BoxFile | str | os.PathLike[str] | None,
        propose: Proposer | None,
        edges: str | os.PathLike[str] | None,
        *,
        used: Sequence[ProposalSettings],
    ) -> None:
        given = sum(each is not None for each in (boxes, propose, edges))
        if given > 1:
            raise RecipeError("found several of boxes, a proposer that finds them, and its edge model: leave all but one out")
        if given and not used:
            raise RecipeError("found boxes, or what finds them, and no network that uses proposals: give proposals, a number of them")
        if edges is not None:
            if other := next((own.proposer for own in used if own.proposer != "edge-boxes"), None):
                raise RecipeError(f"found an edge model for boxes by {other}, which uses no edges: use proposer 'edge-boxes'")
            EdgeBoxes(model=os.fspath(edges))  # what cannot be read is an error now, and not at the first image
        self._boxes = boxes if isinstance(boxes, BoxFile) or boxes is None else BoxFile(Path(boxes))
        self._propose = propose
        self._model = {} if edges is None else {"model": os.fspath(edges)}

    def proposer(self, settings: ProposalSettings, name: str = "") -> Proposer:
        """Return what finds the boxes of the image ``name``; RecipeError where they are in a file, and the image has no name."""
        boxes = self._boxes
        if boxes is None:
            if self._propose is not None:
                return self._propose
            return CachedProposer(create_proposer(settings.proposer, **settings.proposer_settings() | self._model), proposals_folder())
        if not name:
            raise RecipeError(f"{boxes.path}: boxes of a file are found by an image's name, and this one has none: give name=")
        return lambda image: boxes.boxes(name, (image.shape[0], image.shape[1]))
