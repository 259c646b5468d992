"""A classifier's heat maps over an image, and the boxes around their peaks.

::

    image ──► shorter side resized ──► classifier, convolutional ──► K h w logits, a cell every 32 pixels
                                                                       │
               scores: softmax of the mean over the cells ◄────────────┼──► heat map of a class: its logit less the mean of all classes,
               the best 5 classes                                      │    at each cell; interpolated between the cells' centres
                                                                       ▼
               box of a class: that of the connected component around the peak where the heat is at least a fraction of the peak

Where the classifier averages a map before its linear layer, a cell is one cell of that map: the classifier's logits for the image are
the mean of the cells' logits (where nothing but the linear layer follows), so that each cell's contribution is known exactly. That is
the class activation map of Zhou et al. (2016, "Learning Deep Features for Discriminative Localization"), the later form of this idea.
Where it flattens the map instead (AlexNet, VGG16), a cell is a window of the size that the classifier was made for (Long, Shelhamer and
Darrell 2015, figure 2), and the heat lies at the window's centre: boxes are then coarser, and those of objects smaller than the window
too small.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.dense_classifiers.convolutionalize import InexactWarning, convolutionalize
from upscore.errors import DataError, ModelError, RecipeError
from upscore.ops.box_crop import resize
from upscore.ops.evaluation_mode import evaluation_mode
from upscore.ops.receptive_field import measure_receptive_fields

__all__ = ["Localization", "LocalizedClass", "Localizer", "box_around_peak"]

MIN_SIDE = 32
"""Of a resized image, for a classifier with an average."""

MAX_SIDE = 4096
"""To which the shorter side is resized."""

MAX_PIXELS = 2**24
"""Of a resized image: one of 448 pixels on the shorter side may be eighty times as long."""


@dataclass(frozen=True)
class LocalizedClass:
    """A class of an image, and where it is."""

    label_class: int  #: its number
    name: str
    score: float  #: its probability for the image, 0 to 1
    box: tuple[int, int, int, int]  #: left, top, right and bottom in pixels; right and bottom are exclusive


@dataclass(frozen=True, eq=False)
class Localization:
    """The best classes of an image, best first."""

    classes: tuple[LocalizedClass, ...]
    heat_maps: npt.NDArray[np.float32]  #: (top, H, W) of the same classes: logits less the mean of all classes


class Localizer:
    """Finds the best classes of an image and a box for each, by a classifier.

    Parameters
    ----------
    classifier : nn.Module
        Images (N, 3, H, W) of RGB in [0, 1] to logits (N, K): one of the papers' (:func:`upscore.models.classifier.create_classifier`),
        timm's, torchvision's or your own, with a head that :func:`upscore.dense_classifiers.convolutionalize.convolutionalize` can
        rewrite. It is borrowed, and its training mode is what it was.
    names : sequence of str
        Of the K classes.
    input_size : int, optional
        Height and width of the images that it was trained on; its own ``input_size`` when not given, or 224.
    side : int, optional
        Length to which the shorter side of an image is resized: twice ``input_size`` when not given.
    threshold : float
        Fraction of the peak that the heat inside a box's region is at least, above 0 and below 1; 0.2 is that of class activation maps.
    top : int
        How many classes.

    Raises
    ------
    ModelError, RecipeError
        The classifier cannot be made convolutional, or gives another number of classes; or a value is impossible.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> classifier = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    >>> localizer = Localizer(classifier, ["cat", "dog", "bird"], input_size=32, top=2)
    >>> found = localizer.localize(np.zeros((40, 60, 3), np.uint8))
    >>> len(found.classes), found.heat_maps.shape
    (2, (2, 40, 60))
    """

    def __init__(
        self,
        classifier: nn.Module,
        names: Sequence[str],
        *,
        input_size: int | None = None,
        side: int | None = None,
        threshold: float = 0.2,
        top: int = 5,
    ) -> None:
        input_size = input_size or getattr(classifier, "input_size", None) or 224
        self.names, self.top, self.threshold = tuple(names), min(top, len(names)), threshold
        if not 0 < threshold < 1:
            raise RecipeError(f"found threshold {threshold}, expected a fraction of the peak, above 0 and below 1")
        if top < 1:
            raise RecipeError(f"found top {top}, expected at least 1")
        with evaluation_mode(classifier), warnings.catch_warnings():
            # A cell sees the image where the classifier pads its window: that is what makes one pass of many windows.
            warnings.simplefilter("ignore", InexactWarning)
            self._dense = convolutionalize(classifier, input_size=input_size).network
            averages = [layer for name, layer in self._dense.named_modules() if name.endswith("_dense") and _averages_windows(layer)]
            for layer in averages:
                layer.kernel_size = 1  # its window is one cell: the average comes last, over the cells' logits
            self.window = min(MIN_SIDE, input_size) if averages else input_size
            self._dense.eval()
            self.geometry = measure_receptive_fields(lambda images: [self._dense(images)], min_size=self.window)[0].geometry
        self.side = side or 2 * input_size
        if not self.window <= self.side <= MAX_SIDE:
            raise RecipeError(f"found side {self.side}, expected {self.window} to {MAX_SIDE} pixels")
        self._tensor = next(iter(classifier.parameters()), torch.empty(0))

    def localize(self, image: npt.NDArray[np.uint8]) -> Localization:
        """Return the best classes of an image (H, W, 3) uint8 RGB of any size, each with a box and a heat map.

        DataError where it is too long for its width: resized, it would have more than ``MAX_PIXELS`` pixels. ModelError where the
        classifier gives another number of classes than there are names, or what is no number.
        """
        size = image.shape[0], image.shape[1]
        logits, resized = self._logits(image)
        scores = logits.mean((1, 2)).softmax(0)
        if len(scores) != len(self.names):
            raise ModelError(f"the classifier gives {len(scores)} classes, and there are {len(self.names)} names: give one for each")
        if not bool(torch.isfinite(scores).all()):
            raise ModelError("the classifier gives scores that are not numbers: its weights are damaged, or its training diverged")
        best = scores.topk(self.top).indices
        heat_maps = self._upsample(logits[best] - logits.mean(0), resized, size)
        classes = (
            LocalizedClass(k, self.names[k], float(scores[k]), box_around_peak(heat, self.threshold))
            for k, heat in zip(best.tolist(), heat_maps, strict=True)
        )
        return Localization(tuple(classes), heat_maps)

    def _logits(self, image: npt.NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """Return the grid of logits (K, h, w), and the size of the resized image."""
        height, width = image.shape[:2]
        factor = self.side / min(height, width)
        resized = max(self.window, round(height * factor)), max(self.window, round(width * factor))
        if math.prod(resized) > MAX_PIXELS:
            raise DataError(
                f"found an image of {height}×{width} pixels, expected one whose longer side is at most some 80 times the shorter"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self._tensor.device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            return self._dense(resize(pixels, resized)[None].to(self._tensor.dtype))[0].float().cpu(), resized

    def _upsample(self, maps: Tensor, resized: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Return maps (n, h, w) interpolated at the centres of the image's pixels (n, H, W); beyond the last cell its value holds."""
        rows, columns = (self._weights(cells, before, after) for cells, before, after in zip(maps.shape[1:], resized, size, strict=True))
        upsampled: npt.NDArray[np.float32] = (rows @ maps @ columns.mT).numpy()
        return upsampled

    def _weights(self, cells: int, resized: int, size: int) -> Tensor:
        """Return the matrix (size, cells) that interpolates the cells of an axis at its pixels."""
        pixels = (torch.arange(size, dtype=torch.float64) + 0.5) * resized / size - 0.5  # in the resized image
        position = ((pixels - float(self.geometry.offset)) / float(self.geometry.stride)).clamp(0, cells - 1)
        return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp_min(0).float()


def _averages_windows(layer: nn.Module) -> TypeGuard[nn.AvgPool2d]:
    return isinstance(layer, nn.AvgPool2d) and layer.stride in (1, (1, 1))


def box_around_peak(heat: npt.NDArray[np.float32], threshold: float) -> tuple[int, int, int, int]:
    """Return the box of the connected component around the peak where the heat (H, W) is at least ``threshold`` times the peak.

    Left, top, right and bottom in pixels, the last two exclusive. Of several peaks the first counts. Where the peak is not above 0, no
    cell is for the class more than for the others: the box is the whole image.

    >>> box_around_peak(np.array([[0, 1, 5, 3, 0, 4]], np.float32), 0.5)
    (2, 0, 4, 1)
    """
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    peak = heat[row, column]
    if peak <= 0:
        return 0, 0, heat.shape[1], heat.shape[0]
    _, components, stats, _ = cv2.connectedComponentsWithStats((heat >= threshold * peak).astype(np.uint8), connectivity=4)
    left, top, width, height = stats[components[row, column]].tolist()[:4]
    return left, top, left + width, top + height
