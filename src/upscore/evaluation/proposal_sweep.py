"""What proposals do: an image after one box, after five, after fifty; and its score over their number.

For every image of a split the canvas of the network that looks at proposals is evaluated as it grows,
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
from upscore.evaluation.checks import check_dataset, check_mask
from upscore.inference.averaging import tta
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.proposal_aggregation import boxes_for, scores_over_boxes
from upscore.metrics import ConfusionMatrix
from upscore.proposals import Boxes
from upscore.types import LabelSpace, Sample

__all__ = ["COUNTS", "ProposalSweep", "SweepImage", "sweep_proposals"]

COUNTS = (1, 5, 10, 20, 50)
"""After how many boxes an image is looked at: those of the paper's figure, and some between."""

LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SweepImage:
    """One image, labelled in every way.

    Parameters
    ----------
    sample : Sample
        Image and truth.
    boxes : Boxes
        As they are cut, best first; the image itself where none were found.
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
        Which network looks at proposals.
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
    """Evaluate a predictor that looks at proposals over their number.

    Parameters
    ----------
    predictor : Predictor
        At least one of its networks looks at proposals; the first that does is followed.
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
        No network looks at proposals, or a count is not positive.
    DataError, BundleError
        As :func:`upscore.evaluation.evaluate.evaluate`.
    """
    steps = _steps(predictor, counts)
    check_dataset(dataset, predictor.labels)
    matrices: dict[str, ConfusionMatrix] = {}
    network, without = "", 0
    for index in range(len(dataset)):
        sample = dataset[index]
        truth = check_mask(sample)
        grown = _look(predictor, sample, steps)
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
class _Looked:
    network: str
    boxes: Boxes
    found: bool
    grown: dict[int, LabelMap]
    ways: dict[str, LabelMap]

    def label_maps(self) -> Iterator[tuple[str, LabelMap]]:
        yield from ((str(count), label_map) for count, label_map in self.grown.items())
        yield from self.ways.items()


def _look(predictor: Predictor, sample: Sample, counts: tuple[int, ...]) -> _Looked:
    """Label an image in every way."""
    settings, names = predictor.settings, _names(predictor)
    first = next(i for i, member in enumerate(predictor.members) if member.proposals is not None)
    member, chosen = predictor.members[first], predictor.members[first].proposals
    assert chosen is not None
    image = image_to_tensor(sample.image)
    propose = predictor.proposer(chosen, sample.key)
    boxes, found = boxes_for(image, propose, most=max(counts), enlarge=chosen.enlarge, least_side=chosen.min_side)
    score = tta(member.network.scores, flips=settings.flips, scales=settings.scales)
    how = {"aggregate": chosen.aggregate, "clip": chosen.clip, "side": chosen.crop_side, "batch": chosen.batch_size}
    canvases = dict(scores_over_boxes(score, image, boxes, at=counts, **how))  # type: ignore[arg-type]  # each is checked there
    maps = {count: canvas.argmax(0).byte().cpu().numpy() for count, canvas in canvases.items()}
    grown = {count: maps[min(count, len(boxes))] for count in counts}

    ways: dict[str, LabelMap] = {}
    plain = settings.model_copy(update={"proposals": None, "crf": None})
    for one, name in zip(predictor.members, names, strict=True):
        if one.proposals is None or one is member:
            alone = Predictor.of(one.network.model, predictor.labels, settings=plain)
            ways[f"{name}, whole image"] = alone.predict(sample.image).label_map
    boxed = _all_boxes(names[first], counts)
    ways[boxed] = grown[max(counts)]
    together = f"{len(names)} networks together" if len(names) > 1 else boxed
    knowing = predictor.knowing(member, canvases[min(max(counts), len(boxes))])
    if settings.uses_crf:
        compared = knowing.compare(sample.image, name=sample.key)
        ways |= {together: compared.before.label_map, "with the CRF": compared.after.label_map}
    elif len(names) > 1:
        ways[together] = knowing.predict(sample.image, name=sample.key).label_map
    return _Looked(names[first], boxes, found, grown, ways)


def _all_boxes(network: str, counts: tuple[int, ...]) -> str:
    return f"{network}, {max(counts)} proposals"


def _names(predictor: Predictor) -> list[str]:
    """Return what the networks are called: by their classes, numbered where two have the same."""
    kinds = [type(member.network.model).__name__ for member in predictor.members]
    return [kind if kinds.count(kind) == 1 else f"{kind} {kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def _steps(predictor: Predictor, counts: Sequence[int]) -> tuple[int, ...]:
    proposals = predictor.settings.proposals
    if proposals is None:
        raise RecipeError("no network looks at proposals: give --max-proposals 50, or an ensemble in which one does")
    if not counts or not all(isinstance(count, int) and count >= 1 for count in counts):
        raise RecipeError(f"found counts {list(counts)}, expected whole numbers of boxes from 1")
    return tuple(sorted({*(count for count in counts if count < proposals.max_proposals), proposals.max_proposals}))
