"""Splits: images that are in two of them, nearly so, or belong to one recording."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from upscore.data.finding import Finding, SampleName
from upscore.data.overlap import shared_images_finding
from upscore.doctor.check import Check
from upscore.doctor.near_duplicates import cluster, distances, near_pairs
from upscore.doctor.scan import Record
from upscore.doctor.snapshot import Snapshot, SplitRecords

__all__ = ["CHECKS"]

NEAR, HINT = 4, 8
"""Bits in which the difference hashes of near duplicates differ at most, and those of images that may be ones."""

_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$")


def _others(snapshot: Snapshot) -> Iterator[tuple[SplitRecords, SplitRecords]]:
    """Yield each pair of splits, the one that is trained on first."""
    ordered = sorted(snapshot.splits, key=lambda split: split is not snapshot.train)
    for i, first in enumerate(ordered):
        for second in ordered[i + 1 :]:
            yield first, second


def _with_images(split: SplitRecords) -> list[Record]:
    return [record for record in split.records if record.image is not None]


def _find_shared(snapshot: Snapshot) -> Iterator[Finding]:
    for first, second in _others(snapshot):
        by_digest = {record.image.digest: record.key for record in reversed(_with_images(first)) if record.image}
        shared = [(r.key, by_digest[r.image.digest]) for r in _with_images(second) if r.image and r.image.digest in by_digest]
        trained = first is snapshot.train
        found = shared_images_finding(
            shared, "the training data" if trained else first.name, f"the validation data ({second.name})" if trained else second.name,
            len(second.records), splits=(first.name, second.name),
        )  # fmt: skip
        if found is not None:
            yield found


def _find_repeated(snapshot: Snapshot) -> Iterator[Finding]:
    for split in snapshot.splits:
        groups = _same([(record.name, record.image.digest) for record in _with_images(split) if record.image])
        if groups:
            extra = sum(len(group) - 1 for group in groups)
            what = (
                f"{extra} of {len(split.records)} images are copies of others in the same split ({' = '.join(k for _, k in groups[0])}, …)"
            )
            yield snapshot.finding(
                "splits.repeated-images", "warning", what.replace(", …)", ")" if len(groups) == 1 else ", …)"), groups,
                advice="leave the copies out: they count more than once, and their masks may differ", split=split.name,
            )  # fmt: skip


def _find_same_masks(snapshot: Snapshot) -> Iterator[Finding]:
    """Find masks of more than one class that are equal though their images differ."""
    records = [r for r in snapshot.records() if r.mask and r.image and r.stored is not None and r.stored.shape[1] > 1]
    image_of = {record.name: record.image.digest for record in records if record.image}
    groups = _same([(record.name, record.mask.digest) for record in records if record.mask])
    groups = [group for group in groups if len({image_of[name] for name in group}) > 1]
    if groups:
        count = sum(map(len, groups))
        what = f"{count} masks are equal to the mask of another image, pixel for pixel, first those of {snapshot.listed(groups[0])}"
        yield snapshot.finding(
            "splits.same-masks", "warning", what, groups, advice="check which of the images each was drawn for: masks were probably copied"
        )


def _same(named: Sequence[tuple[SampleName, bytes]]) -> list[list[SampleName]]:
    """Return the names that have a digest in common, in groups of two and more."""
    by_digest: dict[bytes, list[SampleName]] = defaultdict(list)
    for name, digest in named:
        by_digest[digest].append(name)
    return [names for names in by_digest.values() if len(names) > 1]


def _find_near(snapshot: Snapshot) -> Iterator[Finding]:
    """Find images of two splits that are nearly the same, and are not the same."""
    for first, second in _others(snapshot):
        one, two = _textured(first), _textured(second)
        pairs = near_pairs([r.image.hash for r in one if r.image], [r.image.hash for r in two if r.image], HINT)
        nearest: dict[int, tuple[int, int]] = {}
        for i, j, distance in pairs:
            here, there = one[i].image, two[j].image
            if here is not None and there is not None and here.digest != there.digest and distance < nearest.get(j, (99, 0))[0]:
                nearest[j] = distance, i
        for low, high, severity in ((0, NEAR, "warning"), (NEAR + 1, HINT, "info")):
            found = sorted((distance, j, i) for j, (distance, i) in nearest.items() if low <= distance <= high)
            if not found:
                continue
            groups = [[two[j].name, one[i].name] for _, j, i in found]
            what = (
                f"{len(found)} of {len(second.records)} images of {second.name} "
                f"{'are nearly' if severity == 'warning' else 'may be nearly'} the same as images of {first.name} "
                f"(first {groups[0][0][1]}, there {groups[0][1][1]}): their difference hashes differ in "
                f"{low} to {high} of 64 bits"
            )
            yield snapshot.finding(
                "splits.near-duplicates", "warning" if severity == "warning" else "info", what, groups,
                advice="put images of one scene into one split",
            )  # fmt: skip


def _textured(split: SplitRecords) -> list[Record]:
    """Return the records whose images have enough contrast for their hashes to mean something."""
    return [record for record in split.records if record.image is not None and record.image.contrast > 0.02]


def _find_groups(snapshot: Snapshot) -> Iterator[Finding]:
    """Find images that follow images of training in the numbering of their names, and look like them: frames of the same recording."""
    for first, second in _others(snapshot):
        numbered: dict[tuple[str, str], list[tuple[int, bool, Record]]] = defaultdict(list)
        for split in (first, second):
            for record in _textured(split):
                if matched := _NUMBERED.match(record.key.rpartition("/")[2]):
                    numbered[matched[1], matched[3]].append((int(matched[2]), split is second, record))
        pairs: list[list[SampleName]] = []
        near: list[int] = []
        for members in numbered.values():
            members.sort(key=lambda member: member[0])
            for i, (_, evaluated, record) in enumerate(members):
                if not evaluated:
                    continue
                beside = [members[k][2] for k in (i - 1, i + 1) if 0 <= k < len(members) and not members[k][1]]
                if beside:
                    nearest = min(beside, key=lambda other: distances(record, other))
                    pairs.append([record.name, nearest.name])
                    near.append(distances(record, nearest))
        total = len(_textured(second))
        if len(pairs) < 3 or len(pairs) <= 0.3 * total:
            continue
        one, two = _textured(first), _textured(second)
        usual = float(np.median([distances(two[k % len(two)], one[(7 * k + 3) % len(one)]) for k in range(300)]))
        if float(np.median(near)) > 0.75 * usual:
            continue
        what = (
            f"{len(pairs)} of {len(second.records)} images of {second.name} stand next to an image of {first.name} in the numbering of "
            f"their names, and look alike: frames of the same recordings on both sides, so that metrics on {second.name} are too good"
        )
        yield snapshot.finding(
            "splits.groups", "warning", what, pairs, advice="divide by recording, not by frame", split=f"{first.name} and {second.name}"
        )


def _find_effective(snapshot: Snapshot) -> Iterator[Finding]:
    """Find validation splits whose images are mostly near duplicates of one another."""
    val = snapshot.val
    if val is None or len(records := _textured(val)) < 5:
        return
    groups = cluster([record.image.hash for record in records if record.image], NEAR)
    if 2 * len(groups) <= len(records):
        names = [[records[i].name for i in group[:2]] for group in sorted(groups, key=len, reverse=True) if len(group) > 1]
        what = (
            f"the {len(records)} images of {val.name} are {len(groups)} groups of nearly equal ones: as evidence they count as about "
            f"{len(groups)} independent images"
        )
        yield snapshot.finding("splits.effective-size", "info", what, names, advice="validate on more scenes", split=val.name)


CHECKS = (
    Check(
        "splits.shared-images", "the same image is in two splits", "warning", _find_shared, mends="leaves the copies in training out",
    ),
    Check(
        "splits.repeated-images", "an image is several times in one split", "warning", _find_repeated,
        mends="leaves all but the first out",
    ),
    Check("splits.same-masks", "different images have the same mask", "warning", _find_same_masks),
    Check("splits.near-duplicates", "nearly the same image is in two splits", "warning", _find_near),
    Check("splits.groups", "frames of one recording are in two splits", "warning", _find_groups),
    Check("splits.effective-size", "validation images are near duplicates of one another", "info", _find_effective),
)  # fmt: skip
