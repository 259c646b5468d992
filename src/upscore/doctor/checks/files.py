"""Files: what cannot be opened or paired, and names that some systems confuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from upscore.data.finding import Finding
from upscore.doctor.check import Check
from upscore.doctor.checks.known import unreadable
from upscore.doctor.snapshot import Snapshot

__all__ = ["CHECKS"]


def _find_layout(snapshot: Snapshot) -> Iterator[Finding]:
    by_error: dict[str, list[str]] = {}
    for split, error in snapshot.unopened.items():
        by_error.setdefault(str(error), []).append(split)
    for text, splits in by_error.items():
        named = f"the split{'s' * (len(splits) > 1)} {' and '.join(splits)} " if any(splits) else ""
        yield snapshot.finding("files.layout", "error", f"{named}cannot be opened: {text}")


def _find_bands(snapshot: Snapshot) -> Iterator[Finding]:
    """Find images whose number or type of bands differs from most others'."""
    records = [record for record in snapshot.records() if record.bands]
    kinds = Counter(record.bands for record in records)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    other = [record for record in records if record.bands != usual]
    what = (
        f"{len(other)} of {len(records)} images have {other[0].bands} and the others {usual} ({snapshot.listed([r.name for r in other])})"
    )
    advice = "convert them to one kind, or train with --set input.dtype=uint8"
    yield snapshot.finding("files.bands-differ", "error", what, [record.name for record in other], advice=advice)


def _find_case(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        by_name: dict[str, list[str]] = {}
        for record in split.records:
            by_name.setdefault(record.key.casefold(), []).append(record.key)
        clashing = [keys for keys in by_name.values() if len(keys) > 1]
        if clashing:
            what = f"{len(clashing)} names differ only in upper and lower case, such as {' and '.join(clashing[0])}: "
            what += "Windows and macOS take them for one file"
            groups = [[(split.name, key) for key in keys] for keys in clashing]
            yield snapshot.finding("files.case", "warning", what, groups, advice="rename them", split=split.name)


CHECKS = (
    Check("files.layout", "a split cannot be opened: files do not match, or a description is wrong", "error", _find_layout),
    Check(
        "files.unreadable", "an image or a mask is damaged, truncated, empty or of an unknown format", "error",
        unreadable("files.unreadable"),
        mends="leaves the sample out",
    ),
    Check("files.bands-differ", "images differ in the number or type of their bands", "error", _find_bands),
    Check("files.case", "names differ only in upper and lower case", "warning", _find_case),
)  # fmt: skip
