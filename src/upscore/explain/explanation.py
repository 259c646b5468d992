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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from upscore.data.array_like import image_array
from upscore.data.band_groups import map_bands
from upscore.data.image_files import read_image_with_metadata
from upscore.data.mask_files import read_label
from upscore.errors import DataError, RecipeError
from upscore.explain.activations import Activation, record_activations
from upscore.explain.receptive_fields import ReceptiveField, measure_receptive_fields
from upscore.explain.skip_contributions import SkipPrediction, predict_by_skips
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.predictor import ImageLike, Predictor
from upscore.inference.segmenter import choose_device
from upscore.input_spec import RGB, Image, InputSpec
from upscore.models.bundle import Bundle
from upscore.models.on_backbone import OnBackbone
from upscore.models.single_head import with_single_head
from upscore.text import listed
from upscore.types import IGNORE, LabelSpace, as_label_space

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
    image: npt.NDArray[np.uint8]  #: (H, W, 3) uint8 RGB, the network's input as it is displayed
    pixel: tuple[int, int]  #: row and column in ``image`` of the explained pixel
    pixel_given: bool  #: whether the caller gave the pixel, or :func:`choose_pixel` chose it
    region: npt.NDArray[np.bool_]  #: (H, W), the object at the pixel: the connected component of its class
    label_map: npt.NDArray[np.uint8]  #: (H, W), the most probable class
    input: InputSpec  #: the bands of the network's input
    probs: npt.NDArray[np.float32]  #: (K, H, W) in [0, 1]; sum to 1 over K
    activations: list[Activation]  #: in the order in which they are computed
    skip_predictions: list[SkipPrediction]  #: of an FCN, coarse to fine; empty for other networks
    receptive_fields: list[ReceptiveField]  #: the pixel's, then those of the grid's points, row by row
    grid: tuple[int, int]  #: rows and columns of points
    truth: npt.NDArray[np.uint8] | None = None  #: (H, W), the true classes, 255 where they are unknown; None where they were not given


def explain_image(
    model: Bundle | nn.Module | str | os.PathLike[str],
    image: ImageLike,
    *,
    labels: LabelSpace | Sequence[str] | None = None,
    input: InputSpec | None = None,
    truth: npt.NDArray[np.uint8] | str | os.PathLike[str] | None = None,
    pixel: tuple[int, int] | None = None,
    channels: Mapping[str, int] | None = None,
    grid: tuple[int, int] = (5, 7),
    max_pixels: int = MAX_PIXELS,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain what a network predicts for one image.

    The network runs alone, in single precision: without the flips, scales, tiles and CRF
    of the bundle's inference settings.

    Parameters
    ----------
    model : Bundle, path, or nn.Module
        The network of a bundle, or one in memory, images (N, 3, H, W) in [0, 1] to logits (N, K, H, W).
    image : array, tensor, PIL image, or path
        As for :meth:`upscore.inference.predictor.Predictor.predict`.
    labels : LabelSpace or sequence of str
        The K classes of a module; a bundle has its own.
    input : InputSpec, optional
        The images of a module; RGB of 8 bits when not given.
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
    device : str or torch.device, optional
        As in :func:`upscore.inference.segmenter.choose_device`. When not given, the best for a bundle, and where it is for a module.
    progress : callable, optional
        Called with (done, total) after each receptive field.

    Raises
    ------
    BundleError, DataError, RecipeError
        The bundle is damaged; the image or the mask cannot be read, they differ in size, the mask holds a value that is no class, or
        the pixel is outside the image; a setting is impossible.
    """
    if isinstance(model, nn.Module):
        if labels is None:
            raise DataError(f"found {type(model).__name__} without labels, expected the names of its classes: give labels=")
        network, source = model if device is None else model.to(choose_device(device)), f"live {type(model).__name__}"
        classes, images = as_label_space(labels), input or RGB
    else:
        if labels is not None or input is not None:
            raise RecipeError(f"found {'labels' if labels is not None else 'input'} for a bundle, which has its own: leave it out")
        loaded = with_single_head(model if isinstance(model, Bundle) else Bundle.load(Path(model)))
        network, classes, images = loaded.build().to(choose_device(device or "auto")), loaded.labels, loaded.input
        source = loaded.architecture if isinstance(model, Bundle) else os.fspath(model)
    is_file = isinstance(image, str | os.PathLike)
    array = read_image_with_metadata(cast(Any, image), images).pixels if is_file else image_array(image, images)
    mask = read_label(truth) if isinstance(truth, str | os.PathLike) else truth
    return explain_model(
        network, classes, array, input=images, truth=mask,
        pixel=pixel, channels=channels, grid=grid, max_pixels=max_pixels, progress=progress,
        source=source, key=os.fspath(image) if isinstance(image, str | os.PathLike) else "",
    )  # fmt: skip


def explain_model(
    model: nn.Module,
    labels: LabelSpace,
    image: Image,
    *,
    input: InputSpec = RGB,
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
        images (1, C, H, W), of RGB in [0, 1], to logits (1, K, H, W); left in the mode it was in.
    labels : LabelSpace
        K classes.
    image : (H, W, C) array
        Of the bands of ``input``.
    input : InputSpec
        The bands.
    source, key : str
        Names of the network and the image on the page.
    """
    input.check(image)
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
    predictor = Predictor(model, labels=labels, input=input, tile="whole")
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
        image=input.display(image),
        input=input,
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


def _shrink_to(image: Image, max_pixels: int) -> Image:
    scale = math.sqrt(max_pixels / (image.shape[0] * image.shape[1]))
    if scale >= 1:
        return image
    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    shrunk: Image = map_bands(lambda bands, _: np.asarray(cv2.resize(bands, size, interpolation=cv2.INTER_AREA)), image)
    return shrunk


def _grid_points(size: tuple[int, int], grid: tuple[int, int]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return the centres of equal parts of the image, row by row, and the numbers of rows and columns."""
    rows, columns = min(grid[0], size[0]), min(grid[1], size[1])
    if not rows * columns:
        return [], (0, 0)
    centres = [[(2 * i + 1) * n // (2 * count) for i in range(count)] for n, count in zip(size, (rows, columns), strict=True)]
    return [(row, column) for row in centres[0] for column in centres[1]], (rows, columns)
