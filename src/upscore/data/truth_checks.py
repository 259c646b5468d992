"""What a dataset must be so that predictions can be compared with its masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from upscore.data.dataset import Dataset
from upscore.errors import BundleError, DataError
from upscore.types import LabelSpace, Sample

__all__ = ["check_classes", "check_dataset", "check_mask", "refuse_repeated_keys"]


def check_classes(images: Dataset, labels: LabelSpace) -> None:
    """Raise a BundleError that shows the difference where a network of these classes has others than a dataset."""
    if difference := labels.difference(images.labels):
        raise BundleError(
            f"the model's classes are not those of {images.name}: {difference}: use the data it was trained for, or train on this"
        )


def check_dataset(images: Dataset, labels: LabelSpace) -> None:
    """Raise BundleError where a network of these classes cannot be evaluated on a dataset, DataError where this has no or repeated keys."""
    check_classes(images, labels)
    if len(images) == 0:
        raise DataError(f"{images.name}: the split '{images.split}' holds no image, expected at least one")
    refuse_repeated_keys(images.keys, images.name)


def check_mask(sample: Sample) -> npt.NDArray[np.uint8]:
    """Return the mask (H, W) uint8 of a sample; raises DataError where it has none, or one of another size."""
    if sample.label is None:
        raise DataError(f"{sample.key}: the image has no truth: evaluation needs a mask for every image")
    if sample.label.shape != sample.image.shape[:2]:
        raise DataError(
            f"{sample.key}: the truth is {sample.label.shape} and the image {sample.image.shape[:2]}, expected one size: "
            "masks are never resized, export them again"
        )
    return sample.label


def refuse_repeated_keys(keys: Sequence[str], name: str) -> None:
    """Raise DataError where a key of a dataset, or of shards of one, is repeated: an image would be counted twice."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DataError(f"{name}: the image '{key}' occurs twice, expected each once: it would be counted twice")
        seen.add(key)
