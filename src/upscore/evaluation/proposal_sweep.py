"""What proposals do: an image after one box, after five, after fifty; and its score over their number.

For every image of a split the canvas of the network that uses proposals is evaluated as it grows,
beside that network and the others on the whole image, all of them together, and the CRF.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, figures 1, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.errors import DataError, RecipeError
from upscore.evaluation.evaluate import checked_dataset, checked_truth
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.proposal_aggregation import ProposalSegmenter, boxes_for
from upscore.metrics import ConfusionMatrix
from upscore.proposals import Boxes
from upscore.types import LabelSpace, Sample

__all__ = ["COUNTS", "ProposalSweep", "SweepImage", "sweep_proposals"]

COUNTS = (1, 5, 10, 20, 50)
"""Numbers of boxes after which an image is evaluated: those of the paper's figure, and some between."""

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SweepImage:
    """One image, labelled in every way.

    Parameters
    ----------
    sample : Sample
        Image and truth.
    boxes : Boxes
        As they are cropped, best first; the image itself where none were found.
    found : bool
        Whether any were.
    grown : dict of int to (H, W) uint8
        Labels after so many boxes; of fewer boxes, after all of them.
    ways : dict of str to (H, W) uint8
        Labels by what gives them: each network on the whole image, the ensemble, the CRF.
    metrics : dict of str to float
        Mean IoU of this image by what was labelled so; of ``grown`` by the number, as text. nan where nothing is evaluated.
    """

    sample: Sample
    boxes: Boxes
    found: bool
    grown: dict[int, LabelMap]
    ways: dict[str, LabelMap]
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class ProposalSweep:
    """What was counted over all images.

    Parameters
    ----------
    labels : LabelSpace
        The classes.
    network : str
        Which network uses proposals.
    counts : tuple of int
        Numbers of boxes, ascending.
    matrices : dict of str to ConfusionMatrix
        By what was evaluated, as ``SweepImage.metrics``.
    images : int
        How many were evaluated.
    without : int
        Images in which no proposal was found.
    """

    labels: LabelSpace
    network: str
    counts: tuple[int, ...]
    matrices: dict[str, ConfusionMatrix]
    images: int
    without: int

    def mean_iou(self, what: str) -> float:
        """Return the mean IoU of a number of boxes, as text, or of a way; nan where nothing was evaluated."""
        return float(self.matrices[what].metrics().mean_iou)

    def curve(self) -> list[dict[str, float]]:
        """Return a row for each number of boxes: ``proposals`` and ``mean_iou``."""
        return [{"proposals": count, "mean_iou": self.mean_iou(str(count))} for count in self.counts]

    @property
    def all_boxes(self) -> str:
        """What the way is called that the last number of boxes is."""
        return _all_boxes(self.network, self.counts)

    @property
    def ways(self) -> list[str]:
        """What was evaluated besides numbers of boxes."""
        return [name for name in self.matrices if not name.isdecimal()]


def sweep_proposals(
    predictor: Predictor,
    dataset: Dataset,
    *,
    counts: Sequence[int] = COUNTS,
    show: Callable[[int, SweepImage], None] = lambda index, image: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProposalSweep:
    """Evaluate a predictor that uses proposals over their number.

    Parameters
    ----------
    predictor : Predictor
        At least one of its networks uses proposals; the first that does is evaluated.
    dataset : Dataset
        Images with truth.
    counts : sequence of int
        Numbers of boxes to evaluate after; those beyond what the predictor takes are left out, and that is added.
    show : callable
        Called with each image's number and what became of it.
    progress : callable
        Called with (images done, images in all).

    Raises
    ------
    RecipeError
        No network uses proposals, or a count is not positive.
    DataError, BundleError
        As :func:`upscore.evaluation.evaluate.evaluate`.
    """
    steps = _steps(predictor, counts)
    checked_dataset(dataset, predictor.labels)
    matrices: dict[str, ConfusionMatrix] = {}
    network, without = "", 0
    for index in range(len(dataset)):
        sample = dataset[index]
        truth = checked_truth(sample)
        grown = _label(predictor, sample, steps)
        network = grown.network
        metrics = {}
        for name, label_map in grown.label_maps():
            one = ConfusionMatrix(len(dataset.labels))
            try:
                one.add(truth, label_map)
            except DataError as error:
                raise DataError(f"{sample.key}: {error}") from None
            matrices[name] = matrices.get(name, ConfusionMatrix(len(dataset.labels))) + one
            metrics[name] = float(one.metrics().mean_iou)
        without += not grown.found
        show(index, SweepImage(sample, grown.boxes, grown.found, grown.grown, grown.ways, metrics))
        progress(index + 1, len(dataset))
    return ProposalSweep(dataset.labels, network, steps, matrices, len(dataset), without)


@dataclass(frozen=True, eq=False)
class _Labelled:
    network: str
    boxes: Boxes
    found: bool
    grown: dict[int, LabelMap]
    ways: dict[str, LabelMap]

    def label_maps(self) -> Iterator[tuple[str, LabelMap]]:
        yield from ((str(count), label_map) for count, label_map in self.grown.items())
        yield from self.ways.items()


def _label(predictor: Predictor, sample: Sample, counts: tuple[int, ...]) -> _Labelled:
    """Label an image in every way."""
    names = _names(predictor)
    first = next(i for i, member in enumerate(predictor.members) if member.proposals is not None)
    segmenter = predictor.member(first, name=sample.key)
    assert isinstance(segmenter, ProposalSegmenter)
    image = image_to_tensor(sample.image)
    boxes, found = boxes_for(image, segmenter.propose, segmenter.settings)
    canvases = dict(segmenter.grow(image, boxes, at=counts))
    maps = {count: canvas.argmax(0).byte().cpu().numpy() for count, canvas in canvases.items()}
    grown = {count: maps[min(count, len(boxes))] for count in counts}

    ways: dict[str, LabelMap] = {}
    for index, name in enumerate(names):
        if predictor.members[index].proposals is None or index == first:
            ways[f"{name}, whole image"] = predictor.alone(index).predict(sample.image).label_map
    boxed = _all_boxes(names[first], counts)
    ways[boxed] = grown[max(counts)]
    together = f"{len(names)} networks together" if len(names) > 1 else boxed
    known = predictor.with_canvas(first, canvases[len(boxes)])
    if predictor.settings.uses_crf:
        compared = known.compare(sample.image, name=sample.key)
        ways |= {together: compared.before.label_map, "with the CRF": compared.after.label_map}
    elif len(names) > 1:
        ways[together] = known.predict(sample.image, name=sample.key).label_map
    return _Labelled(names[first], boxes, found, grown, ways)


def _all_boxes(network: str, counts: tuple[int, ...]) -> str:
    return f"{network}, {max(counts)} proposals"


def _names(predictor: Predictor) -> list[str]:
    """Return what the networks are called: by their classes, numbered where two have the same."""
    kinds = [member.name for member in predictor.members]
    return [kind if kinds.count(kind) == 1 else f"{kind} {kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def _steps(predictor: Predictor, counts: Sequence[int]) -> tuple[int, ...]:
    proposals = predictor.settings.proposals
    if proposals is None:
        raise RecipeError("no network uses proposals: give --max-proposals 50, or an ensemble in which one does")
    if not counts or not all(isinstance(count, int) and count >= 1 for count in counts):
        raise RecipeError(f"found counts {list(counts)}, expected whole numbers of boxes from 1")
    return tuple(sorted({*(count for count in counts if count < proposals.max_proposals), proposals.max_proposals}))
