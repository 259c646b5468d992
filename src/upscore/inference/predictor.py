"""The one way from a picture to its labels: the command line, training, evaluation and demo all call it.

::

    bundles ── networks ── averaging ── proposals ── ensemble ── tiles ── CRF ── label map, probabilities
               each step takes a segmenter and gives one back; the settings say which are used

Probabilities live one tile at a time; with a CRF, one of its windows, which are larger. A
picture of any size needs its own bytes, the label map and one of either. With proposals it also
needs the probabilities of every pixel, since boxes lie anywhere.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from upscore.crf import DenseCRF
from upscore.data.pictures import read_picture
from upscore.errors import BundleError, DataError, GeometryError, RecipeError
from upscore.inference.members import Member, Tiles, combine, context_of
from upscore.inference.refine import Refined, crf, iterate_refined
from upscore.inference.segmenter import NetworkSegmenter, Segmenter, choose_device
from upscore.inference.settings import CRFSettings, InferenceSettings, ProposalSettings, settled
from upscore.inference.tiling import iterate_tiles, tiled
from upscore.inference.windows import Window, widen
from upscore.models.bundle import Bundle
from upscore.models.ensemble import Ensemble, load_model
from upscore.proposals import BoxFile, Kept, Proposer, create_proposer, proposals_folder
from upscore.types import LabelSpace, Prediction

__all__ = ["CRFSettings", "Comparison", "InferenceSettings", "Predictor", "ProposalSettings"]

WHOLE_PIXELS = {"cpu": 1_500_000, "cuda": 4_000_000, "mps": 2_000_000}
"""Pictures of at most this many pixels are labelled in one piece under ``tile="auto"``."""

AUTO_TILES = (256, 1024)
"""The sides between which ``tile="auto"`` chooses; with its margins a tile is about ``WHOLE_PIXELS``."""

NO_PROPOSALS = "no proposals were found: labelled as a whole"
"""What is noted of a picture in which no box is found."""


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
    """Labels pictures with the network of a bundle, or with several.

    Parameters
    ----------
    bundle : Bundle, Ensemble, path, or sequence of them
        Several are put together as ``combine`` says; they must have the same classes.
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    settings : InferenceSettings, optional
        In place of the (first) bundle's own.
    boxes : BoxFile or path, optional
        Boxes to look at in place of finding some, by picture.
    propose : callable, optional
        Finds the boxes, in place of what the settings name. It is asked every time:
        :class:`upscore.proposals.Kept` keeps what it finds.
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
    Whose settings hold where there are several bundles: :func:`upscore.inference.settings.settled`.
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
        together = settled(opened, settings=settings, **overrides)
        place = choose_device(device)
        models = [one.build().to(place) for one in together.members]
        looks = [InferenceSettings.of(one.inference).proposals for one in together.members]
        self._assemble(models, looks, together.labels, InferenceSettings.of(together.inference), channels_last=place.type != "mps")
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
        chosen = InferenceSettings.of(settings, **overrides)
        predictor._assemble([model], [chosen.proposals], labels, chosen, channels_last=False)
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
        self._dense = settings.crf.dense() if settings.crf is not None and settings.crf.on else None

    def _find_boxes(self, boxes: BoxFile | str | os.PathLike[str] | None, propose: Proposer | None) -> None:
        if boxes is not None and propose is not None:
            raise RecipeError("found boxes, and what finds them: leave one of them out")
        if (boxes is not None or propose is not None) and not self._looks_at_proposals:
            raise RecipeError("found boxes, or what finds them, and no network that looks at proposals: give proposals, a number of them")
        self._boxes = boxes if isinstance(boxes, BoxFile) or boxes is None else BoxFile(Path(boxes))
        self._propose = propose

    def predict(self, image: npt.NDArray[np.uint8] | str | os.PathLike[str], *, probs: bool = False, name: str = "") -> Prediction:
        """Label one picture.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB, or path
            Any size from 1×1.
        probs : bool
            Keep the probabilities too: K × 4 bytes a pixel.
        name : str
            Of the picture, in a file of boxes; its path when not given.

        Returns
        -------
        Prediction
            Exactly the picture's size; ``key`` is the path, if it was one. Of equally
            probable classes the first is taken. ``notes`` say if there were no proposals.

        Raises
        ------
        DataError
            The array or file is not such a picture, or there are no boxes for it in the file of them.
        GeometryError
            Tiles are asked of a network whose field of view is not bounded, without a margin.
        """
        key = "" if isinstance(image, np.ndarray) else os.fspath(image)
        pixels = image if isinstance(image, np.ndarray) else read_picture(image)
        label_map = np.empty(pixels.shape[:2], np.uint8)
        kept = np.empty((len(self.labels), *pixels.shape[:2]), np.float32) if probs else None
        notes: list[str] = []
        for window, part in self.iterate(pixels, name=name or key, note=notes.append):
            label_map[window.slices] = part.argmax(0).to(torch.uint8).cpu().numpy()
            if kept is not None:
                kept[(slice(None), *window.slices)] = part.cpu().numpy()
        return Prediction(label_map, self.labels, kept, key, tuple(notes))

    def compare(self, image: npt.NDArray[np.uint8], *, name: str = "") -> Comparison:
        """Label one picture without and with the CRF; the network runs once.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        name : str
            As :meth:`predict`.

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
        notes: list[str] = []
        for piece in self._refine(image, self._dense, self._segmenter(image.shape[0], image.shape[1], name, notes.append)):
            before[piece.window.slices], after[piece.window.slices] = piece.before.argmax(0), piece.after.argmax(0)
            seconds += piece.seconds
        said = tuple(notes)
        return Comparison(Prediction(before, self.labels, notes=said), Prediction(after, self.labels, notes=said), seconds)

    def iterate(
        self, image: npt.NDArray[np.uint8], *, name: str = "", note: Callable[[str], None] = lambda said: None
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield the probabilities of one picture piece by piece, in bounded memory.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB; may be a memory map.
        name : str
            As :meth:`predict`.
        note : callable
            Called with what should be known of this picture: that there are no proposals.

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
        segment = self._segmenter(image.shape[0], image.shape[1], name, note)
        if self._dense is not None:
            for piece in self._refine(image, self._dense, segment):
                yield piece.window, torch.from_numpy(np.ascontiguousarray(piece.after)).to(self.device)
            return
        for window, probs in iterate_tiles(segment, image, **self._tiling(*image.shape[:2])._asdict()):
            self._check(probs)
            yield window, probs

    def predict_probs(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, 3, H, W) float32 in [0, 1].

        The settings hold here too; only the result is whole. On the predictor's device.
        """
        height, width = images.shape[-2:]
        network = tiled(self._segmenter(height, width), **self._tiling(height, width)._asdict())

        def segment(images: Tensor) -> Tensor:
            probs = network(images)
            self._check(probs[0])
            return probs

        return (segment if self._dense is None else crf(segment, self._dense))(images)

    def _segmenter(self, height: int, width: int, name: str = "", note: Callable[[str], None] = lambda said: None) -> Segmenter:
        """Return what labels this picture: all networks together, those of whole pictures in tiles where proposals need it whole."""
        inner = self._tiles_of_whole_pictures(height, width) if self._looks_at_proposals and len(self.members) > 1 else None
        return combine(
            self.members, self.settings, tiles=inner, proposer=lambda one: self.proposer(one, name), unfound=lambda: note(NO_PROPOSALS)
        )

    def proposer(self, settings: ProposalSettings, name: str = "") -> Proposer:
        """Return what finds the boxes of the picture ``name``: a file of them, the caller's own, or what the settings name.

        Raises
        ------
        RecipeError
            Boxes are in a file, and the picture has no name.
        """
        given = self._boxes
        if given is None and self._propose is not None:
            return self._propose
        if given is None:
            return Kept(create_proposer(settings.by), proposals_folder())
        if not name:
            raise RecipeError(f"{given.path}: boxes of a file are found by a picture's name, and this one has none: give name=")
        return lambda picture: given.boxes(name, (picture.shape[0], picture.shape[1]))

    def knowing(self, member: Member, scores: Tensor) -> Predictor:
        """Return a predictor of one picture, of which a member's scores (K, H, W) over its proposals are known: it does not look again."""
        other = copy.copy(self)
        other.members = tuple(replace(one, known=scores) if one is member else one for one in self.members)
        return other

    @property
    def _looks_at_proposals(self) -> bool:
        return any(member.proposals is not None for member in self.members)

    def _refine(self, image: npt.NDArray[np.uint8], dense: DenseCRF, segment: Segmenter) -> Iterator[Refined]:
        """Yield the picture before and after the CRF, piece by piece."""
        height, width = image.shape[:2]
        tiling = self._tiling(height, width)
        whole = self._read(image, Window(0, 0, height, width), tiling, segment) if tiling.tile >= max(height, width) else None

        def read(window: Window) -> npt.NDArray[np.float32]:
            # A network that is not cut holds everything anyway, and should not run for each window.
            return self._read(image, window, tiling, segment) if whole is None else whole[(slice(None), *window.slices)]

        yield from iterate_refined(dense, image, read, classes=len(self.labels))

    def _read(self, image: npt.NDArray[np.uint8], window: Window, tiling: Tiles, segment: Segmenter) -> npt.NDArray[np.float32]:
        """Return the network's probabilities of a window (K, h, w): those that the whole picture would give there."""
        wide = widen(window, *image.shape[:2], margin=tiling.margin, stride=tiling.stride, grain=tiling.grain)
        kept = np.empty((len(self.labels), window.bottom - window.top, window.right - window.left), np.float32)
        for tile, probs in iterate_tiles(segment, image[wide.slices], **tiling._asdict()):
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

    def _tiling(self, height: int, width: int) -> Tiles:
        """Return how a picture of this size is cut; with proposals it is not."""
        if self._looks_at_proposals:
            return Tiles(max(height, width), 0, 1, 1)
        return self._tiles_of_whole_pictures(height, width)

    def _tiles_of_whole_pictures(self, height: int, width: int) -> Tiles:
        """Return how the networks that look at whole pictures cut one of this size; one tile is the whole picture."""
        margin, stride, grain = self._context
        tile = self._tile_side(height, width)
        if tile >= max(height, width):
            return Tiles(tile, 0, stride, grain)
        if margin is None:
            raise GeometryError(
                f"tiles of {tile} are asked for, but the network's field of view is unbounded or unknown: "
                "use tile 'whole', or give a margin in pixels for a result that is nearly that of the whole picture"
            )
        return Tiles(tile, margin, stride, grain)

    def _tile_side(self, height: int, width: int) -> int:
        whole = max(height, width)
        if self.settings.tile == "whole":
            return whole
        if self.settings.tile != "auto":
            return self.settings.tile
        budget = WHOLE_PIXELS.get(self.device.type, WHOLE_PIXELS["cpu"]) / max(1.0, *self.settings.scales) ** 2
        margin, stride, _ = self._context
        if margin is None or height * width <= budget:
            return whole
        least, most = AUTO_TILES
        side = min(max(math.isqrt(int(budget)) - 2 * margin, least), most)
        return max(side // stride, 1) * stride


def _check_picture(image: npt.NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(f"found an array of shape {image.shape} and type {image.dtype}, expected a picture (H, W, 3) uint8 RGB")


def _source(given: Bundle | Ensemble | str | os.PathLike[str]) -> str:
    if isinstance(given, Ensemble):
        return ", ".join(one.architecture for one in given.members)
    return given.architecture if isinstance(given, Bundle) else os.fspath(given)
