"""How a mask has to be moved, mirrored or turned to lie on the edges of its image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscore.doctor.measurements import MAX_SHIFT
from upscore.doctor.scan import Record

__all__ = ["is_turned", "mirrored_way", "shift_of"]

_MIN_RISE = 0.25  # how much of the strength above chance is lost where the mask lies
_MIN_BORDERS = 100  # for a single mask


def is_turned(record: Record) -> bool:
    """Return whether a mask fits its image far better when it is turned as the image's EXIF orientation turns the image."""
    return record.alignment is not None and record.turned_strength > 1.15 * float(record.alignment.shifts[MAX_SHIFT, MAX_SHIFT])


def mirrored_way(record: Record) -> int | None:
    """Return how a mask has to be mirrored to fit its image far better: 0 left to right, 1 top to bottom, 2 both; None where it fits."""
    if record.alignment is None or record.alignment.borders < _MIN_BORDERS or is_turned(record):
        return None
    strengths = record.alignment.mirrored
    way = int(np.argmax(strengths))
    return way if strengths[way] > 1.25 * float(record.alignment.shifts.max()) else None


def shift_of(strengths: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Return by how many rows and columns a mask has to be moved to lie on the image's edges; (0, 0) where it lies well.

    It is at least two pixels, and the strength of the edges there exceeds that of where the mask lies by a quarter of what it exceeds
    the median by.
    """
    row, column = (int(value) for value in np.unravel_index(int(strengths.argmax()), strengths.shape))
    best, here, chance = float(strengths[row, column]), float(strengths[MAX_SHIFT, MAX_SHIFT]), float(np.median(strengths))
    shift = row - MAX_SHIFT, column - MAX_SHIFT
    return shift if max(map(abs, shift)) >= 2 and best - here > _MIN_RISE * (best - chance) and best > 1.2 * chance else (0, 0)
