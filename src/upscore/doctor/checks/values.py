"""Values: what masks store, and what it probably means."""

from __future__ import annotations

from collections.abc import Iterator

from upscore.data.finding import Finding
from upscore.doctor.check import Check, Marker
from upscore.doctor.checks.known import by_rules, unreadable
from upscore.doctor.measurements import find_between
from upscore.doctor.snapshot import Snapshot

__all__ = ["CHECKS", "MAX_BETWEEN"]

MAX_BETWEEN = 0.25
"""Of the places where a mask goes from a class to one that is not the next, the fraction at which it goes there in steps, as resizing with
interpolation does; clean masks of street scenes have at most 0.03."""

_MIN_BETWEEN = 40  # pixels


def _find_interpolated(snapshot: Snapshot) -> Iterator[Finding]:
    """Find masks in which classes lie in steps between others along borders."""
    for split in snapshot.splits:
        found = [
            record
            for record in split.readable
            if (mask := record.mask) and mask.between >= _MIN_BETWEEN and mask.between > MAX_BETWEEN * (mask.between + mask.jumps)
        ]
        if found:
            pixels = sum(record.mask.between for record in found if record.mask)
            names = [record.name for record in found]
            what = (
                f"{len(found)} of {len(split.readable)} masks ({snapshot.listed(names)}) go from one class to another in steps of classes "
                f"whose numbers lie between ({pixels} pixels): resized or turned with interpolation, which invents classes along borders"
            )
            advice = "export them anew, and resize masks with nearest neighbour alone"
            yield snapshot.finding("values.interpolated", "error", what, names, advice=advice, split=split.name)


def _mark_between(finding: Finding) -> Marker:
    return lambda stored, classes: find_between(classes)


CHECKS = (
    Check(
        "values.lossy", "a mask was saved with lossy compression, which changes its values", "error", unreadable("values.lossy"),
        mends="gives each pixel of a mask of two values the nearer one",
    ),
    Check(
        "values.colours", "a mask stores colours where class indices are expected", "error", unreadable("values.colours"),
        mends="gives each colour its class where the palette is known",
    ),
    Check(
        "values.alpha", "a mask has a transparency that varies", "error", unreadable("values.alpha"), mends="drops the transparency",
    ),
    Check(
        "values.range", "a mask stores values that 8 bits do not hold", "error", unreadable("values.range"),
        mends="divides by 256, 257 or 1000 where that gives classes",
    ),
    Check(
        "values.object-as-255", "objects are stored as 255, which means ignored", "error", by_rules("values.object-as-255"),
        mends="sets label_mapping",
    ),
    Check("values.no-class", "masks hold values that are no class", "error", by_rules("values.no-class"), mends="sets label_mapping"),
    Check(
        "values.unnamed", "label_mapping does not name values that masks hold", "error", by_rules("values.unnamed"),
        mends="sets label_mapping",
    ),
    Check("values.mixed-encodings", "masks store the classes in two encodings", "error", by_rules("values.mixed-encodings")),
    Check(
        "values.blurred", "masks of two values have others along borders", "error", by_rules("values.blurred"),
        mends="gives each pixel the nearer of the two values",
    ),
    Check("values.palettes-differ", "a number has different colours in different masks", "error", by_rules("values.palettes-differ")),
    Check(
        "values.interpolated", "classes lie in steps between others along borders", "error", _find_interpolated,
        mends="gives such pixels the nearest other class", marker=_mark_between,
    ),
)  # fmt: skip
