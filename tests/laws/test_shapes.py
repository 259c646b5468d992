"""Laws of the generated dataset: random access, exact labels, worth learning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscore.data.readers.shapes import SHAPES_LABELS, open_shapes, shapes_splits
from upscore.errors import DataError


@settings(max_examples=15, deadline=None)
@given(split=st.sampled_from(shapes_splits()), seed=st.integers(0, 99), index=st.integers(0, 19), height=st.integers(32, 90))
def test_a_sample_is_a_function_of_seed_split_index_and_size(split: str, seed: int, index: int, height: int) -> None:
    first = open_shapes(split, size=(height, 48), count=20, seed=seed)
    second = open_shapes(split, size=(height, 48), count=index + 1, seed=seed)
    second[0]  # whatever was read before must not matter
    a, b = first[index], second[index]
    assert a.key == b.key == first.keys[index]
    for one, other in ((a.image, b.image), (a.label, b.label), (a.instances, b.instances)):
        assert np.array_equal(one, other)  # type: ignore[arg-type]
    assert a.image.shape == (height, 48, 3)
    assert a.image.dtype == np.uint8
    assert a.label is not None
    assert a.label.dtype == np.uint8
    assert a.label.max() < len(SHAPES_LABELS)


def test_seeds_and_splits_share_nothing() -> None:
    images = [
        open_shapes(split, size=(32, 32), count=5, seed=seed)[i].image for split in shapes_splits() for seed in (0, 1) for i in range(5)
    ]
    assert len({image.tobytes() for image in images}) == len(images)


def test_instances_and_classes_agree() -> None:
    for sample in open_shapes("train", count=20):
        assert sample.instances is not None
        assert np.array_equal(sample.instances == 0, sample.label == 0)
        for number in np.unique(sample.instances):
            assert len(np.unique(sample.label[sample.instances == number])) == 1  # type: ignore[index]


def test_every_class_appears_in_every_size_and_the_ground_does_not_drown_them() -> None:
    areas: dict[int, list[int]] = {label: [] for label in range(1, len(SHAPES_LABELS))}
    ground = []
    for sample in open_shapes("train", count=80):
        assert sample.label is not None
        assert sample.instances is not None
        ground.append(float((sample.label == 0).mean()))
        for number in np.unique(sample.instances)[1:]:
            inside = sample.instances == number
            areas[int(sample.label[inside][0])].append(int(inside.sum()))
    assert 0.5 < np.mean(ground) < 0.85
    for label, found in areas.items():
        assert len(found) > 60, SHAPES_LABELS.names[label]
        assert min(found) < 30, SHAPES_LABELS.names[label]
        assert max(found) > 400, SHAPES_LABELS.names[label]


def test_colour_hints_at_the_class_and_does_not_tell_it() -> None:
    # The best guess from the colour of a pixel alone, learnt on some images and evaluated on others,
    # finds next to no object; told where objects are, it names three of four.
    def colours(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        dataset = open_shapes("train", count=last)
        samples = [dataset[i] for i in range(first, last)]
        codes = np.concatenate([(sample.image.reshape(-1, 3) >> 5).astype(int) @ [64, 8, 1] for sample in samples])
        return codes, np.concatenate([sample.label.ravel() for sample in samples])  # type: ignore[union-attr]

    codes, labels = colours(0, 100)
    table = np.zeros((512, len(SHAPES_LABELS)), int)
    np.add.at(table, (codes, labels), 1)
    codes, labels = colours(100, 160)
    guess = table.argmax(axis=1)[codes]
    ious = [((guess == k) & (labels == k)).sum() / max(1, ((guess == k) | (labels == k)).sum()) for k in range(1, len(SHAPES_LABELS))]
    assert np.mean(ious) < 0.4
    named = table[:, 1:].argmax(axis=1)[codes] + 1
    assert 0.5 < (named == labels)[labels > 0].mean() < 0.85


def test_edges_of_the_image_lie_on_edges_of_the_label() -> None:
    # Moving the label by one pixel in any direction must fit the image worse: no half-pixel drift
    # between what is drawn and what is labelled.
    def contrast(image: np.ndarray, label: np.ndarray) -> float:
        across = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        down = np.abs(np.diff(image.astype(float), axis=0)).sum(axis=2)
        return float(across[np.diff(label.astype(int), axis=1) != 0].mean() + down[np.diff(label.astype(int), axis=0) != 0].mean())

    shifts = {(0, 0): 0.0, (1, 0): 0.0, (-1, 0): 0.0, (0, 1): 0.0, (0, -1): 0.0}
    for sample in open_shapes("val", count=20):
        for shift in shifts:
            shifts[shift] += contrast(sample.image, np.roll(sample.instances, shift, axis=(0, 1)))  # type: ignore[arg-type]
    assert max(shifts, key=lambda shift: shifts[shift]) == (0, 0)
    beside = [value for shift, value in shifts.items() if shift != (0, 0)]
    assert max(beside) < 0.9 * shifts[0, 0]
    assert max(beside) < 1.1 * min(beside)


def test_what_cannot_be_drawn_is_refused() -> None:
    for wrong, message in (
        ({"split": "vall"}, "did you mean 'val'"),
        ({"split": "train", "size": (8, 8)}, "32 to 4096"),
        ({"split": "train", "count": 0}, "1 to 1000000"),
    ):
        with pytest.raises(DataError, match=message):
            open_shapes(**wrong)  # type: ignore[arg-type]
