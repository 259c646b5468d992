"""Ignored pixels: how many, and where."""

from __future__ import annotations

from collections.abc import Iterator

from upscore.data.finding import Finding
from upscore.doctor.check import Check
from upscore.doctor.checks.known import by_rules
from upscore.doctor.snapshot import Snapshot
from upscore.types import IGNORE

__all__ = ["CHECKS"]

MAX_IGNORED = 0.9
"""Of a mask, the fraction of ignored pixels beyond which it is reported."""


def _find_mostly(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        fractions = split.class_pixels[:, -1] / split.class_pixels.sum(axis=1).clip(1)
        found = [r.name for r, fraction in zip(split.readable, fractions, strict=True) if MAX_IGNORED < fraction < 1]
        if found and 2 * len(found) < len(split.readable):
            what = f"more than {MAX_IGNORED:.0%} of the pixels are ignored in {len(found)} of {len(fractions)} masks "
            what += f"({snapshot.listed(found)})"
            yield snapshot.finding(
                "ignored.mostly",
                "warning",
                what,
                found,
                advice="check that they are labelled to the end",
                values={IGNORE: 0},
                split=split.name,
            )


def _find_fraction(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        ignored, total = int(split.class_pixels[:, -1].sum()), int(split.class_pixels.sum())
        if ignored > 0.3 * total:
            what = f"{ignored / total:.0%} of all pixels are ignored: neither learned nor evaluated"
            worst = split.class_pixels[:, -1].argsort()[::-1][:4].tolist()
            yield snapshot.finding(
                "ignored.fraction", "info", what, [split.readable[i].name for i in worst], values={IGNORE: ignored}, split=split.name
            )


CHECKS = (
    Check("ignored.whole-split", "every pixel of a split is ignored", "error", by_rules("ignored.whole-split")),
    Check("ignored.whole-mask", "every pixel of a mask is ignored", "warning", by_rules("ignored.whole-mask")),
    Check("ignored.mostly", "nearly every pixel of a mask is ignored", "warning", _find_mostly, needs_classes=True),
    Check("ignored.fraction", "much of a split is ignored", "info", _find_fraction, needs_classes=True),
)
