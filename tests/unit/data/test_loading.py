"""From samples to batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from upscore.data.loading import AugmentedDataset, collate, epoch_order, init_worker
from upscore.data.readers.shapes import open_shapes
from upscore.data.transforms import FILL, Augmentation
from upscore.data.unet_border_weights import BorderWeighting
from upscore.errors import DataError
from upscore.types import Sample

AUGMENTATION = Augmentation(scale=(0.5, 2), crop=(24, 32), flip=0.5, brightness=0.2)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_a_batch_holds_every_pixel_and_pads_the_rest(sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = [
        Sample(str(i), rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 9, size, np.uint8)) for i, size in enumerate(sizes)
    ]
    batch = collate(samples)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    assert batch.images.shape == (len(sizes), 3, height, width)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == torch.int64
    assert batch.keys == tuple(sample.key for sample in samples)
    for i, (h, w) in enumerate(sizes):
        back = (batch.images[i] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(back[:h, :w], samples[i].image)
        assert np.array_equal(batch.labels[i, :h, :w].numpy(), samples[i].label)  # type: ignore[arg-type]
        outside = np.ones((height, width), bool)
        outside[:h, :w] = False
        assert (back[outside] == FILL).all()
        assert (batch.labels[i].numpy()[outside] == 255).all()
    assert float(batch.images.min()) >= 0
    assert float(batch.images.max()) <= 1


def test_a_sample_without_label_is_ignored_and_a_misfit_refused() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    assert (collate([Sample("a", image)]).labels == 255).all()
    with pytest.raises(DataError, match=r"b: the label is \(3, 2\)"):
        collate([Sample("b", image, np.zeros((3, 2), np.uint8))])


def test_weights_are_padded_with_nothing_and_missing_ones_are_one() -> None:
    image, label = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8)
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain, weighed = Sample("a", image, label), Sample("b", image[:, :2], label[:, :2], None, weights[:, :2])
    assert collate([plain]).weights is None
    batch = collate([plain, weighed])
    assert batch.weights is not None
    assert batch.weights.dtype == torch.float32
    assert batch.weights.tolist() == [[[1, 1, 1], [1, 1, 1]], [[0, 1, 0], [3, 4, 0]]]
    with pytest.raises(DataError, match=r"c: the weights are \(2, 3\)"):
        collate([Sample("c", image[:, :2], label[:, :2], None, weights)])


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 50), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_an_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, epoch_order(count, seed=seed, epoch=epoch))


def test_epochs_and_seeds_order_differently() -> None:
    assert len({tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_and_batches_change_no_sample(workers: int) -> None:
    images = AugmentedDataset(open_shapes("train", size=(32, 40), count=6), AUGMENTATION, seed=3)
    order = epoch_order(len(images), seed=3, epoch=2)
    loader = DataLoader(
        images,  # type: ignore[arg-type]
        sampler=[(2, int(i)) for i in order],
        batch_size=4,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=init_worker,
    )
    batches = list(loader)
    assert [len(batch.keys) for batch in batches] == [4, 2]
    pixels = torch.cat([batch.images for batch in batches])
    assert torch.equal(pixels, collate([images[2, int(i)] for i in order]).images)


def test_another_epoch_shows_another_image() -> None:
    images = AugmentedDataset(open_shapes("train", size=(32, 40), count=2), AUGMENTATION, seed=0)
    assert not np.array_equal(images[0, 1].image, images[1, 1].image)
    assert images[0, 1].key == images[1, 1].key


def test_an_object_that_a_crop_cuts_in_two_stays_one_and_distances_are_the_networks() -> None:
    # A U whose arms are 6 pixels apart, and its foot below the crop: its two arms are no two objects.
    label = np.zeros((40, 40), np.uint8)
    label[4:36, 4:10] = label[4:36, 16:22] = label[30:36, 4:22] = 1
    sample = Sample("u", np.zeros((40, 40, 3), np.uint8), label)

    class One:
        labels = open_shapes("train", count=1).labels

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            return sample

    whole = AugmentedDataset(One(), Augmentation(), 0, BorderWeighting(object_classes=(1,)))  # type: ignore[arg-type]
    assert whole[0, 0].weights.max() == 1
    cropped = AugmentedDataset(One(), Augmentation(crop=(24, 40)), 0, BorderWeighting(object_classes=(1,)))  # type: ignore[arg-type]
    assert all(cropped[epoch, 0].weights.max() == 1 for epoch in range(8))
    label[30:36, 10:16] = 0
    assert whole[0, 0].weights[10, 12] == pytest.approx(1 + 10 * np.exp(-(7**2) / 50))
    doubled = AugmentedDataset(One(), Augmentation(scale=(2, 2)), 0, BorderWeighting(object_classes=(1,)))  # type: ignore[arg-type]
    assert doubled[0, 0].weights[20, 24] == pytest.approx(1 + 10 * np.exp(-(13**2) / 50))


def test_objects_that_nothing_uses_are_not_augmented() -> None:
    dataset = open_shapes("train", size=(32, 40), count=1)
    assert dataset[0].instances is not None
    assert AugmentedDataset(dataset, AUGMENTATION, seed=0)[0, 0].instances is None


def test_a_sample_without_objects_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"k: has no instance mask .*loss\.border_of") as caught:
        BorderWeighting().find_objects(Sample("k", np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)))
    assert "\n" not in str(caught.value)
