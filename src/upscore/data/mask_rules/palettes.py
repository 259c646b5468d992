"""Palettes that give one number different colours in different masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from upscore.data.finding import Finding, Remedy
from upscore.data.stored_masks import AllMasks
from upscore.types import IGNORE

__all__ = ["find_different_palettes"]


def find_different_palettes(masks: AllMasks) -> Iterator[Finding]:
    """Find masks in which a number has another colour than in the others."""
    if len(set(masks.palettes)) < 2:
        return
    used: dict[bytes, npt.NDArray[np.bool_]] = {}
    for palette, occurs in zip(masks.palettes, masks.occurs, strict=True):
        used[palette] = used[palette] | occurs if palette in used else occurs
    colours: dict[bytes, dict[int, tuple[int, ...]]] = {}
    for palette, occurs in used.items():
        numbers = [n for n in np.flatnonzero(occurs).tolist() if 3 * n + 3 <= len(palette) and masks.class_of(n) != IGNORE]
        given = {number: tuple(palette[3 * number : 3 * number + 3]) for number in numbers}
        if any(colour != (number,) * 3 for number, colour in given.items()):  # a grey ramp shows numbers, not colours
            colours[palette] = given
    votes: dict[int, dict[tuple[int, ...], int]] = {}
    for palette in masks.palettes:
        for number, colour in colours.get(palette, {}).items():
            seen = votes.setdefault(number, {})
            seen[colour] = seen.get(colour, 0) + 1
    if not (clashing := sorted(number for number, seen in votes.items() if len(seen) > 1)):
        return
    (most_common, _), *_ = Counter(palette for palette in masks.palettes if palette in colours).most_common(1)
    usual = {number: max(seen, key=lambda colour: seen[colour]) for number, seen in votes.items()} | colours[most_common]
    other = {palette for palette, given in colours.items() if any(usual[number] != colour for number, colour in given.items())}
    chosen = np.array([palette in other for palette in masks.palettes])
    usual_mask = masks.keys(np.array([palette == most_common for palette in masks.palettes]))[0]
    number = clashing[0]
    here, there = list(votes[number])[:2]
    remedies = [
        Remedy(
            when="if the colours are right",
            advice=f"export all masks with the palette of {usual_mask}",
            rewrite=_by_colour(masks, colours, usual),
        ),
        Remedy(when="if the numbers are right and the colours do not matter", advice="save them without palettes", rewrite="a"),
    ]
    yield masks.finding(
        "values.palettes-differ",
        f"{masks.describe(chosen)} have another palette than the rest: {number} is the colour {here} in some and "
        f"{there} in others",
        remedies, chosen=chosen, values=clashing,
    )  # fmt: skip


def _by_colour(masks: AllMasks, colours: Mapping[bytes, Mapping[int, tuple[int, ...]]], usual: Mapping[int, tuple[int, ...]]) -> str:
    """Return the expression that gives every colour its number in most masks; "" where masks have no palette, or more than 32 colours."""
    number_of = {colour: number for number, colour in sorted(usual.items(), reverse=True)}
    for given in colours.values():
        for colour in given.values():
            if colour not in number_of:
                free = (number for number in range(256) if number not in number_of.values() and masks.class_of(number) != IGNORE)
                number_of[colour] = next(free, IGNORE)
    for palette, occurs in zip(masks.palettes, masks.occurs, strict=True):
        if palette not in colours:
            return ""
        for number in np.flatnonzero(occurs).tolist():
            colour = tuple(palette[3 * number : 3 * number + 3])
            if masks.class_of(number) == IGNORE and number_of.setdefault(colour, number) != number:
                return ""
    if len(number_of) > 32:
        return ""
    table = ", ".join(f"{(r << 16) + (g << 8) + b}: {number}" for (r, g, b), number in number_of.items())
    return f"n.vectorize({{{table}}}.get)(n.array(i.convert('RGB')) @ [65536, 256, 1])"
