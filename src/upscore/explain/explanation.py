"""Everything there is to show of one image and one network, as arrays.

::

    image ── shrunk to max_pixels ── network ──┬── probs, label map ── pixel, object at it
                                               ├── activations of the object
                                               ├── predictions by skips
                                               └── receptive fields of the pixel and of a grid of points
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upscore.data.image_files import read_image
from upscore.data.mask_files import read_label
from upscore.errors import DataError, RecipeError
from upscore.explain.activations import Activation, record_activations
from upscore.explain.receptive_fields import ReceptiveField, measure_receptive_fields
from upscore.explain.skip_contributions import SkipPrediction, predict_by_skips
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import Predictor
from upscore.inference.segmenter import choose_device
from upscore.models.bundle import Bundle
from upscore.models.on_backbone import OnBackbone
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace

__all__ = ["MAX_PIXELS", "Explanation", "choose_pixel", "explain_image", "explain_model", "find_object"]

MAX_PIXELS = 480 * 640
"""Larger images are shrunk to this many pixels: a derivative needs every activation of the network in memory at once."""

MAX_POINTS = 400


@dataclass(frozen=True)
class Explanation:
    """One image, explained."""

    source: str  #: the bundle's path, or another name of where the network came from
    network: str  #: the class of the network, or of its decoder, such as "SegNet" or "FCN"
    key: str  #: the image's path, or ""
    labels: LabelSpace
    size: tuple[int, int]  #: H and W of the image before it was shrunk
    image: npt.NDArray[np.uint8]  #: (H, W, 3) uint8 RGB, the network's input
    pixel: tuple[int, int]  #: row and column in ``image`` of the explained pixel
    pixel_given: bool  #: whether the caller gave the pixel, or :func:`choose_pixel` chose it
    region: npt.NDArray[np.bool_]  #: (H, W), the object at the pixel: the connected component of its class
    label_map: npt.NDArray[np.uint8]  #: (H, W), the most probable class
    probs: npt.NDArray[np.float32]  #: (K, H, W) in [0, 1]; sum to 1 over K
    activations: list[Activation]  #: in the order in which they are computed
    skip_predictions: list[SkipPrediction]  #: of an FCN, coarse to fine; empty for other networks
    receptive_fields: list[ReceptiveField]  #: the pixel's, then those of the grid's points, row by row
    grid: tuple[int, int]  #: rows and columns of points
    truth: npt.NDArray[np.uint8] | None = None  #: (H, W), the true classes, 255 where they are unknown; None where they were not given


def explain_image(
    bundle: Bundle | str | os.PathLike[str],
    image: npt.NDArray[np.uint8] | str | os.PathLike[str],
    *,
    truth: npt.NDArray[np.uint8] | str | os.PathLike[str] | None = None,
    pixel: tuple[int, int] | None = None,
    channels: Mapping[str, int] | None = None,
    grid: tuple[int, int] = (5, 7),
    max_pixels: int = MAX_PIXELS,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain what a bundle's network predicts for one image.

    The network runs alone, in single precision: without the flips, scales, tiles and CRF
    of the bundle's inference settings.

    Parameters
    ----------
    bundle : Bundle or path
        Whose network.
    image : (H, W, 3) uint8 RGB, or path
        Any size from 1×1.
    truth : (H, W) uint8, or path, optional
        The image's mask: class indices, 255 where the class is unknown. The page then shows where the prediction is wrong.
    pixel : (int, int), optional
        Row and column, in the image before it is shrunk, of the pixel to explain; :func:`choose_pixel` when not given.
    channels : mapping of str to int, optional
        Layers by name, such as ``decoder.deconv4`` or ``decoder.deconv4.unpooled``, and the channel to show first.
    grid : (int, int)
        Rows and columns of further points whose receptive fields are measured, one backward pass each; at
        most 400, and no more than the image has pixels. (0, 0) for none.
    max_pixels : int
        Larger images are shrunk to this many pixels.
    device : str or torch.device
        As in :func:`upscore.inference.segmenter.choose_device`.
    progress : callable, optional
        Called with (done, total) after each receptive field.

    Raises
    ------
    BundleError, DataError, RecipeError
        The bundle is damaged; the image or the mask cannot be read, they differ in size, the mask holds a value that is no class, or
        the pixel is outside the image; a setting is impossible.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(Path(bundle))
    key = "" if isinstance(image, np.ndarray) else os.fspath(image)
    array = image if isinstance(image, np.ndarray) else read_image(image)
    mask = truth if truth is None or isinstance(truth, np.ndarray) else read_label(truth)
    return explain_model(
        loaded.build().to(choose_device(device)), loaded.labels, array, truth=mask,
        pixel=pixel, channels=channels, grid=grid, max_pixels=max_pixels, progress=progress,
        source=loaded.architecture if isinstance(bundle, Bundle) else os.fspath(bundle), key=key,
    )  # fmt: skip


def explain_model(
    model: nn.Module,
    labels: LabelSpace,
    image: npt.NDArray[np.uint8],
    *,
    truth: npt.NDArray[np.uint8] | None = None,
    pixel: tuple[int, int] | None = None,
    channels: Mapping[str, int] | None = None,
    grid: tuple[int, int] = (5, 7),
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
    source: str = "a network in memory",
    key: str = "",
) -> Explanation:
    """Explain what a network in memory predicts for one image, as :func:`explain_image`, whose arguments and errors are the same.

    Parameters
    ----------
    model : nn.Module
        images (1, 3, H, W) in [0, 1] to logits (1, K, H, W); left in the mode it was in.
    labels : LabelSpace
        K classes.
    image : (H, W, 3) uint8
        RGB.
    source, key : str
        Names of the network and the image on the page.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected an image (H, W, 3) uint8 RGB")
    _check(grid, max_pixels)
    size = image.shape[:2]
    if truth is not None:
        _check_truth(truth, (size[0], size[1]), labels)
    if pixel is not None and not (0 <= pixel[0] < size[0] and 0 <= pixel[1] < size[1]):
        raise DataError(
            f"found pixel {pixel[0]},{pixel[1]} outside the image: expected rows 0 to {size[0] - 1}, columns 0 to {size[1] - 1}"
        )
    image = _shrink_to(image, max_pixels)
    if truth is not None and truth.shape != image.shape[:2]:
        truth = np.asarray(cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    predictor = Predictor.of(model, labels, tile="whole")
    predicted = predictor.predict(image, probs=True)
    label_map, probs = predicted.label_map, predicted.probs
    assert probs is not None
    images = image_to_tensor(image)[None].to(predictor.device)
    given, (height, width) = pixel is not None, image.shape[:2]
    pixel = choose_pixel(label_map) if pixel is None else (pixel[0] * height // size[0], pixel[1] * width // size[1])
    region = find_object(label_map, pixel)
    points, shape = _grid_points((height, width), grid)
    activations = record_activations(model, images, region, channels=channels)
    return Explanation(
        source=source,
        network=type(model.decoder if isinstance(model, OnBackbone) else model).__name__,
        key=key,
        labels=labels,
        size=(size[0], size[1]),
        image=image,
        pixel=pixel,
        pixel_given=given,
        region=region,
        label_map=label_map,
        probs=probs,
        activations=activations,
        skip_predictions=predict_by_skips(model, images),
        receptive_fields=measure_receptive_fields(model, images, [pixel, *points], progress=progress),
        grid=shape,
        truth=truth,
    )


def choose_pixel(label_map: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return the pixel deepest inside the second largest class, since the largest is often the background.

    With a single class, the middle of the image.
    """
    counts = np.bincount(label_map.ravel(), minlength=256)
    second = int(np.argsort(-counts, kind="stable")[1])
    if not counts[second]:
        return label_map.shape[0] // 2, label_map.shape[1] // 2
    inside = np.pad((label_map == second).astype(np.uint8), 1)  # the image's edge counts as a border of the class
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def find_object(label_map: npt.NDArray[np.uint8], pixel: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return (H, W) bool, the connected component of one class that contains a pixel; pixels connect along sides and corners."""
    _, components = cv2.connectedComponents((label_map == label_map[pixel]).astype(np.uint8))
    return np.asarray(components == components[pixel])


def _check_truth(truth: npt.NDArray[np.uint8], size: tuple[int, int], labels: LabelSpace) -> None:
    if truth.shape != size or truth.dtype != np.uint8:
        raise DataError(f"found a mask of shape {truth.shape} and type {truth.dtype}, expected the image's size {size} and uint8")
    if wrong := [int(value) for value in np.unique(truth) if len(labels) <= value < IGNORE]:
        raise DataError(
            f"found {listed(wrong)} in the mask, expected 0 to {len(labels) - 1} for the {len(labels)} classes or {IGNORE} for unknown"
        )


def _check(grid: tuple[int, int], max_pixels: int) -> None:
    if min(grid) < 0 or math.prod(grid) > MAX_POINTS:
        raise RecipeError(f"found a grid of {grid[0]}x{grid[1]} points, expected at most {MAX_POINTS}: each takes a backward pass")
    if max_pixels < 1:
        raise RecipeError(f"found max_pixels {max_pixels}, expected at least 1")


def _shrink_to(image: npt.NDArray[np.uint8], max_pixels: int) -> npt.NDArray[np.uint8]:
    scale = math.sqrt(max_pixels / (image.shape[0] * image.shape[1]))
    if scale >= 1:
        return image
    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grid_points(size: tuple[int, int], grid: tuple[int, int]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return the centres of equal parts of the image, row by row, and the numbers of rows and columns."""
    rows, columns = min(grid[0], size[0]), min(grid[1], size[1])
    if not rows * columns:
        return [], (0, 0)
    centres = [[(2 * i + 1) * n // (2 * count) for i in range(count)] for n, count in zip(size, (rows, columns), strict=True)]
    return [(row, column) for row in centres[0] for column in centres[1]], (rows, columns)
