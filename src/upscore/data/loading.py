"""From samples to batches: the dataset, order and collation for a ``torch.utils.data.DataLoader``.

The loader's sampler yields ``(epoch, index)``, or ``(draw, index)`` where images are drawn with replacement, so that the augmentation of a
sample is a function of (seed, epoch, key) whatever worker reads it::

    images = AugmentedDataset(dataset, Augmentation(crop=(256, 256)), seed=0)
    order = epoch_order(len(images), seed=0, epoch=3)
    loader = DataLoader(images, sampler=[(3, int(i)) for i in order], batch_size=8,
                        collate_fn=collate, worker_init_fn=init_worker, num_workers=2)
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.data.readable_images import SKIP_ADVICE
from upscore.data.transforms import Augmentation, fill_values, rng_for
from upscore.data.unet_border_weights import BorderWeighting
from upscore.errors import DataError
from upscore.input_spec import RGB, InputSpec
from upscore.types import IGNORE, Batch, Sample

__all__ = ["AugmentedDataset", "collate", "epoch_order", "init_worker"]


class AugmentedDataset:
    """A dataset with its augmentation and U-Net's weight map, if any; item ``(epoch, index)`` is a Sample.

    Each sample is augmented with a generator of its own, from ``seed``, the epoch and its key.
    """

    def __init__(self, dataset: Dataset, augmentation: Augmentation, seed: int, border_weighting: BorderWeighting | None = None) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.border_weighting = border_weighting

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: tuple[int, int]) -> Sample:
        """Read and augment sample ``index`` for ``epoch``, ``position`` being ``(epoch, index)``.

        Raises
        ------
        DataError
            The sample cannot be read, or has no objects to separate.
        """
        epoch, index = position
        try:
            sample = self.dataset[index]
        except DataError as error:
            raise DataError(f"{error}; {SKIP_ADVICE}") from error
        rng = rng_for(self.seed, epoch, sample.key)
        if self.border_weighting is None:
            return self.augmentation(replace(sample, instances=None), rng=rng)  # objects, which nothing uses, would be warped too
        return self.border_weighting.add_weights(self.augmentation(self.border_weighting.find_objects(sample), rng=rng))


def epoch_order(count: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of the ``count`` samples in one epoch: a permutation, (count,) int64."""
    return rng_for(seed, epoch, "the order of samples").permutation(count)


def init_worker(worker: int) -> None:
    """Limit a loader's worker process to one thread, and let it ignore Ctrl-C.

    The other workers use the other cores. A terminal sends Ctrl-C to every process, while the step that
    the training process then finishes may still need this worker's images.
    """
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def collate(samples: Sequence[Sample], spec: InputSpec = RGB) -> Batch:
    """Stack samples into a batch.

    Parameters
    ----------
    samples : sequence of Sample
        At least one. Smaller ones are padded below and on the right, images with
        :func:`~upscore.data.transforms.fill_values`, labels with 255 and weights with 0.
    spec : InputSpec
        The bands of their images.

    Returns
    -------
    Batch
        Images (N, C, H, W) float32, in [0, 1] but for floating-point ones, in channels-last memory order, labels
        (N, H, W) int64, all 255 for a sample without one; H and W of the largest. Weights
        (N, H, W) float32 where any sample has some, 1 for those that have none. Second labels
        as labels, where any sample has some.

    Raises
    ------
    DataError
        An image's labels or weights have another size.
    """
    import torch

    height = max(sample.image.shape[0] for sample in samples)
    width = max(sample.image.shape[1] for sample in samples)
    images, fill = np.empty((len(samples), height, width, len(spec)), spec.dtype), fill_values(spec)
    labels = np.full((len(samples), height, width), IGNORE, np.int64)
    second_labels = labels.copy() if any(sample.second_label is not None for sample in samples) else None
    weights = np.zeros(labels.shape, np.float32) if any(sample.weights is not None for sample in samples) else None
    for i, sample in enumerate(samples):
        h, w = sample.image.shape[:2]
        images[i, :h, :w] = sample.image
        images[i, h:] = fill
        images[i, :h, w:] = fill
        for label, stack in ((sample.label, labels), (sample.second_label, second_labels)):
            if label is None or stack is None:
                continue
            if label.shape != (h, w):
                raise DataError(f"{sample.key}: the label is {label.shape} and the image {(h, w)}: they must agree")
            stack[i, :h, :w] = label
        if weights is not None:
            if sample.weights is not None and sample.weights.shape != (h, w):
                raise DataError(f"{sample.key}: the weights are {sample.weights.shape} and the image {(h, w)}: they must agree")
            weights[i, :h, :w] = 1 if sample.weights is None else sample.weights
    # A permuted (N, H, W, C) array is channels-last already: pixels are only converted.
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    if spec.unit != 1:
        scaled.div_(spec.unit)
    keys = tuple(sample.key for sample in samples)
    stacked, second = (None if planes is None else torch.from_numpy(planes) for planes in (weights, second_labels))
    return Batch(scaled, torch.from_numpy(labels), keys, stacked, second)
