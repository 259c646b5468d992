"""Sizes: masks that do not fit their images, and why."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from upscore.data.finding import Finding
from upscore.doctor.check import Check
from upscore.doctor.checks.known import unreadable
from upscore.doctor.placement import is_turned
from upscore.doctor.snapshot import Snapshot

__all__ = ["CHECKS"]


def _find_orientation(snapshot: Snapshot) -> Iterator[Finding]:
    """Find masks that fit their turned images in size, and fit better when they are turned too."""
    for split in snapshot.splits:
        wrong = [record.name for record in split.readable if is_turned(record)]
        if wrong:
            what = (
                f"{len(wrong)} of {len(split.records)} masks ({snapshot.listed(wrong)}) fit their images as stored, and not as their EXIF "
                "orientation tags turn them"
            )
            yield snapshot.finding(
                "sizes.orientation", "error", what, wrong, advice="turn the masks as the images are turned", split=split.name
            )


def _find_aspect(snapshot: Snapshot) -> Iterator[Finding]:
    records = [record for record in snapshot.records() if record.size[0]]
    if len(records) < 5:
        return
    ratios = np.log([record.size[1] / record.size[0] for record in records])
    odd = [record.name for record, ratio in zip(records, np.abs(ratios - np.median(ratios)), strict=True) if ratio > np.log(3)]
    if odd:
        what = f"{len(odd)} of {len(records)} images ({snapshot.listed(odd)}) are more than three times as wide or as high as is usual here"
        yield snapshot.finding("sizes.aspect", "info", what, odd, advice="check that they are whole images")


CHECKS = (
    Check(
        "sizes.turned", "masks fit their images before the EXIF orientation is applied", "error", unreadable("sizes.turned"),
        mends="turns the masks too",
    ),
    Check(
        "sizes.orientation", "masks have the size of their images, but not their EXIF orientation", "error", _find_orientation,
        mends="turns the masks too",
    ),
    Check(
        "sizes.scaled", "masks are larger or smaller than their images by a factor", "error", unreadable("sizes.scaled"),
        mends="resizes the masks with nearest neighbour",
    ),
    Check(
        "sizes.off-by-one", "masks differ from their images by one or two pixels", "error", unreadable("sizes.off-by-one"),
        mends="places the masks where the borders of all together fit the images best, and ignores what they do not cover",
    ),
    Check("sizes.differ", "masks have another size than their images", "error", unreadable("sizes.differ")),
    Check("sizes.aspect", "an image has an unusual aspect ratio", "info", _find_aspect),
)  # fmt: skip
