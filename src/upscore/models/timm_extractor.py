"""How the feature maps of a timm network are extracted: its arguments, the sizes of its images, the order of its axes.

timm's networks differ in what they take. Most take any size; windowed attention takes multiples of its window, some take one size
alone. Plain transformers have one stride, that of their patches. What a network takes is found by trying on the meta device, where
nothing is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from upscore.errors import ModelError
from upscore.models.fixed_windows import from_windows, to_windows

__all__ = ["FINER", "FORWARD_ERRORS", "STRIDES", "Extractor"]

STRIDES = (8, 16, 32)
"""Every backbone has these; finer ones only where a decoder reads them."""

FINER = (2, 4)

FORWARD_ERRORS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError)
"""What timm's networks raise for images that they do not take."""

FLEXIBLE: tuple[dict[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
"""Arguments with which some networks take more sizes: Swin's, and those of plain transformers."""

PATCH = 16
"""The patch side of plain transformers; one of another side, but 8, is resampled to it."""


@dataclass(frozen=True)
class Extractor:
    """What is needed to build a network's feature extractor and to call it."""

    arguments: dict[str, Any]  #: of ``timm.create_model``
    sources: tuple[int, ...]  #: strides of the maps that are read
    strides: tuple[int, ...]  #: of the levels that a decoder gets
    multiple: int  #: of which images' sides are multiples; 1 where any size is taken
    side: int  #: of the only image that it takes, 0 where it takes others
    channels_last: bool  #: maps are (N, h, w, C)

    @classmethod
    def find(cls, build: Callable[..., Any], name: str, side: int, *, finer: bool) -> Extractor:
        """Return the extractor of a network.

        Parameters
        ----------
        build : callable
            From arguments of ``timm.create_model`` to the feature extractor.
        name : str
            For errors.
        side : int
            Of the images that it was trained on.
        finer : bool
            Also read strides 2 and 4, where there are any.

        Raises
        ------
        ModelError
            It has no feature maps of suitable strides, or takes images of no size that was tried.
        """
        with torch.device("meta"):
            network = build()
            found = list(network.feature_info.reduction())
            arguments: dict[str, Any] = {}
            sources, strides = _choose_strides(found, finer)
            if len(set(found)) == 1 and found[0] not in (8, PATCH):
                grid = side // found[0]
                side, arguments = grid * PATCH, {"patch_size": PATCH, "img_size": grid * PATCH}
                sources, strides = (PATCH,), _choose_strides([PATCH], finer)[1]
                found = [PATCH] * len(found)
            if not sources:
                raise ModelError(f"backbone '{name}' has feature maps of stride {found}, not of 8, 16 and 32: choose another")
            last = [len(found) - 1 - found[::-1].index(stride) for stride in sources]  # the deepest map of each stride
            arguments["out_indices"] = tuple(network.feature_info.out_indices[index] for index in last)
            return cls._try_sizes(build, name, arguments, side, sources, strides)

    @classmethod
    def _try_sizes(
        cls, build: Callable[..., Any], name: str, arguments: dict[str, Any], side: int, sources: tuple[int, ...], strides: tuple[int, ...]
    ) -> Extractor:
        coarsest = max(*sources, *strides)
        # Images that it takes, as (multiple, side, sizes to try): any, multiples of its stride, of its training size, or that alone.
        rules = (
            (1, 0, ((2 * coarsest + 1, 3 * coarsest + 7),)),
            (coarsest, 0, ((2 * coarsest, 3 * coarsest), (5 * coarsest, coarsest))),
            (side, 0, ((side, 2 * side),)),
            (side, side, ((side, side),)),
        )
        networks = []
        for more in FLEXIBLE:
            try:
                networks.append((arguments | more, build(**arguments, **more).eval()))
            except (ModelError, TypeError):
                continue
        error: Exception | None = None
        for multiple, only, sizes in rules:
            for chosen, network in networks:
                try:
                    maps = [network(torch.empty(1, 3, *size)) for size in sizes][-1]
                except FORWARD_ERRORS as raised:
                    error = raised
                    continue
                channels = network.feature_info.channels()
                last = all(x.ndim == 4 and x.shape[-1] == c and x.shape[1] != c for x, c in zip(maps, channels, strict=True))
                return cls(chosen, sources, strides, multiple, only, last)
        raise ModelError(f"backbone '{name}' takes no image of {side}×{side} pixels: choose another") from error

    def maps(self, network: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
        """Return the maps (N, C', h, w) of images (N, C, H, W)."""
        rows, columns = (images.shape[-2] // self.side, images.shape[-1] // self.side) if self.side else (1, 1)
        found = network(to_windows(images, self.side) if self.side else images)
        found = [x.permute(0, 3, 1, 2) for x in found] if self.channels_last else list(found)
        return [from_windows(x, rows, columns) for x in found] if self.side else found


def _choose_strides(found: list[int], finer: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides to read and those to offer; none where a network has neither 8, 16 and 32 nor 8 or 16 to make them of."""
    wanted = (*(stride for stride in FINER if finer and (stride in found)), *STRIDES)
    if all(stride in found for stride in STRIDES):
        return wanted, wanted
    sources = tuple(stride for stride in STRIDES if stride in found)
    if not sources or sources[0] > PATCH or any(b != 2 * a for a, b in itertools.pairwise(sources)):
        return (), ()
    return sources, (*((4,) if finer else ()), *STRIDES)
