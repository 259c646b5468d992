"""The values that one stage passes to the next.

``LabelSpace`` names the classes, a ``Sample`` is one image with its truth, a ``Batch``
is what a network trains on, a ``Prediction`` is what a user gets. Logits and
probabilities stay plain (N, K, H, W) tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscore.errors import DataError
from upscore.input_spec import Image
from upscore.overlay import draw_overlay
from upscore.text import listed, shortened

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IGNORE", "Batch", "LabelSpace", "Prediction", "Sample", "as_label_space", "voc_palette"]

IGNORE = 255
"""The label of a pixel that is neither learned from nor evaluated (VOC's void)."""

MAX_NAME = 200
"""The longest class name, in characters: tables and pages show it."""


def voc_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return PASCAL VOC's colours for labels 0 to ``count - 1``.

    The bits of a label are distributed over red, green and blue from the highest bit
    down, so that neighbouring labels have very different colours. ``count`` is 0 to 256.

    >>> voc_palette(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    colours = []
    for label in range(count):
        red = green = blue = 0
        remaining = label
        for bit in range(7, -1, -1):
            red |= (remaining & 1) << bit
            green |= (remaining >> 1 & 1) << bit
            blue |= (remaining >> 2 & 1) << bit
            remaining >>= 3
        colours.append((red, green, blue))
    return tuple(colours)


@dataclass(frozen=True)
class LabelSpace:
    """The classes, with their names and colours.

    Parameters
    ----------
    names : sequence of str
        Name of class 0, 1, …; unique, not empty, at most 255 of them, each of at most 200 characters.
    palette : sequence of (int, int, int), optional
        RGB colour of each class, 0 to 255; PASCAL VOC's colours when not given.
    ignore : int
        The label that is neither learned nor evaluated. Always 255: label maps are uint8
        and no class may have it.

    Raises
    ------
    DataError
        Names are missing, repeated, too long or too many, or the palette has another length.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore: int = IGNORE

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        palette = tuple(tuple(int(v) for v in colour) for colour in self.palette)
        if not 1 <= len(names) <= 255:
            raise DataError(f"found {len(names)} class names, expected 1 to 255: label maps are 8-bit and 255 means ignored")
        longest = max(names, key=len)
        if len(longest) > MAX_NAME:
            raise DataError(f"the class name '{shortened(longest)}' is too long, expected at most {MAX_NAME} characters")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"class name '{repeated[0]}' is given {names.count(repeated[0])} times: names must be unique")
        if self.ignore != IGNORE:
            raise DataError(f"found ignore label {self.ignore}, expected {IGNORE}: map other values to it with label_mapping")
        if not palette:
            palette = voc_palette(len(names))
        if len(palette) != len(names):
            raise DataError(f"found {len(palette)} palette colours for {len(names)} classes: give one colour per class, or none")
        if any(len(colour) != 3 or not all(0 <= v <= 255 for v in colour) for colour in palette):
            raise DataError("a palette colour is not three numbers from 0 to 255")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "palette", palette)

    def __len__(self) -> int:
        return len(self.names)

    def colours(self) -> npt.NDArray[np.uint8]:
        """Return a (256, 3) uint8 RGB table; the ignored label is VOC's cream, other values are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.palette
        table[self.ignore] = (224, 224, 192)
        return table

    def difference(self, other: LabelSpace) -> str:
        """Describe how ``other`` differs in number, names or order of classes; ``""`` if it does not. Colours may differ.

        >>> LabelSpace(("road", "car")).difference(LabelSpace(("road", "bus")))
        "class 1 is 'car' against 'bus'"
        """
        if self.names == other.names:
            return ""
        if len(self) != len(other):
            return f"{len(self)} classes ({listed(self.names, 6)}) against {len(other)} ({listed(other.names, 6)})"
        changed = [f"class {i} is '{a}' against '{b}'" for i, (a, b) in enumerate(zip(self.names, other.names, strict=True)) if a != b]
        return "; ".join(changed[:4]) + (f"; and {len(changed) - 4} more" if len(changed) > 4 else "")


def as_label_space(labels: LabelSpace | Sequence[str]) -> LabelSpace:
    """Return class names, in the order of their numbers, as a LabelSpace; DataError where they are no names.

    >>> as_label_space(["road", "car"]).names
    ('road', 'car')
    """
    if isinstance(labels, LabelSpace):
        return labels
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(name, str) for name in labels):
        raise DataError(f"found labels of type {type(labels).__name__}, expected a list of class names, or a LabelSpace")
    return LabelSpace(tuple(labels))


@dataclass(frozen=True)
class Sample:
    """One image, with its ground truth if there is one.

    Parameters
    ----------
    key : str
        Unique and stable within a dataset: augmentation and reports are keyed by it.
    image : (H, W, C) uint8, uint16 or float32
        The bands of the dataset's ``input``; RGB of 8 bits in most.
    label : (H, W) uint8, optional
        Class of each pixel, or 255.
    instances : (H, W) integer, optional
        Number of the object that each pixel belongs to, 0 for none.
    weights : (H, W) float32, optional
        Factor on the loss of each pixel; 1 when not given.
    warnings : tuple of str
        What a user should know about how it was read; usually empty.
    second_label : (H, W) uint8, optional
        Class of each pixel in the dataset's second label space, or 255: the truth of a network's second head.
    """

    key: str
    image: Image
    label: npt.NDArray[np.uint8] | None = None
    instances: npt.NDArray[np.integer] | None = None
    weights: npt.NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()
    second_label: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Batch:
    """What one step of training or evaluation reads.

    Parameters
    ----------
    images : (N, C, H, W) float32
        Stored values divided by the largest of their type, so that RGB is in [0, 1]; floating-point ones as they are. Not
        normalised: that is the network's first layer.
    labels : (N, H, W) int64
        Class of each pixel; 255 where ignored or padded.
    keys : tuple of str
        The samples' keys, in order.
    weights : (N, H, W) float32, optional
        Factor on the loss of each pixel; 0 where padded.
    second_labels : (N, H, W) int64, optional
        As ``labels``, in the second label space.
    """

    images: Tensor
    labels: Tensor
    keys: tuple[str, ...] = ()
    weights: Tensor | None = None
    second_labels: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """The predicted label map of one image.

    Parameters
    ----------
    label_map : (H, W) uint8
        The most probable class of each pixel, in the image's size.
    labels : LabelSpace
        The classes.
    probs : (K, H, W) float32 in [0, 1], optional
        Only when requested; sums to 1 over K.
    key : str
        The image's path, or "".
    warnings : tuple of str
        What a user should know about how it was labelled; usually empty.
    """

    label_map: npt.NDArray[np.uint8]
    labels: LabelSpace
    probs: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    key: str = ""
    warnings: tuple[str, ...] = ()

    def class_fractions(self) -> dict[str, float]:
        """Return each class's fraction of the image's pixels, by name, in class order.

        >>> Prediction(np.array([[0, 1, 1, 255]], np.uint8), LabelSpace(("road", "car"))).class_fractions()
        {'road': 0.25, 'car': 0.5}
        """
        # In parts: np.bincount makes eight bytes of every pixel.
        parts = np.array_split(self.label_map.ravel(), max(1, self.label_map.size >> 22))
        counts = np.sum([np.bincount(part, minlength=256) for part in parts], axis=0)
        total = max(1, self.label_map.size)
        return {name: float(counts[i] / total) for i, name in enumerate(self.labels.names)}

    def colours(self) -> npt.NDArray[np.uint8]:
        """Return the label map in the palette's colours, (H, W, 3) uint8 RGB."""
        return self.labels.colours()[self.label_map]

    def overlay(self, image: npt.NDArray[np.uint8], opacity: float | None = None, *, legend: bool = False) -> npt.NDArray[np.uint8]:
        """Return ``image`` (H, W, 3) uint8 RGB with its classes tinted and outlined, and a legend below it if asked for.

        Arguments and result are those of :func:`upscore.overlay.draw_overlay`.
        """
        return draw_overlay(image, self.label_map, self.labels, opacity=opacity, legend=legend)
