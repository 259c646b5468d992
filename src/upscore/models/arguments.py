"""The ranges of what networks take: each check and its message in one function."""

from __future__ import annotations

from typing import Any

from upscore.errors import ModelError

__all__ = ["check_classes", "check_dropout", "check_flag", "check_in_channels", "check_integer", "scale_channels"]


def check_integer(value: Any, maximum: int, found: str) -> int:
    """Return ``value`` if it is a whole number from 1 to ``maximum``; else a ModelError says what was ``found``.

    >>> check_integer(0, 256, "depth 0")
    Traceback (most recent call last):
    upscore.errors.ModelError: found depth 0, expected a whole number from 1 to 256
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise ModelError(f"found {found}, expected a whole number from 1 to {maximum}")
    return value


def check_classes(num_classes: Any) -> int:
    """Return K, or raise a ModelError where it is not a whole number from 1 to 255."""
    return check_integer(num_classes, 255, f"{num_classes!r:.80} classes")


def check_in_channels(in_channels: Any) -> int:
    """Return the channels of the image, or raise a ModelError where they are not a whole number from 1 to 64."""
    return check_integer(in_channels, 64, f"{in_channels!r:.80} input channels")


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``, or raise a ModelError where it is not a bool."""
    if not isinstance(value, bool):
        raise ModelError(f"found {name} {value!r:.80}, expected true or false")
    return value


def check_dropout(dropout: float) -> float:
    """Return a probability of dropout, or raise a ModelError where it is not at least 0 and below 1."""
    if not 0 <= dropout < 1:
        raise ModelError(f"found dropout {dropout}, expected at least 0 and below 1")
    return dropout


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, rounded, at least 1; ModelError where the width is not above 0 and at most 4.

    >>> scale_channels(512, 1 / 4), scale_channels(64, 1 / 1000)
    (128, 1)
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 4:
        raise ModelError(f"found width {width!r:.80}, expected above 0 and at most 4: 1 is the paper's")
    return max(1, round(channels * width))
