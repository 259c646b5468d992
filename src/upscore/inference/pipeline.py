"""The networks behind a predictor: how each one looks at an image, and how they are put together.

::

    network ── averaging (flips, scales) ─┬─ whole, or in tiles ──┬─ mean of probabilities ── segmenter
                                          └─ proposals, one by one ┘  or product of scores

Averaging is within: mirrored and rescaled looks at a box, not boxes of a mirrored image, so
that an image is searched once and boxes of a file are good for every look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from upscore.inference.averaging import averaging_context, ensemble, product, tta
from upscore.inference.blended_tiles import blended, iterate_blended
from upscore.inference.proposal_aggregation import over_proposals
from upscore.inference.segmenter import NetworkSegmenter, Segmenter
from upscore.inference.tile_grid import Window, widen
from upscore.inference.tiling import iterate_tiles, tiled
from upscore.proposals import Proposer
from upscore.settings import InferenceSettings, ProposalSettings

__all__ = ["Context", "Member", "Tiles", "combine", "context_of"]

UNKNOWN_STRIDE = 32
"""Taken for networks that do not say theirs, when a margin is given for them."""


class Context(NamedTuple):
    """What tiles of an image need around them; ``margin`` is None where no margin would do."""

    margin: int | None
    stride: int
    grain: int


class Tiles(NamedTuple):
    """How an image is cut; a tile as large as the image is the image.

    With a ``margin`` tiles are read with so much context and nothing is blended
    (:mod:`upscore.inference.tiling`); where it is None no margin would do, and tiles overlap
    (:mod:`upscore.inference.blended_tiles`).
    """

    tile: int
    margin: int | None
    stride: int
    grain: int

    def iterate(self, segmenter: Segmenter, image: npt.NDArray[np.uint8], within: Window | None = None) -> Iterator[tuple[Window, Tensor]]:
        """Yield the windows of an image (H, W, 3) uint8 and their probabilities (K, h, w).

        Every pixel is in exactly one. With ``within`` only as many windows as that one needs; they may reach
        beyond it, where what they hold does not count.
        """
        if self.margin is None:
            yield from iterate_blended(segmenter, image, tile=self.tile, stride=self.stride, grain=self.grain, within=within)
            return
        read = within or Window(0, 0, *image.shape[:2])
        wide = widen(read, *image.shape[:2], margin=self.margin, stride=self.stride, grain=self.grain)
        parts = iterate_tiles(segmenter, image[wide.slices], tile=self.tile, margin=self.margin, stride=self.stride, grain=self.grain)
        for (top, left, bottom, right), probs in parts:
            yield Window(wide.top + top, wide.left + left, wide.top + bottom, wide.left + right), probs

    def around(self, segmenter: Segmenter) -> Segmenter:
        """Wrap ``segmenter`` so that it works through its images in these tiles."""
        if self.margin is None:
            return blended(segmenter, tile=self.tile, stride=self.stride, grain=self.grain)
        return tiled(segmenter, tile=self.tile, margin=self.margin, stride=self.stride, grain=self.grain)


@dataclass(frozen=True, eq=False)
class Member:
    """One network, and what it looks at: images, or proposals of them.

    Parameters
    ----------
    network : NetworkSegmenter
        images -> probs, or scores.
    proposals : ProposalSettings, optional
        How it looks at boxes; it looks at whole images when not given.
    known : (K, H, W) float32 tensor, optional
        Its scores over the boxes of the one image that will be labelled: it does not look again.
    """

    network: NetworkSegmenter
    proposals: ProposalSettings | None = None
    known: Tensor | None = None

    def look(
        self,
        settings: InferenceSettings,
        *,
        scores: bool,
        tiles: Tiles | None,
        proposer: Callable[[ProposalSettings], Proposer],
        unfound: Callable[[], None],
    ) -> Segmenter:
        """Return images -> probs, or scores; see :func:`combine`."""
        if (known := self.known) is not None:
            return lambda images: known[None] if scores else known[None].softmax(1)
        raw = scores or self.proposals is not None
        one = tta(self.network.scores if raw else self.network, flips=settings.flips, scales=settings.scales)
        if self.proposals is not None:
            s = self.proposals
            return over_proposals(
                one, proposer(s), most=s.max_proposals, enlarge=s.enlarge, least_side=s.min_side, aggregate=s.aggregate, clip=s.clip,
                side=s.crop_side, batch=s.batch_size, scores=scores, unfound=unfound,
            )  # fmt: skip
        return one if tiles is None else tiles.around(one)


def combine(
    members: Sequence[Member],
    settings: InferenceSettings,
    *,
    tiles: Tiles | None = None,
    proposer: Callable[[ProposalSettings], Proposer],
    unfound: Callable[[], None] = lambda: None,
) -> Segmenter:
    """Return the members as one segmenter.

    Parameters
    ----------
    members : sequence of Member
        At least one.
    settings : InferenceSettings
        Of all of them: ``flips``, ``scales`` and ``combine``.
    tiles : Tiles, optional
        How those that look at images cut them here; whole, or cut outside, when not given.
    proposer : callable
        Gives what finds the boxes of those that look at proposals.
    unfound : callable, optional
        Called for an image in which there are none.
    """
    scores = settings.combine == "product" and len(members) > 1
    looks = [member.look(settings, scores=scores, tiles=tiles, proposer=proposer, unfound=unfound) for member in members]
    if len(looks) == 1:
        return looks[0]
    return product(looks) if scores else ensemble(looks)


def context_of(models: Sequence[nn.Module], settings: InferenceSettings) -> Context:
    """Return what tiles need, so that every one of the models gives in them what it gives for the whole image."""
    geometries = [getattr(model, "geometry", None) for model in models]
    bounded = all(geometry is not None and geometry.receptive_field != math.inf for geometry in geometries)
    strides = [_stride_of(model) for model in models]
    margin = max((geometry.margin() for geometry in geometries if geometry is not None), default=0) if bounded else None
    if settings.margin is not None:
        margin = settings.margin
    wide, stride, grain = averaging_context(margin=margin or 0, stride=math.lcm(*strides), scales=settings.scales)
    return Context(None if margin is None else wide, stride, grain)


def _stride_of(model: nn.Module) -> int:
    """Return where crops may begin; a lone layer's ``stride`` is a pair of another meaning."""
    stride, geometry = getattr(model, "stride", None), getattr(model, "geometry", None)
    if isinstance(stride, int) and stride > 0:
        return stride
    return int(geometry.stride) if geometry is not None else UNKNOWN_STRIDE
