"""Everything there is to say about one image and one network, as arrays.

::

    image ── shrunk to a bound ── network ──┬── probs, label map ── pixel, object at it
                                              ├── activations of the object
                                              ├── what each skip adds
                                              └── fields of the pixel and of a grid of points
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
from upscore.errors import BundleError, DataError, RecipeError
from upscore.explain.activations import Activation, record_activations
from upscore.explain.receptive_fields import Field, describe_fields
from upscore.explain.skip_contributions import Stream, label_streams
from upscore.inference.segmenter import NetworkSegmenter, choose_device
from upscore.models.bundle import Bundle
from upscore.types import LabelSpace

__all__ = ["PIXELS", "Explanation", "choose_pixel", "explain_image", "explain_model", "find_object"]

PIXELS = 480 * 640
"""Larger images are shrunk to this many pixels: a derivative needs all that a network computes, at once."""

MOST_POINTS = 400


@dataclass(frozen=True)
class Explanation:
    """One image, explained.

    Parameters
    ----------
    source : str
        Where the network came from.
    network : str
        Its class, such as "SegNet".
    key : str
        The image's path, or "".
    labels : LabelSpace
        The classes.
    size : (int, int)
        H and W of the image as it was given.
    image : (H, W, 3) uint8
        RGB, as the network saw it.
    at : (int, int)
        Row and column in ``image`` of the pixel that is looked at.
    given : bool
        Whether the pixel was given, or chosen by :func:`choose_pixel`.
    region : (H, W) bool
        The object at the pixel.
    label_map : (H, W) uint8
        The most probable class.
    probs : (K, H, W) float32 in [0, 1]
        Sum to 1 over K.
    activations : list of Activation
        In the order in which they are made.
    streams : list of Stream
        Of an FCN, coarse to fine; empty for other networks.
    fields : list of Field
        The pixel's, then those of the grid's points, row by row.
    grid : (int, int)
        Rows and columns of points.
    """

    source: str
    network: str
    key: str
    labels: LabelSpace
    size: tuple[int, int]
    image: npt.NDArray[np.uint8]
    at: tuple[int, int]
    given: bool
    region: npt.NDArray[np.bool_]
    label_map: npt.NDArray[np.uint8]
    probs: npt.NDArray[np.float32]
    activations: list[Activation]
    streams: list[Stream]
    fields: list[Field]
    grid: tuple[int, int]


def explain_image(
    bundle: Bundle | str | os.PathLike[str],
    image: npt.NDArray[np.uint8] | str | os.PathLike[str],
    *,
    at: tuple[int, int] | None = None,
    channels: Mapping[str, int] | None = None,
    grid: tuple[int, int] = (5, 7),
    pixels: int = PIXELS,
    device: str | torch.device = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Explanation:
    """Explain what a bundle's network makes of one image.

    The network is looked at alone, in single precision: without the flips, scales, tiles and CRF
    that the bundle may ask for in prediction.

    Parameters
    ----------
    bundle : Bundle or path
        Whose network.
    image : (H, W, 3) uint8 RGB, or path
        Any size from 1×1.
    at : (int, int), optional
        Row and column, in the image as it is given, of the pixel to look at; :func:`choose_pixel` when not given.
    channels : mapping of str to int, optional
        Layers by name, such as ``decoder.deconv4`` or ``decoder.deconv4.unpooled``, and the channel to show first.
    grid : (int, int)
        Rows and columns of further points whose fields are computed, one backward pass each; at
        most 400, and no more than the image has pixels. (0, 0) for none.
    pixels : int
        Larger images are shrunk to this many.
    device : str or torch.device
        As in :func:`upscore.inference.segmenter.choose_device`.
    progress : callable, optional
        Told (done, total) as the fields are computed.

    Raises
    ------
    BundleError
        The bundle is damaged.
    DataError
        The image is none, or the pixel is outside it.
    RecipeError
        A setting is impossible.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(Path(bundle))
    key = "" if isinstance(image, np.ndarray) else os.fspath(image)
    pixels_of = image if isinstance(image, np.ndarray) else read_image(image)
    return explain_model(
        loaded.build().to(choose_device(device)), loaded.labels, pixels_of,
        at=at, channels=channels, grid=grid, pixels=pixels, progress=progress,
        source=loaded.architecture if isinstance(bundle, Bundle) else os.fspath(bundle), key=key,
    )  # fmt: skip


def explain_model(
    model: nn.Module,
    labels: LabelSpace,
    image: npt.NDArray[np.uint8],
    *,
    at: tuple[int, int] | None = None,
    channels: Mapping[str, int] | None = None,
    grid: tuple[int, int] = (5, 7),
    pixels: int = PIXELS,
    progress: Callable[[int, int], None] | None = None,
    source: str = "a live network",
    key: str = "",
) -> Explanation:
    """Explain what a live network makes of one image.

    Parameters
    ----------
    model : nn.Module
        images (1, 3, H, W) in [0, 1] to logits (1, K, H, W); borrowed, and left in the mode it was in.
    labels : LabelSpace
        K classes.
    image : (H, W, 3) uint8
        RGB.
    at, channels, grid, pixels, progress
        As in :func:`explain_image`.
    source, key : str
        What to call the network and the image.

    Raises
    ------
    BundleError, DataError, RecipeError
        As there.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected an image (H, W, 3) uint8 RGB")
    _check(grid, pixels)
    size = image.shape[:2]
    if at is not None and not (0 <= at[0] < size[0] and 0 <= at[1] < size[1]):
        raise DataError(f"found pixel {at[0]},{at[1]} outside the image: expected rows 0 to {size[0] - 1}, columns 0 to {size[1] - 1}")
    image = _shrink_to(image, pixels)
    segment = NetworkSegmenter(model)
    images = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(segment.device)[None].float() / 255
    probs = segment(images)[0].cpu().numpy()
    if len(probs) != len(labels):
        raise BundleError(f"the network gives {len(probs)} classes, but its labels name {len(labels)}: the bundle does not fit together")
    if not np.isfinite(probs).all():
        raise BundleError("the network gives probabilities that are not numbers: its weights are damaged, or its training diverged")
    label_map = probs.argmax(0).astype(np.uint8)
    pixel = choose_pixel(label_map) if at is None else (at[0] * image.shape[0] // size[0], at[1] * image.shape[1] // size[1])
    region = find_object(label_map, pixel)
    points, shape = _lay_points(image.shape[:2], grid)
    activations = record_activations(model, images, region, channels=channels)
    return Explanation(
        source=source,
        network=type(model).__name__,
        key=key,
        labels=labels,
        size=(size[0], size[1]),
        image=image,
        at=pixel,
        given=at is not None,
        region=region,
        label_map=label_map,
        probs=probs,
        activations=activations,
        streams=label_streams(model, images),
        fields=describe_fields(model, images, [pixel, *points], progress=progress),
        grid=shape,
    )


def choose_pixel(label_map: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return the pixel deepest inside the second largest class, since the largest is often what lies behind.

    With a single class, the middle of the image.
    """
    counts = np.bincount(label_map.ravel(), minlength=256)
    second = int(np.argsort(-counts, kind="stable")[1])
    if not counts[second]:
        return label_map.shape[0] // 2, label_map.shape[1] // 2
    inside = np.pad((label_map == second).astype(np.uint8), 1)  # the image's edge is an edge of the object
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def find_object(label_map: npt.NDArray[np.uint8], at: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the connected region (H, W) bool of one class that holds a pixel; pixels touch along sides and corners."""
    _, regions = cv2.connectedComponents((label_map == label_map[at]).astype(np.uint8))
    return np.asarray(regions == regions[at])


def _check(grid: tuple[int, int], pixels: int) -> None:
    if min(grid) < 0 or math.prod(grid) > MOST_POINTS:
        raise RecipeError(f"found a grid of {grid[0]}x{grid[1]} points, expected at most {MOST_POINTS}: each takes a backward pass")
    if pixels < 1:
        raise RecipeError(f"found {pixels} pixels to shrink images to, expected at least 1")


def _shrink_to(image: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.uint8]:
    scale = math.sqrt(pixels / (image.shape[0] * image.shape[1]))
    if scale >= 1:
        return image
    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _lay_points(size: tuple[int, int], grid: tuple[int, int]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return the middles of equal parts of the image, row by row, and how many rows and columns there are."""
    rows, columns = min(grid[0], size[0]), min(grid[1], size[1])
    if not rows * columns:
        return [], (0, 0)
    middles = [[(2 * i + 1) * n // (2 * count) for i in range(count)] for n, count in zip(size, (rows, columns), strict=True)]
    return [(row, column) for row in middles[0] for column in middles[1]], (rows, columns)
