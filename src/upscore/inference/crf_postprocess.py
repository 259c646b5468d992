"""The fully connected CRF as the last step: the network's probabilities, corrected by the image's colours.

A network's borders are blurred by its strides. The CRF moves them to the edges of the image
and removes specks (:mod:`upscore.crf`). It computes on the CPU, wherever the network does, unless its settings give an engine and a device.

Every pixel of a CRF depends on every other, so that it needs the whole image at once. Images beyond
``MAX_WINDOW_PIXELS``, or whose probabilities are more than ``MAX_WINDOW_VALUES`` numbers, are refined in
overlapping windows instead, in the memory of one window::

      ┌───────────────┐
      │ context       │    each side of a window is read with a context of twice the widest kernel's sigma
      │   ┌───────┐   │    (where that is more than a quarter of what fits, the quarter);
      │   │ window│   │    past two sigmas a kernel has lost 86 % of its strength
      │   └───────┘   │
      └───────────────┘

The result is then nearly that of the whole image, not equal to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.crf import DenseCRF
from upscore.errors import DataError
from upscore.inference.image_tensors import tensor_to_images
from upscore.inference.segmenter import Segmenter, SegmenterWrapper
from upscore.inference.sources import ArraySource, ImageSource
from upscore.inference.tile_grid import Tile, Window, plan_tiles
from upscore.input_spec import RGB, InputSpec

__all__ = ["MAX_WINDOW_PIXELS", "MAX_WINDOW_VALUES", "CRFSegmenter", "RefinedWindow", "crf", "plan_refinement", "refine_windows"]

MAX_WINDOW_PIXELS = 2**21
"""Images of more pixels are refined in windows: 2 million, such as 1448 × 1448."""

MAX_WINDOW_VALUES = 2**25
"""Images of more pixels × classes likewise: 33 million. At these limits the compiled CRF takes some 0.4 GB, NumPy's some 3 GB."""


MAX_EXACT_PIXELS = 2**18
"""Images of more pixels are refused where a CPU would compare all pairs of them: time grows with the square of their number."""


class RefinedWindow(NamedTuple):
    """A window of an image: probabilities (K, h, w) before and after the CRF."""

    window: Window
    before: npt.NDArray[np.float32]  #: the network's
    after: npt.NDArray[np.float32]
    seconds: float  #: that refining took


def crf(segmenter: Segmenter, dense: DenseCRF | None = None, *, spec: InputSpec = RGB, bands: Sequence[str] = ()) -> CRFSegmenter:
    """Wrap ``segmenter`` so that a CRF refines its probabilities; the default kernels where ``dense``, with colours 0 to 255, is not given.

    Put it outermost, around tiles, averages and ensembles, so that it refines their result and reads
    the whole image: ``crf(ensemble([tta(tiled(fcn)), …]))``. ``spec`` describes the images, of which it compares ``bands``, one or three,
    as they are displayed; those that are shown when not given.
    """
    return CRFSegmenter(segmenter, DenseCRF() if dense is None else dense, spec, bands)


class CRFSegmenter(SegmenterWrapper):
    """A segmenter whose probabilities a CRF refines; large images in windows."""

    def __init__(self, segmenter: Segmenter, dense: DenseCRF, spec: InputSpec = RGB, bands: Sequence[str] = ()) -> None:
        super().__init__(segmenter)
        self.dense, self.spec, self.bands = dense, spec, bands

    def __call__(self, images: Tensor) -> Tensor:
        """Return refined probabilities (N, K, H, W) float32 of images (N, C, H, W) float32."""
        probs = self.inner[0](images)
        refined = np.empty(probs.shape, np.float32)
        for before, image, after in zip(probs.detach().float().cpu().numpy(), tensor_to_images(images, self.spec), refined, strict=True):
            source = ArraySource(image, spec=self.spec)
            for tile in refine_windows(self.dense, source, _reader(before), classes=len(before), bands=self.bands):
                after[(slice(None), *tile.window.slices)] = tile.after
        return torch.from_numpy(refined).to(probs.device)

    def scores(self, images: Tensor) -> Tensor:
        """Return the logarithms of the refined probabilities."""
        return self(images).log()


def refine_windows(
    dense: DenseCRF, source: ImageSource, read: Callable[[Window], npt.NDArray[np.float32]], *, classes: int, bands: Sequence[str] = ()
) -> Iterator[RefinedWindow]:
    """Refine one image window by window; memory is that of one window whatever the image's size, and every pixel is in exactly one.

    ``read`` gives the (K, h, w) float32 probabilities of a window; it is called once for each window, and these overlap. ``classes``
    is K; ``bands``, one or three, are compared as they are displayed, those that are shown when not given. DataError where the engine
    compares all pairs of pixels on a CPU, and there are more than ``MAX_EXACT_PIXELS``.
    """
    height, width = source.size
    if dense.engine.endswith("exact") and dense.device in (None, "cpu") and height * width > MAX_EXACT_PIXELS:
        raise DataError(
            f"found an image of {height}×{width} pixels, expected at most {MAX_EXACT_PIXELS} for the CRF engine '{dense.engine}', which "
            "compares all pairs of pixels: use engine 'lattice', or 'torch_exact' on a GPU"
        )
    for tile in plan_refinement(*source.size, classes=classes, reach=_reach(dense)):
        probs = read(tile.crop)
        began = time.perf_counter()
        refined = dense.refine(probs, np.ascontiguousarray(source.spec.display(source.read(tile.crop), bands)), channels="first")
        seconds = time.perf_counter() - began
        inside = (slice(None), *tile.inside)
        yield RefinedWindow(tile.window, probs[inside], refined[inside], seconds)


def plan_refinement(height: int, width: int, *, classes: int, reach: float) -> Iterator[Tile]:
    """Divide an image into what is refined at a time: itself, if it is small enough; the windows cover every pixel exactly once.

    ``reach`` is the widest kernel's sigma in pixels.
    """
    pixels = min(MAX_WINDOW_PIXELS, max(MAX_WINDOW_VALUES // classes, 1))
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
