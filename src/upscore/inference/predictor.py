"""The one way from a picture to its labels: the command line, training, evaluation and demo all call it.

::

    bundle ── network ── averaging (flips, scales) ── tiles ── CRF ── label map, probabilities
              each step takes a segmenter and gives one back; the settings say which are used

Probabilities live one tile at a time; with a CRF, one of its windows, which are larger. A
picture of any size needs its own bytes, the label map and one of either.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.crf import DenseCRF
from upscore.data.pictures import read_picture
from upscore.errors import BundleError, DataError, GeometryError, RecipeError
from upscore.inference.averaging import averaging_context, ensemble, tta
from upscore.inference.refine import Refined, crf, iterate_refined
from upscore.inference.segmenter import NetworkSegmenter, Segmenter, choose_device
from upscore.inference.settings import CRFSettings, InferenceSettings
from upscore.inference.tiling import iterate_tiles, tiled
from upscore.inference.windows import Window, widen
from upscore.models.bundle import Bundle
from upscore.types import LabelSpace, Prediction

__all__ = ["CRFSettings", "Comparison", "InferenceSettings", "Predictor"]

WHOLE_PIXELS = {"cpu": 1_500_000, "cuda": 4_000_000, "mps": 2_000_000}
"""Pictures of at most this many pixels are labelled in one piece under ``tile="auto"``."""

AUTO_TILES = (256, 1024)
"""The sides between which ``tile="auto"`` chooses; with its margins a tile is about ``WHOLE_PIXELS``."""

UNKNOWN_STRIDE = 32
"""Taken for networks that do not say theirs, when a margin is given for them."""


class Comparison(NamedTuple):
    """One picture as the network alone labels it, and as it is labelled with the CRF.

    Attributes
    ----------
    before, after : Prediction
        Without and with the CRF.
    seconds : float
        What the CRF took.
    """

    before: Prediction
    after: Prediction
    seconds: float


class Predictor:
    """Labels pictures with the network of a bundle.

    Parameters
    ----------
    bundle : Bundle, path, or sequence of them
        Several are averaged; they must have the same classes.
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    settings : InferenceSettings, optional
        In place of the (first) bundle's own.
    **overrides
        Single settings by name: ``tile``, ``margin``, ``flips``, ``scales``, ``precision``,
        ``crf`` (True, False, a mapping of its numbers, or CRFSettings).

    Attributes
    ----------
    labels : LabelSpace
        What the numbers of a label map mean.
    settings : InferenceSettings
        In force.
    device : torch.device
        Where it computes.
    source : str
        Where the network came from: the bundle's path, its architecture, or the class of a live model.
    card : dict
        The (first) bundle's card; empty for a live model.

    Raises
    ------
    BundleError
        A bundle is damaged, or several differ in their classes.
    RecipeError
        A setting or the device is impossible.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | Sequence[Bundle | str | os.PathLike[str]],
        *,
        device: str | torch.device = "auto",
        settings: InferenceSettings | None = None,
        **overrides: object,
    ) -> None:
        given = [bundle] if isinstance(bundle, (Bundle, str, os.PathLike)) else list(bundle)
        if not given:
            raise BundleError("found no bundle, expected at least one")
        bundles = [one if isinstance(one, Bundle) else Bundle.load(Path(one)) for one in given]
        for other in bundles[1:]:
            if difference := bundles[0].labels.difference(other.labels):
                raise BundleError(f"the bundles' classes differ: {difference}: an ensemble needs the same labels")
        place = choose_device(device)
        chosen = InferenceSettings.of(settings or bundles[0].inference, **overrides)
        models = [one.build().to(place) for one in bundles]
        self._assemble(models, bundles[0].labels, chosen, channels_last=place.type != "mps")
        self.source = ", ".join(one.architecture if isinstance(one, Bundle) else os.fspath(one) for one in given)
        self.card |= bundles[0].card

    @classmethod
    def of(
        cls,
        model: nn.Module,
        labels: LabelSpace,
        *,
        device: str | torch.device | None = None,
        settings: InferenceSettings | None = None,
        **overrides: object,
    ) -> Predictor:
        """Return a predictor around a live model, which is borrowed as it is.

        The model may be in the middle of its training: its weights are neither copied nor
        rearranged, and its training mode is what it was after every call.

        Parameters
        ----------
        model : nn.Module
            images (N, 3, H, W) in [0, 1] -> logits (N, K, H, W). Its ``geometry`` attribute,
            a :class:`upscore.ops.geometry.Geometry`, and ``stride``, an int, make exact tiles possible.
        labels : LabelSpace
            K classes.
        device : str or torch.device, optional
            The model is moved there; it stays where it is when not given.
        settings, **overrides
            As for the class.
        """
        predictor = cls.__new__(cls)
        if device is not None:
            model.to(choose_device(device))
        predictor._assemble([model], labels, InferenceSettings.of(settings, **overrides), channels_last=False)
        return predictor

    def _assemble(self, models: list[nn.Module], labels: LabelSpace, settings: InferenceSettings, *, channels_last: bool) -> None:
        networks = [NetworkSegmenter(model, precision=settings.precision, channels_last=channels_last) for model in models]
        self.labels = labels
        self.settings = settings
        self.device = networks[0].device
        self.source = f"live {type(models[0]).__name__}"
        self.card: dict[str, object] = {}
        together: Segmenter = networks[0] if len(networks) == 1 else ensemble(networks)
        self._segment = tta(together, flips=settings.flips, scales=settings.scales)
        self._margin, self._stride, self._grain = _context(models, settings)
        self._dense = settings.crf.dense() if settings.crf is not None and settings.crf.on else None

    def predict(self, image: npt.NDArray[np.uint8] | str | os.PathLike[str], *, probs: bool = False) -> Prediction:
        """Label one picture.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB, or path
            Any size from 1×1.
        probs : bool
            Keep the probabilities too: K × 4 bytes a pixel.

        Returns
        -------
        Prediction
            Exactly the picture's size; ``key`` is the path, if it was one. Of equally
            probable classes the first is taken.

        Raises
        ------
        DataError
            The array or file is not such a picture.
        GeometryError
            Tiles are asked of a network whose field of view is not bounded, without a margin.
        """
        key = "" if isinstance(image, np.ndarray) else os.fspath(image)
        pixels = image if isinstance(image, np.ndarray) else read_picture(image)
        label_map = np.empty(pixels.shape[:2], np.uint8)
        kept = np.empty((len(self.labels), *pixels.shape[:2]), np.float32) if probs else None
        for window, part in self.iterate(pixels):
            label_map[window.slices] = part.argmax(0).to(torch.uint8).cpu().numpy()
            if kept is not None:
                kept[(slice(None), *window.slices)] = part.cpu().numpy()
        return Prediction(label_map, self.labels, kept, key)

    def compare(self, image: npt.NDArray[np.uint8]) -> Comparison:
        """Label one picture without and with the CRF; the network runs once.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.

        Raises
        ------
        RecipeError
            The settings have no CRF, or it is off.
        DataError, GeometryError
            As :meth:`predict`.
        """
        if self._dense is None:
            raise RecipeError("found no CRF to compare with: give crf=True")
        _check_picture(image)
        before, after, seconds = np.empty(image.shape[:2], np.uint8), np.empty(image.shape[:2], np.uint8), 0.0
        for piece in self._refine(image, self._dense):
            before[piece.window.slices], after[piece.window.slices] = piece.before.argmax(0), piece.after.argmax(0)
            seconds += piece.seconds
        return Comparison(Prediction(before, self.labels), Prediction(after, self.labels), seconds)

    def iterate(self, image: npt.NDArray[np.uint8]) -> Iterator[tuple[Window, Tensor]]:
        """Yield the probabilities of one picture piece by piece, in bounded memory.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB; may be a memory map.

        Yields
        ------
        window : Window
            Where the piece lies; every pixel is in exactly one. A tile, or with a CRF what is
            refined at a time (:mod:`upscore.inference.refine`).
        probs : (K, h, w) float32 tensor
            Its probabilities, on the predictor's device.

        Raises
        ------
        DataError, GeometryError
            As :meth:`predict`.
        """
        _check_picture(image)
        if self._dense is not None:
            for piece in self._refine(image, self._dense):
                yield piece.window, torch.from_numpy(np.ascontiguousarray(piece.after)).to(self.device)
            return
        for window, probs in iterate_tiles(self._segment, image, **self._tiling(*image.shape[:2])):
            self._check(probs)
            yield window, probs

    def predict_probs(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, 3, H, W) float32 in [0, 1].

        The settings hold here too; only the result is whole. On the predictor's device.
        """
        height, width = images.shape[-2:]
        network = tiled(self._segment, **self._tiling(height, width))

        def segment(images: Tensor) -> Tensor:
            probs = network(images)
            self._check(probs[0])
            return probs

        return (segment if self._dense is None else crf(segment, self._dense))(images)

    def _refine(self, image: npt.NDArray[np.uint8], dense: DenseCRF) -> Iterator[Refined]:
        """Yield the picture before and after the CRF, piece by piece."""
        height, width = image.shape[:2]
        tiling = self._tiling(height, width)
        whole = self._read(image, Window(0, 0, height, width), tiling) if tiling["tile"] >= max(height, width) else None

        def read(window: Window) -> npt.NDArray[np.float32]:
            # A network that is not cut holds everything anyway, and should not run for each window.
            return self._read(image, window, tiling) if whole is None else whole[(slice(None), *window.slices)]

        yield from iterate_refined(dense, image, read, classes=len(self.labels))

    def _read(self, image: npt.NDArray[np.uint8], window: Window, tiling: dict[str, int]) -> npt.NDArray[np.float32]:
        """Return the network's probabilities of a window (K, h, w): those that the whole picture would give there."""
        context = {name: tiling[name] for name in ("margin", "stride", "grain")}
        wide = widen(window, *image.shape[:2], **context)
        kept = np.empty((len(self.labels), window.bottom - window.top, window.right - window.left), np.float32)
        for tile, probs in iterate_tiles(self._segment, image[wide.slices], **tiling):
            self._check(probs)
            # Where the tile lies in the window, and what of it does.
            top, left = wide.top + tile.top - window.top, wide.left + tile.left - window.left
            part = probs[:, max(0, -top) :, max(0, -left) :].cpu().numpy()
            room = kept[:, max(0, top) :, max(0, left) :]
            rows, columns = min(part.shape[1], room.shape[1]), min(part.shape[2], room.shape[2])
            room[:, :rows, :columns] = part[:, :rows, :columns]
        return kept

    def _check(self, probs: Tensor) -> None:
        if len(probs) != len(self.labels):
            raise BundleError(
                f"the network gives {len(probs)} classes, but its labels name {len(self.labels)}: the bundle does not fit together"
            )
        if not bool(probs.isfinite().all()):
            raise BundleError("the network gives probabilities that are not numbers: its weights are damaged, or its training diverged")

    def _tiling(self, height: int, width: int) -> dict[str, int]:
        """Return the arguments for tiles of a picture of this size; one tile is the whole picture."""
        tile = self._tile_side(height, width)
        if tile >= max(height, width):
            return {"tile": tile, "margin": 0, "stride": self._stride, "grain": self._grain}
        if self._margin is None:
            raise GeometryError(
                f"tiles of {tile} are asked for, but the network's field of view is unbounded or unknown: "
                "use tile 'whole', or give a margin in pixels for a result that is nearly that of the whole picture"
            )
        return {"tile": tile, "margin": self._margin, "stride": self._stride, "grain": self._grain}

    def _tile_side(self, height: int, width: int) -> int:
        whole = max(height, width)
        if self.settings.tile == "whole":
            return whole
        if self.settings.tile != "auto":
            return self.settings.tile
        budget = WHOLE_PIXELS.get(self.device.type, WHOLE_PIXELS["cpu"]) / max(1.0, *self.settings.scales) ** 2
        if self._margin is None or height * width <= budget:
            return whole
        least, most = AUTO_TILES
        side = min(max(math.isqrt(int(budget)) - 2 * self._margin, least), most)
        return max(side // self._stride, 1) * self._stride


def _check_picture(image: npt.NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected a picture (H, W, 3) uint8 RGB")


def _context(models: list[nn.Module], settings: InferenceSettings) -> tuple[int | None, int, int]:
    """Return (margin, stride, grain) for tiles; margin None where no margin would do."""
    geometries = [getattr(model, "geometry", None) for model in models]
    bounded = all(geometry is not None and geometry.field != math.inf for geometry in geometries)
    strides = [_stride_of(model) for model in models]
    margin = max(geometry.margin() for geometry in geometries if geometry is not None) if bounded else None
    if settings.margin is not None:
        margin = settings.margin
    wide, stride, grain = averaging_context(margin=margin or 0, stride=math.lcm(*strides), scales=settings.scales)
    return (None if margin is None else wide), stride, grain


def _stride_of(model: nn.Module) -> int:
    """Return where crops may begin; a lone layer's ``stride`` is a pair of another meaning."""
    stride, geometry = getattr(model, "stride", None), getattr(model, "geometry", None)
    if isinstance(stride, int) and stride > 0:
        return stride
    return int(geometry.jump) if geometry is not None else UNKNOWN_STRIDE
