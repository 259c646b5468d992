"""The fully connected CRF as the last step: what the network says, put right by what the image shows.

A network's borders are blurred by its strides. The CRF moves them to the edges of the image
and removes specks (:mod:`upscore.crf`). It computes on the processor, wherever the network does.

Every pixel of a CRF hears every other, so that it wants the image whole. Images beyond
``WHOLE_PIXELS``, or whose probabilities are more than ``WHOLE_VALUES`` numbers, are refined in
overlapping windows instead, in the memory of one window::

      ┌───────────────┐
      │ heard         │    each side of a window hears twice the widest kernel's sigma beyond
      │   ┌───────┐   │    it (where that is more than a quarter of what fits, the quarter);
      │   │ kept  │   │    past two sigmas a kernel has lost 86 % of its strength
      │   └───────┘   │
      └───────────────┘

The result is then nearly that of the whole image, not equal to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.crf import DenseCRF
from upscore.inference.image_tensors import bytes_of
from upscore.inference.tile_grid import Tile, Window, plan_tiles

__all__ = ["WHOLE_PIXELS", "WHOLE_VALUES", "Refined", "crf", "iterate_refined", "plan_refinement"]

WHOLE_PIXELS = 2**21
"""Images of more pixels are refined in windows: 2 million, such as 1448 × 1448."""

WHOLE_VALUES = 2**25
"""Images of more pixels × classes likewise: 33 million. At these limits the compiled CRF takes some 0.4 GB, NumPy's some 3 GB."""


class Refined(NamedTuple):
    """A piece of an image, before and after.

    Attributes
    ----------
    window : Window
        Where it lies.
    before, after : (K, h, w) float32
        What the network says, and what it and the image say together.
    seconds : float
        What refining took.
    """

    window: Window
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]
    seconds: float


def crf(segmenter: Callable[[Tensor], Tensor], dense: DenseCRF | None = None) -> Callable[[Tensor], Tensor]:
    """Wrap ``segmenter`` so that a CRF refines what it says.

    Put it outermost, around tiles, averages and ensembles, so that it hears all of them and sees
    the whole image: ``crf(ensemble([tta(tiled(fcn)), …]))``.

    Parameters
    ----------
    segmenter : callable
        images (N, 3, H, W) float32 in [0, 1] -> probs (N, K, H, W) float32.
    dense : DenseCRF, optional
        Counts colours from 0 to 255; the usual kernels when not given.

    Returns
    -------
    callable
        A segmenter. Large images are refined in windows; see the module.
    """
    field = DenseCRF() if dense is None else dense

    def segment(images: Tensor) -> Tensor:
        probs = segmenter(images)
        pixels = bytes_of(images)
        refined = np.empty(probs.shape, np.float32)
        for one, image, result in zip(probs.detach().float().cpu().numpy(), pixels, refined, strict=True):
            for piece in iterate_refined(field, image, _reader(one), classes=len(one)):
                result[(slice(None), *piece.window.slices)] = piece.after
        return torch.from_numpy(refined).to(probs.device)

    return segment


def iterate_refined(
    dense: DenseCRF, image: npt.NDArray[np.uint8], read: Callable[[Window], npt.NDArray[np.float32]], *, classes: int
) -> Iterator[Refined]:
    """Refine one image piece by piece; memory is that of one window whatever the image's size.

    Parameters
    ----------
    dense : DenseCRF
        What refines.
    image : (H, W, 3) uint8
        RGB; may be a memory map.
    read : callable
        Window -> its (K, h, w) float32 probabilities; called once for each window, and these overlap.
    classes : int
        K.

    Yields
    ------
    Refined
        The windows cover every pixel exactly once.
    """
    for piece in plan_refinement(*image.shape[:2], classes=classes, reach=_reach(dense)):
        probs = read(piece.crop)
        began = time.perf_counter()
        refined = dense.refine(probs, np.ascontiguousarray(image[piece.crop.slices]), channels="first")
        seconds = time.perf_counter() - began
        inside = (slice(None), *piece.inside)
        yield Refined(piece.window, probs[inside], refined[inside], seconds)


def plan_refinement(height: int, width: int, *, classes: int, reach: float) -> Iterator[Tile]:
    """Divide an image into what is refined at a time: itself, if it is small enough.

    Parameters
    ----------
    height, width, classes : int
        Of the image's probabilities.
    reach : float
        The widest kernel's sigma in pixels.

    Yields
    ------
    Tile
        The windows cover every pixel exactly once.
    """
    pixels = min(WHOLE_PIXELS, max(WHOLE_VALUES // classes, 1))
    if height * width <= pixels:
        whole = Window(0, 0, height, width)
        yield Tile(whole, whole)
        return
    side = math.isqrt(pixels)
    margin = int(min(2 * reach, side // 4))
    yield from plan_tiles(height, width, tile=side - 2 * margin, margin=margin, stride=1)


def _reach(dense: DenseCRF) -> float:
    """Return the widest sigma over positions; a kernel without one reaches everywhere."""
    sigmas = [getattr(kernel, "sigma", None) for kernel in dense.kernels]
    return max((math.inf if sigma is None else float(np.max(sigma)) for sigma in sigmas), default=0.0)


def _reader(probs: npt.NDArray[np.float32]) -> Callable[[Window], npt.NDArray[np.float32]]:
    return lambda window: probs[(slice(None), *window.slices)]
