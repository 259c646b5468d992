"""Geometry: masks that do not lie where their images' edges are, and components too small to be meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from upscore.data.finding import Finding
from upscore.doctor.check import Check, Marker
from upscore.doctor.measurements import MAX_SHIFT, find_borders, find_specks
from upscore.doctor.placement import is_turned, mirrored_way, shift_of
from upscore.doctor.scan import Record
from upscore.doctor.snapshot import Snapshot

__all__ = ["CHECKS", "MAX_SPECKS"]

MAX_SPECKS = 0.002
"""Specks, or holes, for each pixel of a mask beyond which they are reported; masks of street scenes drawn by hand have at most 0.0009."""

_MIN_SPECKS = 12  # in a mask
_CERTAIN_RISE = 0.55  # of one mask alone: masks drawn by hand have at most 0.5
_MAX_STRAIGHT = 0.8
_MIN_PROFILES = 10  # masks: shadows and outlines move the edges of a few


def _find_shifted(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        aligned = [r for r in split.readable if r.alignment is not None and not is_turned(r) and mirrored_way(r) is None]
        if not aligned:
            continue
        together = shift_of(np.mean([record.alignment.shifts for record in aligned if record.alignment], axis=0))
        each = {record.name: shift_of(record.alignment.shifts) for record in aligned if record.alignment}
        advice = "move the masks by what was found, and check how images and masks were cropped or exported"
        moved = [name for name, shift in each.items() if shift != (0, 0) and (shift == together or together == (0, 0))]
        if together != (0, 0) and 2 * len(moved) > len(aligned):
            what = (
                f"all masks lie {_direction(together)} of where their images' edges are: {len(moved)} of {len(aligned)} fit best when "
                "moved back by that"
            )
            yield snapshot.finding("geometry.shifted", "error", what, [r.name for r in split.readable], advice=advice, split=split.name)
            continue
        strong = [record for record in aligned if each[record.name] != (0, 0) and _is_certain(record)]
        if strong:
            name = strong[0].name
            what = (
                f"{len(strong)} of {len(aligned)} masks ({snapshot.listed([record.name for record in strong])}) do not lie on their "
                f"images' edges: the first lies {_direction(each[name])} of them"
            )
            yield snapshot.finding("geometry.shifted", "warning", what, [r.name for r in strong], advice=advice, split=split.name)


def _is_certain(record: Record) -> bool:
    """Whether the shift of one mask alone is beyond doubt: many borders, and strengths that rise far above chance."""
    assert record.alignment is not None
    strengths = record.alignment.shifts
    best, chance = float(strengths.max()), float(np.median(strengths))
    rise = (best - float(strengths[MAX_SHIFT, MAX_SHIFT])) / (best - chance)
    far = max(map(abs, shift_of(strengths))) >= 3
    return far and record.alignment.borders >= 200 and best > 1.3 * chance and rise > _CERTAIN_RISE


def _direction(shift: tuple[int, int]) -> str:
    """Return where a mask lies that has to be moved by (rows, columns).

    >>> _direction((-3, 2))
    '3 pixels below and 2 pixels to the left'
    """
    rows, columns = shift
    parts = [f"{abs(rows)} pixel{'s' * (abs(rows) > 1)} {'above' if rows > 0 else 'below'}"] if rows else []
    parts += [f"{abs(columns)} pixel{'s' * (abs(columns) > 1)} to the {'left' if columns > 0 else 'right'}"] if columns else []
    return " and ".join(parts)


def _find_mirrored(snapshot: Snapshot) -> Iterator[Finding]:
    ways = ("left to right", "top to bottom", "upside down and left to right")
    for split in snapshot.splits:
        found: dict[int, list[Record]] = {}
        aligned = [record for record in split.readable if record.alignment is not None]
        for record in aligned:
            if (way := mirrored_way(record)) is not None:
                found.setdefault(way, []).append(record)
        for way, records in found.items():
            names = [record.name for record in records]
            what = f"{len(names)} of {len(aligned)} masks ({snapshot.listed(names)}) fit their images far better when mirrored {ways[way]}"
            yield snapshot.finding(
                "geometry.mirrored", "error", what, names, advice="mirror the masks, or the images, once more", split=split.name
            )


def border_offset(profile: Sequence[float]) -> float:
    """Return how many pixels the edges of images lie outside the borders of objects, from the strengths at -4 to 4 pixels.

    >>> border_offset([0, 0, 0, 1, 2, 1, 0, 0, 0]), border_offset([0, 0, 1, 2, 1, 0, 0, 0, 0])
    (0.0, -1.0)
    """
    values = np.asarray(profile, float)
    weights = np.maximum(values - values.min() - 0.5 * (values.max() - values.min()), 0)
    return float((weights * np.arange(-4, 5)).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def _find_dilated(snapshot: Snapshot) -> Iterator[Finding]:
    """Find objects that are drawn too large or too small by about the same number of pixels in most images."""
    for split in snapshot.splits:
        profiles = [r.alignment.outside for r in split.readable if r.alignment is not None and np.isfinite(r.alignment.outside).all()]
        if len(profiles) < _MIN_PROFILES:
            continue
        mean = np.mean(profiles, axis=0)
        offset = border_offset(mean.tolist())
        if abs(offset) < 0.4 or float(mean.max()) < 1.2 * float(np.median(mean)):
            continue
        how = "larger" if offset < 0 else "smaller"
        what = (
            f"objects are drawn about {abs(offset):.1f} pixels {how} than they are on every side: the edges of the images lie that far "
            f"{'inside' if offset < 0 else 'outside'} the borders of the masks"
        )
        advice = (
            "check how polygons became pixels: drawing their outlines adds half a pixel, and labelling tools may dilate or erode objects"
        )
        yield snapshot.finding("geometry.dilated", "warning", what, [r.name for r in split.readable[:4]], advice=advice, split=split.name)


def _find_small(check: str, what: str, attribute: str) -> Callable[[Snapshot], Iterator[Finding]]:
    def find(snapshot: Snapshot) -> Iterator[Finding]:
        for split in snapshot.splits:
            counts = {record.name: int(getattr(record.mask, attribute)) for record in split.readable}
            size = {record.name: record.size[0] * record.size[1] for record in split.readable}
            found = [name for name, count in counts.items() if count >= max(_MIN_SPECKS, MAX_SPECKS * size[name])]
            if found:
                total = sum(counts[name] for name in found)
                words = (
                    f"{len(found)} of {len(counts)} masks ({snapshot.listed(found)}) have {total} {what} of at most 4 pixels, each within "
                    "one other class"
                )
                advice = f"remove them with --only {check} --mend NEW, if none of them is meant"
                yield snapshot.finding(check, "warning", words, found, advice=advice, split=split.name)

    return find


def _find_straight(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        found = [record.name for record in split.readable if record.mask is not None and record.mask.straight >= _MAX_STRAIGHT]
        if found and len(found) < len(split.readable):
            what = (
                f"{len(found)} of {len(split.readable)} masks ({snapshot.listed(found)}) have a border that runs straight through the "
                "whole image along a row or a column: tiles that were put together wrongly, or labels that end at a tile"
            )
            yield snapshot.finding("geometry.straight-border", "info", what, found, advice="look at them", split=split.name)


def _mark_small(*, holes: bool) -> Callable[[Finding], Marker]:
    def mark(finding: Finding) -> Marker:
        return lambda stored, classes: find_specks(classes, background=holes, holes=holes)

    return mark


def _mark_borders(finding: Finding) -> Marker:
    return lambda stored, classes: find_borders(classes)


CHECKS = (
    Check(
        "geometry.shifted", "masks lie beside their images' edges", "error", _find_shifted,
        mends="moves the masks of a split back by what they have in common, and ignores what they no longer cover", marker=_mark_borders,
    ),
    Check(
        "geometry.mirrored", "masks are mirrored", "error", _find_mirrored, mends="mirrors the masks once more", marker=_mark_borders,
    ),
    Check("geometry.dilated", "objects are drawn too large or too small everywhere", "warning", _find_dilated, marker=_mark_borders),
    Check(
        "geometry.specks", "masks have specks of a few pixels", "warning", _find_small("geometry.specks", "specks", "specks"),
        mends="gives each speck the class around it", asked=True, marker=_mark_small(holes=False),
    ),
    Check(
        "geometry.holes", "objects have holes of a few pixels", "warning", _find_small("geometry.holes", "holes", "holes"),
        mends="gives each hole the class around it", asked=True, marker=_mark_small(holes=True),
    ),
    Check(
        "geometry.straight-border", "a border runs straight through a whole image", "info", _find_straight, marker=_mark_borders,
    ),
)  # fmt: skip
