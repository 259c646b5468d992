"""Which classes a split shows: fewer than two, or none of some; and masks without labelled pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from upscore.data.finding import Finding, Remedy
from upscore.data.stored_masks import AllMasks, StoredMasks, pixel_counts, two_classes
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["find_missing_classes"]


def find_missing_classes(masks: AllMasks, part: StoredMasks, *, trained: bool) -> Iterator[Finding]:
    """Find classes that a split does not show; fewer than two are fatal where it is ``trained`` on."""
    shown, values, count = part.classes_shown(), part.values(), len(part.keys)
    absent = [name for label, name in enumerate(part.names) if label not in shown]
    ignored = [value for value in values if part.class_of(value) == IGNORE]
    alone = ", ".join(part.names[label] for label in shown) or "nothing"
    besides = f"; {pixel_counts({value: int(part.pixels[value]) for value in ignored})} are ignored" if ignored else ""
    if trained and len(shown) < 2:
        lacking = f"no mask shows {listed(absent, 6)}, " if absent else "names has one class, "
        yield masks.finding(
            "balance.one-class",
            f"{lacking}all {count} masks show {alone} and nothing else{besides}: a network learns nothing from fewer than two classes",
            _remedies_for_one_class(masks, part, ignored), values=values, part=part,
        )  # fmt: skip
        return
    if trained:
        if absent:
            yield masks.finding(
                "balance.class-not-shown",
                f"no mask shows {listed(absent, 6)} ({len(absent)} of {len(part.names)} classes): not learned, and left out of the mean "
                "IoU unless predicted",
                severity="warning", part=part,
            )  # fmt: skip
    else:
        before = masks.parts[0].classes_shown()
        missing = [part.names[label] for label in before if label not in shown] if part is not masks.parts[0] else absent
        if len(shown) < 2:
            what = f"all {count} masks show {alone} and nothing else"
            if missing:
                what += f"{besides}: the mean IoU of one class does not measure how well it and {listed(missing, 6)} are distinguished"
            yield masks.finding("balance.one-class", what, severity="warning", part=part)
        elif missing:
            yield masks.finding(
                "balance.class-not-shown",
                f"no mask shows {listed(missing, 6)}: how well {'they are' if len(missing) > 1 else 'it is'} labelled is not measured, and "
                "the mean IoU is over the other classes",
                severity="warning", part=part,
            )  # fmt: skip
    blank = np.asarray(~part.occurs[:, [value for value in values if part.class_of(value) != IGNORE]].any(axis=1))
    if blank.any():
        keys = [part.keys[index] for index in np.flatnonzero(blank).tolist()]
        what = f"{len(keys)} of {count} masks hold ignored pixels alone ({listed(keys)})"
        yield masks.finding("ignored.whole-mask", what, severity="warning", chosen=blank, part=part)


def _remedies_for_one_class(masks: AllMasks, part: StoredMasks, ignored: Sequence[int]) -> list[Remedy]:
    check = Remedy(advice="check that the masks were exported with all their classes")
    if len(part.names) == 1:
        return [Remedy(two_classes(part.names), None, advice="give masks that show both")]
    if len(ignored) == 1 and len(part.classes_shown()) == 1:
        (alone,), (value,) = part.classes_shown(), ignored
        second = next(label for label in range(len(part.names)) if label != alone)
        known = {alone: alone} if masks.mapping is None else masks.mapping
        return [Remedy(mapping=dict(known) | {value: second}, when=f"if {value} is {part.names[second]}"), check]
    if masks.mapping is not None and ignored:
        return [Remedy(advice=f"let label_mapping send {listed(list(ignored), 6)} to classes"), check]
    return [check]
