"""An allocation that fails while an image is labelled, as one line: what takes the memory, and how to take less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from upscore.errors import RecipeError, UpscoreError
from upscore.inference.tile_choice import MIN_BLENDED_TILE, TileContext, choose_tiles
from upscore.ops.out_of_memory import is_out_of_memory
from upscore.settings import InferenceSettings

__all__ = ["out_of_memory_explained"]


@contextmanager
def out_of_memory_explained(
    size: tuple[int, int], context: TileContext, settings: InferenceSettings, device: torch.device, name: str = ""
) -> Iterator[None]:
    """Raise a RecipeError that names the settings that take memory in place of an error for want of it.

    ``size`` is the image's height and width, ``name`` its name; the others are as in :func:`upscore.inference.tile_choice.choose_tiles`.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UpscoreError) or not is_out_of_memory(error):
            raise
        failed = f"{name + ': ' if name else ''}out of memory while labelling {size[0]}×{size[1]} pixels on {device}"
        raise RecipeError(f"{failed}, {_advice(size, context, settings, device)}") from None


def _advice(size: tuple[int, int], context: TileContext, settings: InferenceSettings, device: torch.device) -> str:
    """Return which settings take memory and how to take less, those that help most first."""
    taken, remedies = [], []
    if (proposals := settings.proposals) is not None:
        side = proposals.crop_side
        taken.append(f"{proposals.batch_size} proposals of {side}×{side} at a time, aggregated on the whole image")
        remedies += ["a smaller proposals.batch_size"] if proposals.batch_size > 1 else []
        remedies += ["a smaller image, or --no-proposals"]
    else:
        tile = choose_tiles(size, context, settings, device).tile
        taken.append("in one pass" if tile >= max(size) else f"in tiles of {tile}")
        smaller = (min(tile, 2048) // 2) // 32 * 32
        remedies += [f"--tile {smaller}"] if smaller >= (MIN_BLENDED_TILE if context.margin is None else 32) else []
    if max(settings.scales) > 1:
        remedies.append("scales of at most 1")
    if len(settings.scales) > 1 or settings.flips or settings.rotations:
        remedies.append("no flips, no rotations and one scale" if settings.rotations else "no flips and one scale")
    if settings.precision == "fp32" and device.type == "cuda":
        remedies.append("--set precision=bf16")
    remedies.append("a device with more memory" if device.type == "cpu" else "--device cpu")
    scales = ", ".join(f"{scale:g}" for scale in settings.scales)
    views = f"{'with' if settings.flips else 'without'} flips" + (", with rotations" if settings.rotations else "")
    taken.append(f"scales {scales}, {views}, in {settings.precision}")
    return f"{', '.join(taken)}: try {'; or '.join(remedies)}"
