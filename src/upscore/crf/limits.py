"""What a CRF may be given: numbers of pixels, labels and steps, and the memory that these take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from upscore.errors import CRFError

__all__ = ["MAX_PIXELS", "MAX_STEPS", "bounded_memory", "check_labels", "check_size", "check_steps"]

MAX_PIXELS = 2**26
"""Larger images are refused: the lattices alone take some hundred bytes for each pixel."""

MAX_STEPS = 1000
"""Of mean field, which converges in about ten."""


def check_size(pixels: int) -> None:
    """Raise a CRFError for more than :data:`MAX_PIXELS` pixels.

    >>> check_size(2000 * 1000)
    """
    if pixels > MAX_PIXELS:
        raise CRFError(f"found {pixels} pixels, expected at most {MAX_PIXELS}: refine the image in overlapping tiles")


def check_steps(steps: int) -> None:
    """Raise a CRFError for a number of mean-field steps that is not an integer from 0 to :data:`MAX_STEPS`.

    >>> check_steps(-1)
    Traceback (most recent call last):
    upscore.errors.CRFError: found -1 iterations, expected 0 to 1000
    """
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or not 0 <= steps <= MAX_STEPS:
        raise CRFError(f"found {steps} iterations, expected 0 to {MAX_STEPS}")


def check_labels(count: int) -> None:
    """Raise a CRFError for a number of labels that is not an integer from 2: the probability of a single label is 1 everywhere.

    >>> check_labels(21)
    """
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 2:
        raise CRFError(
            f"found {count} label{'s' * (count != 1)}, expected at least 2, whose probabilities sum to 1: "
            "beside the probability p of an object stack that of the background, 1 - p"
        )


@contextmanager
def bounded_memory(pixels: int) -> Iterator[None]:
    """Turn a ``MemoryError`` inside the block into a CRFError of one line.

    >>> with bounded_memory(4):
    ...     raise MemoryError
    Traceback (most recent call last):
    upscore.errors.CRFError: refining 4 pixels takes more memory than is available: refine the image in overlapping tiles
    """
    try:
        yield
    except MemoryError:
        raise CRFError(f"refining {pixels} pixels takes more memory than is available: refine the image in overlapping tiles") from None
