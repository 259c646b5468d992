"""Mean IoU over the number of proposals: after one box, after five, after fifty.

For every image of a split, the scores of the network that uses proposals are evaluated after each number of boxes,
beside that network and the others on the whole image, the ensemble, and the CRF.

Noh, Hong and Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015, figures 1, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, read_as
from upscore.data.truth_checks import check_dataset, check_mask
from upscore.errors import DataError, RecipeError
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
    """One image, predicted after each number of boxes and in each other inference mode."""

    sample: Sample
    displayed: npt.NDArray[np.uint8]  #: (H, W, 3), its image as the bands are displayed
    boxes: Boxes  #: the crops, best first; the image itself where no proposal was found
    has_proposals: bool
    by_count: dict[int, LabelMap]  #: labels after so many boxes; where there are fewer, after all of them
    by_mode: dict[str, LabelMap]  #: of each network on the whole image, all boxes, the ensemble, the CRF
    mean_iou: dict[str, float] = field(default_factory=dict)
    """Of this image, by the number of boxes as text and by mode; nan where every pixel is ignored."""

    def label_maps(self) -> dict[str, LabelMap]:
        """Return all label maps, by the number of boxes as text and by mode."""
        return {str(count): label_map for count, label_map in self.by_count.items()} | self.by_mode


@dataclass(frozen=True, eq=False)
class ProposalSweep:
    """The confusion matrices over all images."""

    labels: LabelSpace
    network: str  #: the name of the network that uses proposals
    counts: tuple[int, ...]  #: numbers of boxes, ascending
    matrices: dict[str, ConfusionMatrix]  #: by the number of boxes as text, and by mode
    images: int
    without_proposals: int  #: images in which no proposal was found

    def mean_iou(self, name: str) -> float:
        """Return the mean IoU after a number of boxes, given as text, or of a mode; nan where nothing was evaluated."""
        return float(self.matrices[name].metrics().mean_iou)

    def curve(self) -> list[dict[str, float]]:
        """Return a row for each number of boxes: ``proposals`` and ``mean_iou``."""
        return [{"proposals": count, "mean_iou": self.mean_iou(str(count))} for count in self.counts]

    @property
    def modes(self) -> list[str]:
        """The inference modes besides the numbers of boxes; the last number of boxes is the curve's last point."""
        return [name for name in self.matrices if not name.isdecimal() and name != _all_boxes(self.network, self.counts)]


def sweep_proposals(
    predictor: Predictor,
    dataset: Dataset,
    *,
    counts: Sequence[int] = COUNTS,
    show: Callable[[int, SweepImage], None] = lambda index, image: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProposalSweep:
    """Evaluate a predictor that uses proposals over their number, on images with truth.

    At least one of its networks uses proposals; the first of these is swept. Of ``counts``, those above the predictor's
    ``max_proposals`` are left out, and that number is added. ``show`` is called with each image's index and its predictions, ``progress``
    with (images done, images in total). Raises RecipeError where no network uses proposals or a count is not positive, and DataError and
    BundleError as :func:`upscore.evaluation.evaluate.evaluate`.
    """
    counts = _checked_counts(predictor, counts)
    check_dataset(dataset, predictor.labels)
    dataset = read_as(dataset, predictor.input)
    first = next(i for i, member in enumerate(predictor.members) if member.proposals is not None)
    names = _member_names(predictor)
    matrices: dict[str, ConfusionMatrix] = {}
    without_proposals = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        truth = check_mask(sample)
        image = _predict_modes(predictor, sample, counts, first, names)
        for name, label_map in image.label_maps().items():
            matrix = ConfusionMatrix(len(dataset.labels))
            try:
                matrix.add(truth, label_map)
            except DataError as error:
                raise DataError(f"{sample.key}: {error}") from None
            matrices[name] = matrices.get(name, ConfusionMatrix(len(dataset.labels))) + matrix
            image.mean_iou[name] = float(matrix.metrics().mean_iou)
        without_proposals += not image.has_proposals
        show(index, image)
        progress(index + 1, len(dataset))
    return ProposalSweep(dataset.labels, names[first], counts, matrices, len(dataset), without_proposals)


def _predict_modes(predictor: Predictor, sample: Sample, counts: tuple[int, ...], first: int, names: list[str]) -> SweepImage:
    """Predict an image after each number of boxes of the member ``first``, and in each other inference mode."""
    segmenter = predictor.member(first, name=sample.key)
    assert isinstance(segmenter, ProposalSegmenter)
    image = image_to_tensor(sample.image)
    boxes, has_proposals = boxes_for(image, segmenter.propose, segmenter.settings, predictor.input)
    canvases = dict(segmenter.grow(image, boxes, at=counts))
    maps = {count: canvas.argmax(0).byte().cpu().numpy() for count, canvas in canvases.items()}
    by_count = {count: maps[min(count, len(boxes))] for count in counts}

    by_mode: dict[str, LabelMap] = {}
    for index, name in enumerate(names):
        if predictor.members[index].proposals is None or index == first:
            by_mode[f"{name}, whole image"] = predictor.alone(index).predict(sample.image).label_map
    all_boxes = _all_boxes(names[first], counts)
    by_mode[all_boxes] = by_count[max(counts)]
    ensemble = f"ensemble of {len(names)} networks" if len(names) > 1 else all_boxes
    known = predictor.with_canvas(first, canvases[len(boxes)])
    if predictor.settings.uses_crf:
        compared = known.compare(sample.image, name=sample.key)
        by_mode |= {ensemble: compared.before.label_map, "with the CRF": compared.after.label_map}
    elif len(names) > 1:
        by_mode[ensemble] = known.predict(sample.image, name=sample.key).label_map
    return SweepImage(sample, predictor.input.display(sample.image), boxes, has_proposals, by_count, by_mode)


def _all_boxes(network: str, counts: tuple[int, ...]) -> str:
    return f"{network}, {max(counts)} proposals"


def _member_names(predictor: Predictor) -> list[str]:
    """Return the names of the networks: their classes, numbered where two are the same."""
    names = [member.name for member in predictor.members]
    return [name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}" for i, name in enumerate(names)]


def _checked_counts(predictor: Predictor, counts: Sequence[int]) -> tuple[int, ...]:
    proposals = predictor.settings.proposals
    if proposals is None:
        raise RecipeError("no network uses proposals: give --max-proposals 50, or an ensemble in which one does")
    if not counts or not all(isinstance(count, int) and count >= 1 for count in counts):
        raise RecipeError(f"found counts {list(counts)}, expected whole numbers of boxes from 1")
    return tuple(sorted({*(count for count in counts if count < proposals.max_proposals), proposals.max_proposals}))
