"""The batches of a run: a stream that is the same from any step on, for any number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from upscore.data.loading import AugmentedDataset, collate, epoch_order, init_worker
from upscore.data.transforms import rng_for
from upscore.data.unet_border_weights import BorderWeighting
from upscore.errors import RecipeError, TrainingError, UpscoreError, nearest_name
from upscore.training.recipe import Recipe
from upscore.training.recipe_sections import LossSection
from upscore.types import Batch, LabelSpace

__all__ = ["BatchPlan", "batches_from", "build_border_weighting"]

SHARED_MEMORY_ERRORS = (
    "out of shared memory",
    "No space left on device",
    "unable to open shared memory",
    "unable to mmap",
    "unable to allocate shared",
)
"""Parts of PyTorch's messages where batches cannot be passed on from the processes that read them."""


def build_border_weighting(settings: LossSection, labels: LabelSpace, *, class_weights: Tensor | None = None) -> BorderWeighting | None:
    """Return how a ``[loss]`` section separates touching objects, or None where it does not.

    Raises RecipeError where it names a class that the data does not have, or objects that are not used.
    """
    for name in (*settings.border_of, *([settings.separate_with] if settings.separate_with else [])):
        if name not in labels.names:
            raise RecipeError(f"loss: no class '{name}'{nearest_name(name, labels.names)}, expected one of {', '.join(labels.names)}")
    if not (settings.border_weight or settings.separate_with):
        if settings.border_of:
            raise RecipeError("loss.border_of names objects that are not used: set loss.border_weight (U-Net's is 10)")
        return None
    return BorderWeighting(
        weight=settings.border_weight,
        sigma=settings.border_sigma,
        object_classes=tuple(labels.names.index(name) for name in settings.border_of),
        border_class=labels.names.index(settings.separate_with) if settings.separate_with else None,
        class_weights=None if class_weights is None else tuple(class_weights.tolist()),
    )


class BatchPlan(Sampler[list[tuple[int, int]]]):
    """Which images each step reads: lists of (epoch, index), from step ``first_step`` to before ``steps``.

    An epoch is a permutation of the dataset's ``images`` by (seed, epoch), split into batches; its last batch is filled
    from the permutation's beginning, so that every batch is full and every image is read. With ``replacement``, each image of a step is
    drawn from all of them by (seed, step), and comes with the number of its draw in place of an epoch: an image that is drawn again is
    augmented anew.
    A step's ``batch_size`` images are divided evenly among ``parts`` (accumulation), and a part's among ``world`` processes; these are
    those of ``rank``.

    >>> list(BatchPlan(3, 2, seed=0, first_step=0, steps=2))  # the last batch is filled from the first
    [[(0, 1), (0, 0)], [(0, 2), (0, 1)]]
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        *,
        seed: int,
        first_step: int,
        steps: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        replacement: bool = False,
    ):
        self.images, self.batch_size, self.seed, self.replacement = images, batch_size, seed, replacement
        self.first_step, self.steps = first_step, steps
        self.parts, self.rank, self.world = parts, rank, world

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self._drawn() if self.replacement else self._permuted():
            for part in range(self.parts):
                yield batch[part :: self.parts][self.rank :: self.world]

    def _permuted(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the images of each step, epoch by epoch."""
        steps_per_epoch = -(-self.images // self.batch_size)
        ordered_epoch, order = -1, []
        for step in range(self.first_step, self.steps):
            epoch, step_of_epoch = divmod(step, steps_per_epoch)
            if epoch != ordered_epoch:
                ordered_epoch, order = epoch, [int(i) for i in epoch_order(self.images, seed=self.seed, epoch=epoch)]
            first = step_of_epoch * self.batch_size
            yield [(epoch, order[i % self.images]) for i in range(first, first + self.batch_size)]

    def _drawn(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the images of each step, drawn with replacement."""
        for step in range(self.first_step, self.steps):
            indices = rng_for(self.seed, step, "images drawn with replacement").integers(self.images, size=self.batch_size)
            yield [(step * self.batch_size + i, int(index)) for i, index in enumerate(indices)]


def batches_from(
    dataset: Any, recipe: Recipe, *, first_step: int, steps: int, shard: tuple[int, int] = (0, 1), class_weights: Tensor | None = None
) -> Iterator[Batch]:
    """Return the batches of process ``shard``, (rank, world), from ``first_step`` to the end of the run, as one stream.

    Workers read ahead across epochs and during validation. The (K,) ``class_weights`` are part of U-Net's weights of pixels,
    where the recipe has these. The UpscoreError of an image that cannot be read is one line, also when a worker reads it.
    """
    run = recipe.run
    assert run.batch_size
    plan = BatchPlan(
        len(dataset),
        run.batch_size,
        seed=run.seed,
        first_step=first_step,
        steps=steps,
        parts=run.accumulate,
        rank=shard[0],
        world=shard[1],
        replacement=run.sampling == "replacement",
    )
    border_weighting = build_border_weighting(recipe.loss, dataset.labels, class_weights=class_weights)
    spec = recipe.input.spec()
    images = AugmentedDataset(dataset, recipe.augment.augmentation(spec), seed=run.seed, border_weighting=border_weighting)
    loader: DataLoader[Batch] = DataLoader(
        cast(Any, images),  # a sequence by (epoch, index)
        batch_sampler=plan,
        num_workers=run.workers or 0,
        collate_fn=partial(collate, spec=spec),
        pin_memory=run.device == "cuda",
        worker_init_fn=init_worker,
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except UpscoreError as error:
        # A worker's error arrives with the worker's traceback around it; its last line is the error's own.
        lines = str(error).strip().splitlines()
        raise error if len(lines) == 1 else type(error)(lines[-1].partition(": ")[2]) from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if any(word in reason for word in SHARED_MEMORY_ERRORS):
            raise TrainingError(
                f"the processes that read images ran out of shared memory: give the machine or container more (/dev/shm), "
                f"or read in the training process itself with run.workers = 0 (now {run.workers}) ({reason:.120})"
            ) from error
        if "DataLoader worker" in reason:
            raise TrainingError(
                f"a process that reads images was ended from outside, as happens when memory runs out: lower run.workers "
                f"(now {run.workers}, 0 reads in the training process itself), run.batch_size (now {run.batch_size}) "
                f"or augment.crop_size ({reason:.120})"
            ) from error
        raise
