"""Which sizes of an image can be averaged over: fractions whose denominators have a small common multiple."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from upscore.errors import RecipeError

__all__ = ["MAX_COMMON_DENOMINATOR", "MAX_DENOMINATOR", "MAX_SCALES", "scale_fractions"]

MAX_SCALES = 16
"""Each scale is another pass of the network."""

MIN_SCALE, MAX_SCALE = 0.1, 8

MAX_DENOMINATOR = 20
"""Scales are multiples of 1/q with q up to this: 0.5, 0.75, 1.25, 0.95, 4/3, …"""

MAX_COMMON_DENOMINATOR = 120
"""Images are padded to a multiple of the common denominator, and tiles begin on multiples of it times the stride."""


def scale_fractions(scales: Sequence[float]) -> list[Fraction]:
    """Return scales as exact fractions.

    >>> scale_fractions([0.75, 1])
    [Fraction(3, 4), Fraction(1, 1)]

    Raises RecipeError where there is no scale, one is repeated, outside 0.1 to 8, or not a fraction with a small denominator; or the
    denominators have no small multiple in common.
    """
    fractions = [Fraction(scale).limit_denominator(MAX_DENOMINATOR) if math.isfinite(scale) else Fraction(0) for scale in scales]
    for scale, fraction in zip(scales, fractions, strict=True):
        if not MIN_SCALE <= scale <= MAX_SCALE or abs(float(fraction) - scale) > 1e-6:
            raise RecipeError(
                f"found scale {scale}, expected {MIN_SCALE} to {MAX_SCALE} and a fraction whose denominator is at most "
                f"{MAX_DENOMINATOR}: 0.75, 1.5, …"
            )
    if not fractions or len(set(fractions)) < len(fractions):
        raise RecipeError(f"found scales {list(scales)}, expected at least one, each given once")
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    if common > MAX_COMMON_DENOMINATOR:
        raise RecipeError(
            f"found scales {', '.join(map(str, fractions))}, whose denominators have {common} as their least common multiple, "
            f"expected at most {MAX_COMMON_DENOMINATOR}: use scales that go together, such as multiples of 1/4 or of 1/10"
        )
    return fractions
