"""Evaluation does not depend on order, shards or who counts; a perfect labeller is perfect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.evaluation.evaluate import evaluate
from upscore.evaluation.result import merge_evaluations
from upscore.types import LabelSpace, Prediction, Sample

LABELS = LabelSpace(("a", "b", "c"))


class Drawn:
    """Random images whose red channel is the truth (times 50) with some of it ignored."""

    name, split, labels, warnings = "drawn", "val", LABELS, ()

    def __init__(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        self.samples = []
        for i in range(count):
            truth = rng.integers(0, 3, rng.integers(1, 9, 2)).astype(np.uint8)
            image = rng.integers(0, 256, (*truth.shape, 3), dtype=np.uint8)
            image[..., 0] = truth * 50
            truth[rng.random(truth.shape) < 0.2] = 255
            self.samples.append(Sample(f"k{i}", image, truth))

    @property
    def keys(self) -> list[str]:
        return [sample.key for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class Reader:
    """Reads the truth from the red channel, and mistakes it where green is below ``doubt``."""

    labels = LABELS

    def __init__(self, doubt: int = 0) -> None:
        self.doubt = doubt

    def predict(self, image: np.ndarray) -> Prediction:
        label_map = image[..., 0] // 50
        return Prediction(np.where(image[..., 1] < self.doubt, (label_map + 1) % 3, label_map).astype(np.uint8), LABELS)


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 7))


@given(case=cases, doubt=st.integers(0, 255), world=st.integers(1, 9))
@settings(deadline=None)
def test_shards_add_up_to_the_whole(case: tuple[int, int], doubt: int, world: int) -> None:
    dataset = Drawn(*case)
    whole = evaluate(Reader(doubt), dataset)
    shards = [evaluate(Reader(doubt), dataset, shard=(rank, world)) for rank in range(world)]
    merged = merge_evaluations(shards)
    assert replace(merged, seconds=0).as_dict() == replace(whole, seconds=0).as_dict()
    assert merge_evaluations(shards[::-1]).matrix == whole.matrix


@given(case=cases, doubt=st.integers(0, 255))
@settings(deadline=None)
def test_counts_of_images_add_up_to_the_confusion_matrix(case: tuple[int, int], doubt: int) -> None:
    evaluation = evaluate(Reader(doubt), Drawn(*case))
    of_truth, predicted, correct = sum(image.counts for image in evaluation.images)
    matrix = evaluation.matrix.counts
    assert (of_truth == matrix.sum(1)).all()
    assert (predicted == matrix.sum(0)).all()
    assert (correct == matrix.diagonal()).all()
    for image in evaluation.images:
        mean = np.nanmean(image.class_iou) if image.counts.any() else np.nan
        np.testing.assert_allclose(mean, image.mean_iou, rtol=1e-12)


@given(case=cases, doubt=st.integers(0, 255), order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_changes_neither_scores_nor_fingerprint(case: tuple[int, int], doubt: int, order: object) -> None:
    dataset = Drawn(*case)
    first = evaluate(Reader(doubt), dataset)
    order.shuffle(dataset.samples)
    second = evaluate(Reader(doubt), dataset)
    assert first.matrix == second.matrix
    assert first.fingerprint == second.fingerprint
    assert sorted(first.ranked(), key=lambda row: row.key) == sorted(second.ranked(), key=lambda row: row.key)


@given(case=cases, doubt=st.integers(0, 255))
@settings(deadline=None)
def test_counts_are_those_of_a_plain_loop(case: tuple[int, int], doubt: int) -> None:
    dataset = Drawn(*case)
    counts = np.zeros((3, 3), np.int64)
    for sample in dataset.samples:
        for truth, predicted in zip(sample.label.ravel(), Reader(doubt).predict(sample.image).label_map.ravel(), strict=True):
            if truth != 255:
                counts[truth, predicted] += 1
    evaluation = evaluate(Reader(doubt), dataset)
    np.testing.assert_array_equal(evaluation.matrix.counts, counts)
    for row, sample in zip(evaluation.images, dataset.samples, strict=True):
        valid = sample.label != 255
        right = (Reader(doubt).predict(sample.image).label_map == sample.label)[valid]
        np.testing.assert_allclose(row.pixel_accuracy, right.mean() if valid.any() else np.nan)
        assert row.ignored == (~valid).mean()


@given(case=cases)
@settings(deadline=None)
def test_a_perfect_labeller_is_perfect(case: tuple[int, int]) -> None:
    evaluation = evaluate(Reader(), Drawn(*case))
    if evaluation.matrix.counts.sum():
        assert evaluation.metrics.mean_iou == evaluation.metrics.pixel_accuracy == 1
    assert all(row.mean_iou == 1 for row in evaluation.ranked())


@given(case=cases, pick=st.integers(0, 100), channel=st.integers(0, 3))
@settings(deadline=None)
def test_the_fingerprint_sees_every_change(case: tuple[int, int], pick: int, channel: int) -> None:
    dataset = Drawn(*case)
    before = evaluate(Reader(), dataset).fingerprint
    index = pick % len(dataset)
    if channel == 3:
        label = dataset.samples[index].label
        label[0, 0] = (label[0, 0] + 1) % 3 if label[0, 0] != 255 else 0
    else:
        dataset.samples[index].image[0, 0, channel] ^= 1
    assert evaluate(Reader(), dataset).fingerprint != before
