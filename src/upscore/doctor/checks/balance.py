"""Balance: classes that are missing, rare, or shown by few images and objects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from upscore.data.finding import Finding, SampleName, has_background
from upscore.doctor.check import Check
from upscore.doctor.checks.known import by_rules
from upscore.doctor.scan import classes_of, sum_counts
from upscore.doctor.snapshot import Snapshot, SplitRecords
from upscore.text import listed

__all__ = ["CHECKS"]

MIN_OBJECTS = 5
"""Objects of a class in the validation split below which its IoU is not reliable."""

MIN_PIXELS = 0.001
"""The fraction of the labelled pixels below which a class is rare."""


def _find_not_trained(snapshot: Snapshot) -> Iterator[Finding]:
    """Find classes that are validated or tested and never shown in training."""
    train = snapshot.train
    if train is None or not train.readable:
        return
    learned = train.class_pixels.sum(axis=0) > 0
    for split in snapshot.splits:
        if split is train or not split.readable:
            continue
        shown = split.class_pixels > 0
        missing = [label for label in range(len(snapshot.labels)) if shown[:, label].any() and not learned[label]]
        if missing:
            names = [record.name for record, row in zip(split.readable, shown, strict=True) if row[missing].any()]
            what = (
                f"{len(names)} of {len(split.readable)} masks of {split.name} show "
                f"{listed([snapshot.labels.names[k] for k in missing], 6)}, "
                f"which no mask of {train.name} shows: it cannot be learned, and counts as wrong"
            )
            yield snapshot.finding(
                "balance.not-trained", "warning", what, names, advice="move some of these images to train", split=split.name,
                values=_values_of(split, missing),
            )  # fmt: skip


def _find_single(snapshot: Snapshot) -> Iterator[Finding]:
    """Find classes that a single training image shows."""
    train = snapshot.train
    if train is None or len(train.readable) < 5:
        return
    shown = train.class_pixels > 0
    for label, name in enumerate(snapshot.labels.names):
        if int(shown[:, label].sum()) == 1:
            record = train.readable[int(np.flatnonzero(shown[:, label])[0])]
            what = f"a single image of {train.name} shows {name} ({record.key}): it cannot be learned beyond that image"
            yield snapshot.finding(
                "balance.single-image", "warning", what, [record.name], advice="label more of it, or merge it with another class",
                split=train.name, values=_values_of(train, [label]),
            )  # fmt: skip


def _find_rare(snapshot: Snapshot) -> Iterator[Finding]:
    train = snapshot.train
    if train is None or not train.readable:
        return
    pixels = train.class_pixels[:, :-1].sum(axis=0)
    labelled = int(pixels.sum())
    rare = [k for k in range(len(pixels)) if 0 < pixels[k] < MIN_PIXELS * labelled]
    if rare:
        each = listed([f"{snapshot.labels.names[k]} {100 * pixels[k] / labelled:.2g} %" for k in rare], 6)
        what = f"classes with less than {100 * MIN_PIXELS:g} % of the labelled pixels: {each}"
        shown = train.class_pixels[:, rare].sum(axis=1)
        examples: list[SampleName] = [train.readable[i].name for i in shown.argsort()[::-1][:4].tolist() if shown[i]]
        yield snapshot.finding(
            "balance.rare", "info", what, examples, split=train.name, values=_values_of(train, rare),
            advice="weight the classes with --set loss.class_weights=median-frequency, and look at each class's IoU, not only the mean",
        )  # fmt: skip


def _find_few_objects(snapshot: Snapshot) -> Iterator[Finding]:
    val = snapshot.val
    if val is None or not val.readable:
        return
    counts = {
        k: sum(record.mask.objects.get(k, 0) for record in val.readable if record.mask is not None)
        for k in range(len(snapshot.labels))
        if not (k == 0 and has_background(snapshot.labels.names))
    }
    few = [k for k, count in counts.items() if 0 < count < MIN_OBJECTS]
    if few:
        each = listed([f"{snapshot.labels.names[k]} {counts[k]}" for k in few], 6)
        what = f"classes with fewer than {MIN_OBJECTS} connected components in {val.name}: {each}: their IoU is that of a few objects"
        shown = val.class_pixels[:, few].sum(axis=1)
        names = [val.readable[i].name for i in np.flatnonzero(shown).tolist()]
        yield snapshot.finding(
            "balance.few-objects", "info", what, names, advice="validate on more images", split=val.name, values=_values_of(val, few)
        )


def _find_empty(snapshot: Snapshot) -> Iterator[Finding]:
    """Find splits in which nearly every mask shows one class alone."""
    for split in snapshot.splits:
        shown = (split.class_pixels[:, :-1] > 0).sum(axis=1)
        alone = np.flatnonzero(shown == 1)
        if len(split.readable) >= 5 and len(alone) > 0.5 * len(split.readable):
            severity = "warning" if len(alone) > 0.95 * len(split.readable) else "info"
            names = [split.readable[i].name for i in alone.tolist()]
            what = f"{len(alone)} of {len(shown)} masks show one class alone"
            yield snapshot.finding(
                "balance.empty", "warning" if severity == "warning" else "info", what, names, split=split.name,
                advice="train on crops that show the others (--set crops.of=objects), or leave most of these images out",
            )  # fmt: skip


def _values_of(split: SplitRecords, labels: list[int]) -> dict[int, int]:
    """Return the stored values of classes, each with its pixels."""
    table = classes_of(split.dataset)
    stored = sum_counts(split.readable)
    return {value: int(stored[value]) for value in range(256) if int(table[value]) in labels and stored[value]}


CHECKS = (
    Check("balance.one-class", "the masks show one class alone", "error", by_rules("balance.one-class")),
    Check("balance.class-not-shown", "no mask of a split shows a class", "warning", by_rules("balance.class-not-shown")),
    Check("balance.not-trained", "a class is validated and never shown in training", "warning", _find_not_trained, needs_classes=True),
    Check("balance.single-image", "a single training image shows a class", "warning", _find_single, needs_classes=True),
    Check("balance.rare", "a class has very few pixels", "info", _find_rare, needs_classes=True),
    Check("balance.few-objects", "a class has very few objects in the validation split", "info", _find_few_objects, needs_classes=True),
    Check("balance.empty", "most masks show one class alone", "warning", _find_empty, needs_classes=True),
)
