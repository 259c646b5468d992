"""The one way from an image to its labels: the command line, training, evaluation and demo all call it.

::

    bundles ── networks ── averaging ── proposals ── ensemble ── tiles ── CRF ── label map, probabilities
               each step takes a segmenter and gives one back; the settings say which are used

Probabilities live one tile at a time; with a CRF, one of its windows, which are larger. A
image of any size needs its own bytes, the label map and one of either. With proposals it also
needs the probabilities of every pixel, since boxes lie anywhere.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.crf import DenseCRF
from upscore.data.image_files import read_image_with_metadata
from upscore.errors import BundleError, DataError, GeometryError, RecipeError, UpscoreError
from upscore.inference.crf_postprocess import Refined, crf, iterate_refined
from upscore.inference.pipeline import Member, Tiles, combine, context_of
from upscore.inference.proposal_aggregation import check_canvas
from upscore.inference.segmenter import NetworkSegmenter, Segmenter, choose_device, runs_channels_last
from upscore.inference.tile_grid import Window
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, load_model
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.proposals import BoxFile, CachedProposer, Proposer, create_proposer, proposals_folder
from upscore.settings import InferenceSettings, ProposalSettings
from upscore.types import LabelSpace, Prediction

__all__ = ["Comparison", "Predictor"]

WHOLE_PIXELS = {"cpu": 1_500_000, "cuda": 4_000_000, "mps": 2_000_000}
"""Images of at most this many pixels are labelled in one piece under ``tile="auto"``."""

AUTO_TILES = (256, 1024)
"""The sides between which ``tile="auto"`` chooses; with its margins a tile is about ``WHOLE_PIXELS``."""

LEAST_BLENDED = 256
"""The least side of tiles of a network that looks at the whole image: smaller ones show it too little of it."""

TOLERANCE = 1e-3
"""By how much values of an image tensor may leave [0, 1], as rounding does."""

NO_PROPOSALS = "no proposals were found: labelled as a whole"
"""What is noted of an image in which no box is found."""

BLENDED = (
    "labelled in overlapping tiles of up to {tile} pixels: the network looks at the whole image, so the result is near that of "
    "one pass over it, not equal to it (tile 'whole' makes that pass, in memory that grows with the image)"
)
"""What is noted of an image that was cut although no margin makes tiles equal to it."""


class Comparison(NamedTuple):
    """One image as the network alone labels it, and as it is labelled with the CRF.

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
    """Labels images with the network of a bundle, or with several.

    Parameters
    ----------
    bundle : Bundle, Ensemble, path, or sequence of them
        Several are put together as ``combine`` says; they must have the same classes.
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    settings : InferenceSettings, optional
        In place of the (first) bundle's own.
    boxes : BoxFile or path, optional
        Boxes to look at in place of finding some, by image.
    propose : callable, optional
        Finds the boxes, in place of what the settings name. It is asked every time:
        :class:`upscore.proposals.CachedProposer` keeps what it finds.
    **overrides
        Single settings by name: ``tile``, ``margin``, ``flips``, ``scales``, ``precision``, ``combine``,
        ``proposals`` (a number of boxes, True, False, or a mapping of its numbers),
        ``crf`` (True, False, a mapping of its numbers, or CRFSettings).

    Attributes
    ----------
    labels : LabelSpace
        What the numbers of a label map mean.
    settings : InferenceSettings
        In force; ``proposals`` are those of the first network that looks at some.
    device : torch.device
        Where it computes.
    source : str
        Where the network came from: the bundle's path, its architecture, or the class of a live model.
    card : dict
        The (first) bundle's card; empty for a live model.
    cards : tuple of dict
        The cards of all networks that are put together; empty for a live model.
    members : tuple of Member
        The networks, and what each looks at.

    Raises
    ------
    BundleError
        A bundle is damaged, or several differ in their classes.
    DataError
        The boxes cannot be read.
    RecipeError
        A setting or the device is impossible.

    Notes
    -----
    Whose settings hold where there are several bundles: :meth:`upscore.models.ensemble.Ensemble.resolve_settings`.
    """

    def __init__(
        self,
        bundle: Bundle | Ensemble | str | os.PathLike[str] | Sequence[Bundle | Ensemble | str | os.PathLike[str]],
        *,
        device: str | torch.device = "auto",
        settings: InferenceSettings | None = None,
        boxes: BoxFile | str | os.PathLike[str] | None = None,
        propose: Proposer | None = None,
        **overrides: object,
    ) -> None:
        given = [bundle] if isinstance(bundle, (Bundle, Ensemble, str, os.PathLike)) else list(bundle)
        if not given:
            raise BundleError("found no bundle, expected at least one")
        opened = [one if isinstance(one, (Bundle, Ensemble)) else load_model(Path(one)) for one in given]
        together = Ensemble.of(opened).resolve_settings(settings, **overrides)
        place = choose_device(device)
        models = [one.build().to(place) for one in together.members]
        looks = [one.inference.proposals for one in together.members]
        self._assemble(models, looks, together.labels, together.inference, channels_last=runs_channels_last(place))
        self._find_boxes(boxes, propose)
        self.source = ", ".join(_source(one) for one in given)
        self.card |= opened[0].card
        self.cards += tuple(one.card for one in together.members)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        labels: LabelSpace,
        *,
        device: str | torch.device | None = None,
        settings: InferenceSettings | None = None,
        channels_last: bool = False,
        **overrides: object,
    ) -> Predictor:
        """Return a predictor around a live model, which is borrowed as it is.

        The model may be in the middle of its training: its weights are neither copied nor
        rearranged, unless ``channels_last`` asks for it, and its training mode is what it was after every call.

        Parameters
        ----------
        model : nn.Module
            images (N, 3, H, W) in [0, 1] -> logits (N, K, H, W). Its ``geometry`` attribute,
            a :class:`upscore.ops.geometry.Geometry`, and ``stride``, an int, make exact tiles possible;
            without them large images are labelled in overlapping tiles.
        labels : LabelSpace
            K classes.
        device : str or torch.device, optional
            The model is moved there; it stays where it is when not given.
        channels_last : bool
            Compute in NHWC memory order, as a bundle's network is: the weights are rearranged in memory.
        settings, **overrides
            As for the class.
        """
        predictor = cls.__new__(cls)
        if device is not None:
            model.to(choose_device(device))
        chosen = (settings or InferenceSettings()).with_overrides(**overrides)
        predictor._assemble([model], [chosen.proposals], labels, chosen, channels_last=channels_last)
        return predictor

    def _assemble(
        self,
        models: list[nn.Module],
        proposals: list[ProposalSettings | None],
        labels: LabelSpace,
        settings: InferenceSettings,
        *,
        channels_last: bool,
    ) -> None:
        networks = [NetworkSegmenter(model, precision=settings.precision, channels_last=channels_last) for model in models]
        self.labels = labels
        self.settings = settings
        self.device = networks[0].device
        self.source = f"live {type(models[0]).__name__}"
        self.card: dict[str, object] = {}
        self.cards: tuple[Mapping[str, object], ...] = ()
        self.members = tuple(map(Member, networks, proposals))
        self._find_boxes(None, None)
        self._context = context_of([one.network.model for one in self.members if one.proposals is None], settings)
        self._dense = settings.crf.build() if settings.crf is not None and settings.crf.enabled else None

    def _find_boxes(self, boxes: BoxFile | str | os.PathLike[str] | None, propose: Proposer | None) -> None:
        if boxes is not None and propose is not None:
            raise RecipeError("found boxes, and what finds them: leave one of them out")
        if (boxes is not None or propose is not None) and not self._looks_at_proposals:
            raise RecipeError("found boxes, or what finds them, and no network that looks at proposals: give proposals, a number of them")
        self._boxes = boxes if isinstance(boxes, BoxFile) or boxes is None else BoxFile(Path(boxes))
        self._propose = propose

    def predict(self, image: npt.NDArray[np.uint8] | str | os.PathLike[str], *, probs: bool = False, name: str = "") -> Prediction:
        """Label one image.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB, or path
            Any size from 1×1.
        probs : bool
            Keep the probabilities too: K × 4 bytes a pixel.
        name : str
            Of the image, in a file of boxes; its path when not given.

        Returns
        -------
        Prediction
            Exactly the image's size; ``key`` is the path, if it was one. Of equally
            probable classes the first is taken. ``warnings`` say what the reader of a file decided, and
            if there were no proposals or tiles were blended.

        Raises
        ------
        DataError
            The array or file is not such an image, or there are no boxes for it in the file of them.
        GeometryError
            Tiles of less than ``LEAST_BLENDED`` pixels are asked of a network that looks at the whole image, without a margin.
        RecipeError
            Memory does not suffice with these settings; which of them to change is said.
        """
        if not isinstance(image, np.ndarray | str | os.PathLike):
            raise DataError(
                f"found {type(image).__name__}, expected an image (H, W, 3) uint8 RGB as a NumPy array, or a path; "
                "predict_probs takes tensors (N, 3, H, W)"
            )
        key = "" if isinstance(image, np.ndarray) else os.fspath(image)
        notes: list[str] = []
        if isinstance(image, np.ndarray):
            pixels = image
        else:
            read = read_image_with_metadata(image)
            pixels, notes = read.pixels, [*read.warnings]
        _check_image(pixels)
        label_map = np.empty(pixels.shape[:2], np.uint8)
        kept = np.empty((len(self.labels), *pixels.shape[:2]), np.float32) if probs else None
        for window, part in self.iterate(pixels, name=name or key, note=notes.append):
            label_map[window.slices] = part.argmax(0).to(torch.uint8).cpu().numpy()
            if kept is not None:
                kept[(slice(None), *window.slices)] = part.cpu().numpy()
        return Prediction(label_map, self.labels, kept, key, tuple(notes))

    def compare(self, image: npt.NDArray[np.uint8], *, name: str = "") -> Comparison:
        """Label one image without and with the CRF; the network runs once.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        name : str
            As :meth:`predict`.

        Raises
        ------
        RecipeError
            The settings have no CRF, or it is off; or as :meth:`predict`.
        DataError, GeometryError
            As :meth:`predict`.
        """
        if self._dense is None:
            raise RecipeError("found no CRF to compare with: give crf=True")
        _check_image(image)
        before, after, seconds = np.empty(image.shape[:2], np.uint8), np.empty(image.shape[:2], np.uint8), 0.0
        notes: list[str] = []
        with self._memory_spoken_of(image.shape[0], image.shape[1], name):
            for piece in self._refine(image, self._dense, self._segmenter(image.shape[0], image.shape[1], name, notes.append)):
                before[piece.window.slices], after[piece.window.slices] = piece.before.argmax(0), piece.after.argmax(0)
                seconds += piece.seconds
        said = tuple(notes)
        return Comparison(Prediction(before, self.labels, warnings=said), Prediction(after, self.labels, warnings=said), seconds)

    def iterate(
        self, image: npt.NDArray[np.uint8], *, name: str = "", note: Callable[[str], None] = lambda said: None
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield the probabilities of one image piece by piece, in bounded memory.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB; may be a memory map.
        name : str
            As :meth:`predict`.
        note : callable
            Called with what should be known of this image: that there are no proposals, or that tiles were blended.

        Yields
        ------
        window : Window
            Where the piece lies; every pixel is in exactly one. A tile, or with a CRF what is
            refined at a time (:mod:`upscore.inference.crf_postprocess`).
        probs : (K, h, w) float32 tensor
            Its probabilities, on the predictor's device.

        Raises
        ------
        DataError, GeometryError, RecipeError
            As :meth:`predict`.
        """
        _check_image(image)
        with self._memory_spoken_of(image.shape[0], image.shape[1], name):
            yield from self._pieces(image, name, note)

    def _pieces(self, image: npt.NDArray[np.uint8], name: str, note: Callable[[str], None]) -> Iterator[tuple[Window, Tensor]]:
        segment = self._segmenter(image.shape[0], image.shape[1], name, note)
        if self._dense is not None:
            for piece in self._refine(image, self._dense, segment):
                yield piece.window, torch.from_numpy(np.ascontiguousarray(piece.after)).to(self.device)
            return
        for window, probs in self._tiling(*image.shape[:2]).iterate(segment, image):
            self._check(probs)
            yield window, probs

    def predict_probs(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, 3, H, W) float32 in [0, 1].

        The settings hold here too; only the result is whole. On the predictor's device.

        Parameters
        ----------
        images : (N, 3, H, W) floating in [0, 1]
            RGB, before any normalisation, which is the network's first layer. Of any size from 1×1.

        Raises
        ------
        DataError
            They are something else: bytes, values from 0 to 255, normalised ones, channels last.
        """
        _check_images(images)
        height, width = images.shape[-2:]
        network = self._tiling(height, width).around(self._segmenter(height, width))

        def segment(images: Tensor) -> Tensor:
            probs = network(images)
            self._check(probs[0])
            return probs

        with self._memory_spoken_of(height, width):
            return (segment if self._dense is None else crf(segment, self._dense))(images)

    @contextmanager
    def _memory_spoken_of(self, height: int, width: int, name: str = "") -> Iterator[None]:
        """Let an allocation that fails end in one line that names what takes the memory and how to take less."""
        try:
            yield
        except Exception as error:
            if isinstance(error, UpscoreError) or not is_out_of_memory(error):
                raise
            taken = f"{name + ': ' if name else ''}out of memory while labelling {height}×{width} pixels on {self.device}"
            raise RecipeError(f"{taken}, {self._memory_taken(height, width)}") from None

    def _memory_taken(self, height: int, width: int) -> str:
        """Say which settings take memory and how to take less, those that help most first."""
        settings, tile = self.settings, self._tiling(height, width).tile
        how, ways = [], []
        if (boxes := settings.proposals) is not None:
            how.append(f"{boxes.batch_size} proposals of {boxes.crop_side}×{boxes.crop_side} at a time, put together on the whole image")
            ways += ["a smaller proposals.batch_size"] if boxes.batch_size > 1 else []
            ways += ["a smaller image, or --no-proposals"]
        else:
            whole = tile >= max(height, width)
            how.append("in one piece" if whole else f"in tiles of {tile}")
            smaller = (min(tile, 2048) // 2) // 32 * 32
            ways += [f"--tile {smaller}"] if smaller >= (LEAST_BLENDED if self._context.margin is None else 32) else []
        if max(settings.scales) > 1:
            ways.append("scales of at most 1")
        if len(settings.scales) > 1 or settings.flips:
            ways.append("no flips and one scale")
        if settings.precision == "fp32" and self.device.type == "cuda":
            ways.append("--set precision=bf16")
        ways.append("a device with more memory" if self.device.type == "cpu" else "--device cpu")
        scales = ", ".join(f"{scale:g}" for scale in settings.scales)
        how.append(f"scales {scales}, {'with' if settings.flips else 'without'} flips, in {settings.precision}")
        return f"{', '.join(how)}: try {'; or '.join(ways)}"

    def _segmenter(self, height: int, width: int, name: str = "", note: Callable[[str], None] = lambda said: None) -> Segmenter:
        """Return what labels this image: all networks together, those of whole images in tiles where proposals need it whole."""
        tiles = self._tiles_of_whole_images(height, width) if any(member.proposals is None for member in self.members) else None
        if tiles is not None and tiles.margin is None:
            note(BLENDED.format(tile=tiles.tile))
        return combine(
            self.members,
            self.settings,
            tiles=tiles if self._looks_at_proposals else None,
            proposer=lambda one: self.proposer(one, name),
            unfound=lambda: note(NO_PROPOSALS),
        )

    def proposer(self, settings: ProposalSettings, name: str = "") -> Proposer:
        """Return what finds the boxes of the image ``name``: a file of them, the caller's own, or what the settings name.

        Raises
        ------
        RecipeError
            Boxes are in a file, and the image has no name.
        """
        given = self._boxes
        if given is None and self._propose is not None:
            return self._propose
        if given is None:
            return CachedProposer(create_proposer(settings.proposer), proposals_folder())
        if not name:
            raise RecipeError(f"{given.path}: boxes of a file are found by an image's name, and this one has none: give name=")
        return lambda image: given.boxes(name, (image.shape[0], image.shape[1]))

    def knowing(self, member: Member, scores: Tensor) -> Predictor:
        """Return a predictor of one image, of which a member's scores (K, H, W) over its proposals are known: it does not look again."""
        other = copy.copy(self)
        other.members = tuple(replace(one, known=scores) if one is member else one for one in self.members)
        return other

    @property
    def _looks_at_proposals(self) -> bool:
        return any(member.proposals is not None for member in self.members)

    def _refine(self, image: npt.NDArray[np.uint8], dense: DenseCRF, segment: Segmenter) -> Iterator[Refined]:
        """Yield the image before and after the CRF, piece by piece."""
        height, width = image.shape[:2]
        tiling = self._tiling(height, width)
        whole = self._read(image, Window(0, 0, height, width), tiling, segment) if tiling.tile >= max(height, width) else None

        def read(window: Window) -> npt.NDArray[np.float32]:
            # A network that is not cut holds everything anyway, and should not run for each window.
            return self._read(image, window, tiling, segment) if whole is None else whole[(slice(None), *window.slices)]

        yield from iterate_refined(dense, image, read, classes=len(self.labels))

    def _read(self, image: npt.NDArray[np.uint8], window: Window, tiling: Tiles, segment: Segmenter) -> npt.NDArray[np.float32]:
        """Return the network's probabilities of a window (K, h, w): those that the whole image would give there."""
        kept = np.empty((len(self.labels), window.bottom - window.top, window.right - window.left), np.float32)
        for tile, probs in tiling.iterate(segment, image, window):
            self._check(probs)
            # Where the tile lies in the window, and what of it does.
            top, left = tile.top - window.top, tile.left - window.left
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

    def _tiling(self, height: int, width: int) -> Tiles:
        """Return how an image of this size is cut; with proposals it is not."""
        if self._looks_at_proposals:
            check_canvas(len(self.labels), height, width)
            return Tiles(max(height, width), 0, 1, 1)
        return self._tiles_of_whole_images(height, width)

    def _tiles_of_whole_images(self, height: int, width: int) -> Tiles:
        """Return how the networks that look at whole images cut one of this size; one tile is the whole image."""
        margin, stride, grain = self._context
        tile = self._tile_side(height, width)
        if margin is None:
            tile = max(-(-tile // stride), 2) * stride
        if tile >= max(height, width):
            return Tiles(max(height, width), 0, stride, grain)
        if margin is None and tile < LEAST_BLENDED:
            raise GeometryError(
                f"tiles of {tile} are asked for, but the network looks at the whole image, or it is not known how far it looks: use tile "
                f"{LEAST_BLENDED} or more, which then overlap, or 'auto' or 'whole', or give a margin in pixels for tiles of any size"
            )
        return Tiles(tile, margin, stride, grain)

    def _tile_side(self, height: int, width: int) -> int:
        whole = max(height, width)
        if self.settings.tile == "whole":
            return whole
        if self.settings.tile != "auto":
            return self.settings.tile
        budget = WHOLE_PIXELS.get(self.device.type, WHOLE_PIXELS["cpu"]) / max(1.0, *self.settings.scales) ** 2
        if height * width <= budget:
            return whole
        margin, stride, _ = self._context
        least, most = AUTO_TILES
        side = math.isqrt(int(budget))
        # A network that looks at the whole image is shown as much of it as fits.
        side = max(side, LEAST_BLENDED) if margin is None else min(max(side - 2 * margin, least), most)
        return max(side // stride, 1) * stride


def _check_image(image: npt.NDArray[np.uint8]) -> None:
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and 0 not in image.shape:
        return
    found = f"an array of shape {image.shape} and type {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    turned = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[0] == 3 != image.shape[2]
    raise DataError(f"found {found}, expected an image (H, W, 3) uint8 RGB{': channels come last' if turned else ''}")


def _check_images(images: Tensor) -> None:
    wanted = "expected RGB images (N, 3, H, W), floats from 0 to 1"
    if not isinstance(images, Tensor):
        raise DataError(f"found {type(images).__name__}, {wanted} in a tensor; predict takes an image (H, W, 3) uint8")
    found = f"a tensor of shape {tuple(images.shape)} and type {images.dtype}"
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        last = images.ndim == 4 and images.shape[3] == 3
        raise DataError(f"found {found}, {wanted}{': move the channels with .permute(0, 3, 1, 2)' if last else ''}")
    if not images.is_floating_point():
        raise DataError(f"found {found}, {wanted}{': divide bytes by 255' if images.dtype == torch.uint8 else ''}")
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for what is not a number
        remedy = "divide them by 255" if low >= 0 and 2 < high <= 255 else "give them as they are before normalisation"
        if low >= -0.5 and 1 < high <= 1.5:
            remedy += ", and limit what resizing left outside with .clamp(0, 1)"
        raise DataError(f"found images with values from {low:g} to {high:g}, {wanted}: {remedy}")


def _source(given: Bundle | Ensemble | str | os.PathLike[str]) -> str:
    if isinstance(given, Ensemble):
        return ", ".join(one.architecture for one in given.members)
    return given.architecture if isinstance(given, Bundle) else os.fspath(given)
