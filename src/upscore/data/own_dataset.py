"""A caller's own dataset, such as a ``torch.utils.data.Dataset`` of images and masks, as what is trained on and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from upscore.data.array_like import describe, image_array, mask_array
from upscore.data.dataset import Dataset, InFiles, RawLabels, input_of, second_labels_of
from upscore.errors import DataError, UpscoreError
from upscore.types import LabelSpace, Sample, as_label_space

__all__ = ["ImagesWithMasks", "as_dataset"]


@runtime_checkable
class ImagesWithMasks(Protocol):
    """The least that a dataset needs; :class:`upscore.data.dataset.Dataset` lists what else may be given.

    The same index gives the same sample, however often it is read: random augmentation belongs to the recipe's ``[augment]``, and the
    order to the run.

    Examples
    --------
    >>> class Squares:
    ...     labels = ["ground", "square"]
    ...
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def __getitem__(self, index):
    ...         mask = np.zeros((8, 8), np.uint8)
    ...         mask[index : index + 4, 2:6] = 1
    ...         return np.stack([100 * mask] * 3, axis=-1), mask
    >>> squares = as_dataset(Squares())
    >>> squares.name, squares.split, squares.keys, squares[1].label.sum()
    ('Squares', 'train', ('0', '1', '2', '3'), np.uint64(16))
    """

    labels: LabelSpace | Sequence[str]  #: the classes, in the order of their numbers

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any:
        """Return a Sample, or an image and its mask, in forms that :mod:`upscore.data.array_like` lists."""


def as_dataset(dataset: Any, *, split: str = "train", labels: LabelSpace | Sequence[str] | None = None) -> Dataset:
    """Return a caller's own dataset with everything that :class:`upscore.data.dataset.Dataset` lists; those of files as they are.

    Parameters
    ----------
    dataset : ImagesWithMasks
        Any object with ``labels``, a length and samples by index. What is missing gets a default: the class as ``name``, ``split``,
        and the indices as ``keys``. Its samples are checked whenever they are read.
    split : str
        What it is called where it has no ``split`` of its own.
    labels : LabelSpace or sequence of str, optional
        In place of its own, as for the parts that ``torch.utils.data.random_split`` returns, which have none.

    Raises
    ------
    DataError
        ``labels``, a length or samples by index are missing, it holds none, or its keys are not one for each. A sample raises one
        when it is read: it is neither a Sample nor an image with a mask, the two differ in size, or one of them is no such thing.
    """
    if not isinstance(dataset, InFiles | RawLabels | _CheckedDataset):
        return _CheckedDataset(dataset, split, labels)
    known = cast(Dataset, dataset)
    if labels is not None and (difference := as_label_space(labels).difference(known.labels)):
        raise DataError(f"{known.name}: the labels given are not its own: {difference}: leave labels out")
    return known


class _CheckedDataset:
    """A dataset whose samples are converted and checked when they are read."""

    def __init__(self, dataset: Any, split: str, labels: LabelSpace | Sequence[str] | None) -> None:
        name = str(getattr(dataset, "name", type(dataset).__name__))
        for attribute in ("__len__", "__getitem__"):
            if not hasattr(type(dataset), attribute) or isinstance(dataset, str | bytes | dict | np.ndarray):
                what = f"found {describe(dataset)} as dataset"
                raise DataError(f"{what}, expected a path, or an object with labels, __len__ and __getitem__, which gives samples by index")
        if labels is None and not hasattr(dataset, "labels"):
            raise DataError(f"the dataset {name} has no attribute 'labels', expected the names of its classes: add it, or give labels=")
        self.dataset, self.name, self.split = dataset, name, str(getattr(dataset, "split", split))
        self.labels = as_label_space(dataset.labels if labels is None else labels)
        self.input = input_of(dataset)
        second = second_labels_of(dataset)
        self.second_labels = None if second is None else as_label_space(second)
        if len(dataset) == 0:
            raise DataError(f"the dataset {name} holds no image, expected at least one")
        keys = getattr(dataset, "keys", None)
        self.keys = tuple(map(str, range(len(dataset)) if keys is None or callable(keys) else keys))
        if len(self.keys) != len(dataset):
            raise DataError(f"the dataset {name} has {len(self.keys)} keys for {len(dataset)} samples, expected one for each")
        if len(set(self.keys)) < len(self.keys):
            repeated = next(key for key in self.keys if self.keys.count(key) > 1)
            raise DataError(f"the dataset {name}: the key '{repeated}' occurs twice, expected each once")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the dataset, if it has any."""
        return tuple(getattr(self.dataset, "warnings", ()))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        found = self.dataset[index]
        try:
            if isinstance(found, Sample):
                return self._checked(index, found)
            if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != 2:
                length = f" of {len(found)}" if isinstance(found, Sequence) else ""
                raise DataError(f"found {describe(found)}{length}, expected a Sample, or an image and its mask")
            return self._checked(index, Sample(self.keys[index], image_array(found[0], self.input), mask_array(found[1])))
        except UpscoreError as error:
            raise DataError(f"{self.name}[{index}]: {error}") from None

    def _checked(self, index: int, sample: Sample) -> Sample:
        image = sample.image
        if not self.input.is_rgb:
            self.input.check(image)
        elif not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise DataError(f"found {describe(image)} as image, expected (H, W, 3) uint8 RGB{_remedy(image)}")
        size = image.shape[:2]
        for name in ("label", "second_label", "instances", "weights"):
            values = getattr(sample, name)
            if values is not None and (not isinstance(values, np.ndarray) or values.shape != size):
                what = "mask" if name == "label" else name
                raise DataError(
                    f"found {describe(values)} as {what} of an image of {size[0]}×{size[1]}, expected the same height and width"
                )
        for label in (sample.label, sample.second_label):
            if label is not None and label.dtype != np.uint8:
                raise DataError(f"found {describe(label)} as mask, expected uint8")
        return replace(sample, key=self.keys[index])


def _remedy(image: Any) -> str:
    if not isinstance(image, np.ndarray):
        return ""
    if image.ndim == 2:
        return ": repeat grey with np.stack([image] * 3, axis=-1)"
    if image.ndim == 3 and image.shape[2] != 3 and image.shape[0] == 3:
        return ": move the channels with .transpose(1, 2, 0)"
    if image.ndim == 3 and (image.shape[2] != 3 or image.dtype == np.uint16):
        return ": describe other bands by an attribute 'input' of the dataset, an InputSpec"
    if image.dtype.kind == "f" and image.size:
        scale = "" if image.max() > 2 else "times 255, "
        return f": convert it to uint8, {scale}rounded"
    return ""
