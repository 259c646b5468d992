"""The one way of an image from its source to its sinks; every command that labels images takes it.

::

    source ─► window ─►┐                                                                             ┌─► sinks
                       │  network ─ TTA ─┬─ tiles (beside proposals) ─┬─ ensemble ─ tiles ─ CRF ─────┤  label map, PNG,
                       │  (each member)  └─ proposals ────────────────┘  mean or product             │  overlay, probabilities
                       └───────────────────────── segmenters ─────────────────────────────────────── ┘

Each step takes a segmenter and gives one back; the settings decide which are used. TTA is innermost: views of a
crop, not crops of a view, so that proposals are found once, and boxes of a file are good for every view.
Tiles are outermost but for the CRF, so that probabilities exist one tile at a time; where a network uses proposals, which lie
anywhere, the image is processed as a whole, and networks of whole images are tiled on their own. The CRF comes last.

Memory: an image of any size needs its own pixels, its sinks, and one tile; with a CRF, one of the CRF's
windows, which are larger; with proposals, the probabilities of every pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscore.crf import DenseCRF
from upscore.errors import BundleError
from upscore.inference.crf_postprocess import crf, refine_windows
from upscore.inference.ensembling import ensemble, product
from upscore.inference.image_tensors import image_to_tensor
from upscore.inference.proposal_aggregation import ProposalSegmenter, check_canvas
from upscore.inference.segmenter import Segmenter, SegmenterWrapper
from upscore.inference.sinks import Sink
from upscore.inference.sources import ImageSource
from upscore.inference.tile_choice import choose_tiles, context_of
from upscore.inference.tile_grid import Window
from upscore.inference.tiling import TiledSegmenter, Tiles
from upscore.inference.tta import tta
from upscore.input_spec import RGB, InputSpec
from upscore.proposals import Proposer
from upscore.settings import InferenceSettings, ProposalSettings

__all__ = ["LabelledWindow", "Member", "Pipeline", "WindowLabeller", "build_member", "build_pipeline", "refined_windows", "segment_image"]

NO_PROPOSALS = "no proposals were found: labelled as a whole"
"""The warning of an image in which no box is found."""

BLENDED = (
    "labelled in overlapping tiles of up to {tile} pixels: the network's receptive field is unbounded, so the result is near that of "
    "one pass over the image, not equal to it (tile 'whole' makes that pass, in memory that grows with the image)"
)
"""The warning of an image that was tiled although no margin makes tiles equal to it."""


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a predictor."""

    segmenter: Segmenter
    proposals: ProposalSettings | None = None  #: how it uses proposals; it labels whole images when not given
    name: str = ""  #: such as "FCN"
    canvas: Tensor | None = None
    """(K, H, W) float32: its scores over the proposals of the one image to label, where they are known: it does not run again."""


class LabelledWindow(NamedTuple):
    """A window of an image, labelled: its probabilities (K, h, w) float32."""

    window: Window
    probs: Tensor  #: after everything
    network_probs: Tensor  #: before the CRF; the same without a CRF
    crf_seconds: float = 0.0  #: that the CRF took


class WindowLabeller(Protocol):
    """What labels an image window by window: a :class:`Pipeline`, or probabilities stored earlier."""

    def windows(self, source: ImageSource) -> Iterator[LabelledWindow]:
        """Yield the labelled windows; every pixel is in exactly one."""


def segment_image(
    source: ImageSource,
    pipeline: WindowLabeller,
    sinks: Sequence[Sink],
    *,
    network_sinks: Sequence[Sink] = (),
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Label one image: read its windows, write their probabilities into every sink, and return the seconds that the CRF took.

    ``sinks`` get the probabilities after everything, and ``network_sinks`` those before the CRF. They are not closed: the caller closes
    them when it will, and they are abandoned here if anything fails. ``progress`` is called after each window, a tile or what a CRF
    refines at a time, with (pixels done, pixels in all).
    """
    seconds, done, (height, width) = 0.0, 0, source.size
    with ExitStack() as failure:
        for sink in (*sinks, *network_sinks):
            failure.callback(sink.abandon)
        for labelled in pipeline.windows(source):
            for sink in sinks:
                sink.write(labelled.window, labelled.probs)
            for sink in network_sinks:
                sink.write(labelled.window, labelled.network_probs)
            seconds += labelled.crf_seconds
            if progress is not None:
                rows, columns = labelled.window.slices
                done += (rows.stop - rows.start) * (columns.stop - columns.start)
                progress(done, height * width)
        failure.pop_all()
    return seconds


def build_member(
    member: Member,
    settings: InferenceSettings,
    proposer: Callable[[ProposalSettings], Proposer],
    *,
    images: InputSpec = RGB,
    tiles: Tiles | None = None,
    on_no_proposals: Callable[[], None] = lambda: None,
) -> Segmenter:
    """Return one network with its TTA, and its proposals or, if ``tiles`` are given, its tiles; arguments as :func:`build_pipeline`."""
    if member.canvas is not None:
        return _KnownCanvas(member.segmenter, member.canvas)
    averaged = tta(member.segmenter, flips=settings.flips, rotations=settings.rotations, scales=settings.scales)
    if member.proposals is not None:
        return ProposalSegmenter(averaged, proposer(member.proposals), member.proposals, spec=images, on_no_proposals=on_no_proposals)
    return averaged if tiles is None else TiledSegmenter(averaged, tiles)


def build_pipeline(
    members: Sequence[Member],
    settings: InferenceSettings,
    *,
    size: tuple[int, int],
    classes: int,
    images: InputSpec = RGB,
    proposer: Callable[[ProposalSettings], Proposer],
    warn: Callable[[str], None] = lambda warning: None,
) -> Pipeline:
    """Return what labels images of a size: the networks with all that the settings put around them.

    Parameters
    ----------
    members : sequence of Member
        At least one.
    settings : InferenceSettings
        Of all of them.
    size : (int, int)
        Height and width of the image in pixels.
    classes : int
        How many the networks must give.
    images : InputSpec
        The bands of the image.
    proposer : callable
        Gives what finds the boxes for settings of proposals.
    warn : callable
        Called with what a user should know of the image: that there are no proposals, or that tiles are blended.

    Raises
    ------
    DataError, GeometryError
        As :func:`upscore.inference.proposal_aggregation.check_canvas` and :func:`upscore.inference.tile_choice.choose_tiles`.
    """
    device = members[0].segmenter.device
    whole = [member.segmenter for member in members if member.proposals is None]
    uses_proposals = len(whole) < len(members)
    outer, inner = Tiles(max(size), 0, 1), None
    if uses_proposals:
        check_canvas(classes, *size)
    if whole:
        tiles = choose_tiles(size, context_of(whole, settings), settings, device)
        if tiles.margin is None:
            warn(BLENDED.format(tile=tiles.tile))
        outer, inner = (outer, tiles) if uses_proposals else (tiles, None)
    built = [
        build_member(member, settings, proposer, images=images, tiles=inner, on_no_proposals=lambda: warn(NO_PROPOSALS))
        for member in members
    ]
    combined = built[0] if len(built) == 1 else product(built) if settings.combine == "product" else ensemble(built)
    dense = settings.crf.build() if settings.crf is not None and settings.uses_crf else None
    return Pipeline(combined, outer, classes, dense, images, settings.crf.bands if settings.crf is not None else ())


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The networks behind one segmenter, the tiles it works in, and the CRF; see :func:`build_pipeline`."""

    segmenter: Segmenter  #: all networks together
    tiles: Tiles  #: the outermost ones
    classes: int  #: how many it must give
    dense: DenseCRF | None = None  #: refines its probabilities
    images: InputSpec = RGB  #: the bands of the image
    crf_bands: Sequence[str] = ()  #: those that the CRF compares, as :func:`~upscore.inference.crf_postprocess.crf`

    def windows(self, source: ImageSource) -> Iterator[LabelledWindow]:
        """Yield the labelled windows of an image, in bounded memory.

        BundleError where the network gives another number of classes, or what is no number.
        """
        if self.dense is None:
            for window, probs in self._tiles(source):
                yield LabelledWindow(window, probs, probs)
            return
        # A network that is not tiled holds the whole image's probabilities anyway, and should not run for each window.
        whole = self._read(source, Window(0, 0, *source.size)) if self.tiles.tile >= max(source.size) else None
        yield from refined_windows(
            self.dense, source, lambda window: self._read(source, window) if whole is None else whole[(slice(None), *window.slices)],
            classes=self.classes, bands=self.crf_bands,
        )  # fmt: skip

    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities (N, K, H, W) float32 of images (N, C, H, W) float32: the same steps, the result whole."""
        checked = _Checked(TiledSegmenter(self.segmenter, self.tiles), self.classes)
        return (checked if self.dense is None else crf(checked, self.dense, spec=self.images, bands=self.crf_bands))(images)

    def _tiles(self, source: ImageSource, within: Window | None = None) -> Iterator[tuple[Window, Tensor]]:
        def predict(crop: Window) -> Tensor:
            return self.segmenter(image_to_tensor(source.read(crop))[None])

        for window, probs in self.tiles.walk(predict, *source.size, within=within):
            _check(probs, self.classes)
            yield window, probs[0]

    def _read(self, source: ImageSource, window: Window) -> npt.NDArray[np.float32]:
        """Return the network's probabilities of a window (K, h, w): those that the whole image gives there."""
        result = np.empty((self.classes, window.bottom - window.top, window.right - window.left), np.float32)
        for tile, probs in self._tiles(source, window):
            # Where the tile lies in the window, and what of it does.
            top, left = tile.top - window.top, tile.left - window.left
            part = probs[:, max(0, -top) :, max(0, -left) :].cpu().numpy()
            room = result[:, max(0, top) :, max(0, left) :]
            rows, columns = min(part.shape[1], room.shape[1]), min(part.shape[2], room.shape[2])
            room[:, :rows, :columns] = part[:, :rows, :columns]
        return result


def refined_windows(
    dense: DenseCRF, source: ImageSource, read: Callable[[Window], npt.NDArray[np.float32]], *, classes: int, bands: Sequence[str] = ()
) -> Iterator[LabelledWindow]:
    """Yield the refined windows of an image whose probabilities ``read`` gives; arguments as :func:`refine_windows`."""
    for window, before, after, seconds in refine_windows(dense, source, read, classes=classes, bands=bands):
        yield LabelledWindow(window, torch.from_numpy(after), torch.from_numpy(before), seconds)


class _KnownCanvas(SegmenterWrapper):
    """A network of which the scores over the proposals of the one image are known."""

    def __init__(self, segmenter: Segmenter, canvas: Tensor) -> None:
        super().__init__(segmenter)
        self.canvas = canvas[None]

    def __call__(self, images: Tensor) -> Tensor:
        return self.canvas.softmax(1)

    def scores(self, images: Tensor) -> Tensor:
        return self.canvas


class _Checked(SegmenterWrapper):
    """A segmenter whose results are checked."""

    def __init__(self, segmenter: Segmenter, classes: int) -> None:
        super().__init__(segmenter)
        self.classes = classes

    def apply(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        _check(values := function(images), self.classes)
        return values


def _check(probs: Tensor, classes: int) -> None:
    if probs.shape[1] != classes:
        raise BundleError(f"the network gives {probs.shape[1]} classes, but its labels name {classes}: the bundle does not fit together")
    if not math.isfinite(float(probs.sum())):  # what is no number makes the sum one; probabilities are too small to overflow it
        raise BundleError("the network gives probabilities that are not numbers: its weights are damaged, or its training diverged")
