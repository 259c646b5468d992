"""One pass of a network over the masks of a dataset: which images and regions have doubtful labels, the worst first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset, read_as
from upscore.data.finding import SampleName
from upscore.data.overlap import dataset_identity
from upscore.data.pixel_digests import digest_image, read_digests
from upscore.data.truth_checks import check_classes, check_mask
from upscore.errors import DataError, UpscoreError
from upscore.inference.predictor import Predictor
from upscore.inference.sources import ArraySource
from upscore.review.border_bias import MAX_DISTANCE, border_distances, median_distance
from upscore.review.doubt import Doubt, GivenSink, combined_doubt, measure_doubt
from upscore.review.regions import DoubtfulRegion, find_regions, ranked
from upscore.text import listed
from upscore.types import IGNORE, Sample

__all__ = ["MIN_DOUBT", "LabelReview", "ReviewedImage", "predict_given", "review_labels"]


MIN_DOUBT = 2.0
"""The doubt from which a mask is reported though none of its regions is doubtful: it is along its borders, as of shifted masks."""


@dataclass(frozen=True, eq=False)
class ReviewedImage:
    """One image as a network sees its mask."""

    name: SampleName  #: split and key
    index: int  #: in its split
    doubt: float  #: of its mask beside the others, as :func:`upscore.review.doubt.combined_doubt`; NaN where all of it is ignored
    regions: tuple[DoubtfulRegion, ...] = ()  #: those that are doubtful, with the most evidence first
    trained_on: bool = False  #: whether the network was trained on it


@dataclass(frozen=True, eq=False)
class LabelReview:
    """What a network says of the masks of a dataset."""

    predictor: Predictor
    splits: Mapping[str, Dataset]  #: read as the network takes images
    images: tuple[ReviewedImage, ...]  #: those with the most doubtful masks first
    thresholds: tuple[float, ...]  #: for each class, the mean probability of it where it is the label; NaN where it never is
    #: for each class and split, by how many pixels its borders lie outside the predicted ones; the median
    border_bias: Mapping[tuple[str, int], float] = field(default_factory=dict)
    left_out: tuple[SampleName, ...] = ()  #: images that were not examined, since the network was trained on them
    messages: tuple[str, ...] = ()
    min_doubt: float = MIN_DOUBT

    @property
    def regions(self) -> list[tuple[ReviewedImage, DoubtfulRegion]]:
        """All doubtful regions with their images, those with the most evidence first."""
        every = [(image, region) for image in self.images for region in image.regions]
        return sorted(every, key=lambda pair: -pair[1].evidence)

    @property
    def doubtful(self) -> list[ReviewedImage]:
        """The images whose masks are doubtful, though none of their regions is; the most doubtful first."""
        return [image for image in self.images if not image.regions and image.doubt >= self.min_doubt]

    def sample(self, image: ReviewedImage) -> Sample:
        """Read an image and its mask again."""
        return self.splits[image.name[0]][image.index]


def predict_given(predictor: Predictor, sample: Sample) -> GivenSink:
    """Return what a network says of a sample's mask; its probabilities of other classes are never all in memory.

    DataError where there is no mask of the image's size.
    """
    sink = GivenSink(check_mask(sample))
    predictor.segment(ArraySource(sample.image, sample.key, spec=predictor.input), [sink])
    return sink


def review_labels(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    *,
    include_trained: bool = False,
    digests: Mapping[SampleName, bytes] | None = None,
    unreadable: frozenset[SampleName] = frozenset(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabelReview:
    """Rank the images and regions of splits by how doubtful their labels are, given a trained network; one image is in memory at a time.

    A network repeats the labels that it was trained on, wrong ones too. Such images are left out; they are known by the digests of their
    pixels in the bundle's card, or, in a bundle without digests, by their split.

    A region is doubtful where at least half of its pixels are predicted as a class with no less than that class's usual probability, its
    mean where it is the label (Northcutt et al., JAIR 2021, §3.1), so that classes that a network is never sure of are found too.

    Parameters
    ----------
    predictor : Predictor
        The network.
    datasets : sequence of Dataset
        Splits with masks.
    include_trained : bool
        Also examine images that the network was trained on.
    digests : mapping, optional
        Digests of images that are known already, by split and key.
    unreadable : set of (str, str)
        Samples that cannot be read, which are left out.
    progress : callable
        Called with (images examined, number of images).

    Raises
    ------
    BundleError
        The network's classes are not the dataset's.
    DataError
        No image can be examined: the network was trained on all of them, or its images have other bands.
    """
    splits: dict[str, Dataset] = {}
    for dataset in datasets:
        check_classes(dataset, predictor.labels)
        splits[dataset.split] = read_as(dataset, predictor.input)
    trained, messages = _find_trained(predictor, splits, digests or {}, unreadable)
    names = [(split, key) for split, dataset in splits.items() for key in dataset.keys]
    left_out = () if include_trained else tuple(name for name in names if name in trained)
    skipped = {*left_out, *unreadable}
    chosen = [name for name in names if name not in skipped]
    if not chosen:
        what = "holds no image that can be read" if not left_out else (
            f"the network was trained on all {len(left_out)} images, and repeats their labels, wrong ones too: give other splits, or "
            "rank them all the same with --include-trained"
        )  # fmt: skip
        raise DataError(f"{datasets[0].name if datasets else 'the dataset'}: {what}")
    tally = _Tally(len(predictor.labels))
    indices = {(split, key): index for split, dataset in splits.items() for index, key in enumerate(dataset.keys)}
    failed: list[UpscoreError] = []
    for done, name in enumerate(chosen, start=1):
        try:
            sample = splits[name[0]][indices[name]]
            tally.add(name, indices[name], predict_given(predictor, sample), name in trained)
        except DataError as error:
            failed.append(error)
        progress(done, len(chosen))
    if not tally.images:
        raise failed[0]
    if failed:
        messages.append(f"{len(failed)} of {len(chosen)} images could not be examined with the network, first {failed[0]}")
    return tally.review(predictor, splits, left_out, messages)


class _Tally:
    """What is known of the images examined so far."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.images: list[ReviewedImage] = []
        self.measured: list[Doubt | None] = []
        self.sums, self.counts = np.zeros(classes), np.zeros(classes, np.int64)
        self.distances: dict[str, npt.NDArray[np.int64]] = {}

    def add(self, name: SampleName, index: int, given: GivenSink, trained: bool) -> None:
        """Count one image."""
        label, known = given.label, given.label != IGNORE
        probs = given.given_probs[known].astype(np.float64)
        self.sums += np.bincount(label[known], weights=probs, minlength=self.classes)[: self.classes]
        self.counts += np.bincount(label[known], minlength=self.classes)[: self.classes]
        distances = border_distances(label, given.predicted, self.classes)
        self.distances[name[0]] = self.distances.get(name[0], 0) + distances
        regions = find_regions(label, given.predicted, given.given_probs, given.predicted_probs)
        self.measured.append(measure_doubt(label, given.predicted, given.given_probs))
        self.images.append(ReviewedImage(name, index, math.nan, tuple(regions), trained))

    def review(
        self, predictor: Predictor, splits: Mapping[str, Dataset], left_out: tuple[SampleName, ...], messages: Sequence[str]
    ) -> LabelReview:
        """Return the review, with the regions that are doubtful by the thresholds that are known now."""
        thresholds = np.divide(self.sums, self.counts, out=np.full(self.classes, np.nan), where=self.counts > 0)
        usual = float(self.sums.sum() / max(1, self.counts.sum()))
        images = [
            replace(
                image,
                doubt=doubt,
                regions=tuple(
                    region for region in ranked(image.regions)
                    if region.confident_fraction(min(1.0, float(np.nan_to_num(thresholds[region.predicted], nan=usual)))) >= 0.5
                ),
            )
            for image, doubt in zip(self.images, combined_doubt(self.measured).tolist(), strict=True)
        ]  # fmt: skip
        bias = {
            (split, label_class): median
            for split, histograms in self.distances.items()
            for label_class, histogram in enumerate(histograms)
            if not math.isnan(median := median_distance(histogram))
        }
        assert all(abs(value) <= MAX_DISTANCE for value in bias.values())
        images.sort(key=lambda image: (-np.nan_to_num(image.doubt, nan=-np.inf), image.name))
        return LabelReview(predictor, splits, tuple(images), tuple(thresholds.tolist()), bias, left_out, tuple(messages))


def _find_trained(
    predictor: Predictor, splits: Mapping[str, Dataset], known: Mapping[SampleName, bytes], unreadable: frozenset[SampleName]
) -> tuple[set[SampleName], list[str]]:
    """Return the samples that a network was trained on, as far as its cards tell, and what a user should know of that."""
    trained_digests = frozenset[bytes]().union(*map(read_digests, predictor.cards))
    trained: set[SampleName] = set()
    for split, dataset in splits.items() if trained_digests else ():
        for index, key in enumerate(dataset.keys):
            name = split, key
            if name not in unreadable and (known.get(name) or _digest(dataset, index)) in trained_digests:
                trained.add(name)
    described = [data for card in predictor.cards if isinstance(data := card.get("data"), Mapping)]
    identities = {data.get("identity") for data in described} - {None}
    whole = {split for split, dataset in splits.items() if identities and dataset_identity(dataset) in identities}
    is_recorded = bool(trained_digests or identities)
    if not is_recorded:
        whole = {split for split in splits if split.lower().startswith("train")}
    trained |= {(split, key) for split in whole for key in splits[split].keys}
    messages = []
    if not is_recorded:
        by_name = f"the split {listed(sorted(whole))} is taken for those" if whole else "all images are taken for others"
        messages.append(f"{predictor.source} does not record which images it was trained on: {by_name}")
    return trained, messages


def _digest(dataset: Dataset, index: int) -> bytes:
    try:
        return digest_image(dataset, index)
    except UpscoreError:
        return b""
