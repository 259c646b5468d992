"""Masks that store classes in two encodings, as blurred 0/255 masks, or with the object as 255."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from upscore.data.finding import Finding, Remedy
from upscore.data.stored_masks import OBJECT_VALUES, AllMasks, pixel_counts, two_classes
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["find_blurred_masks", "find_mixed_encodings", "find_object_as_255"]


def find_mixed_encodings(masks: AllMasks) -> Iterator[Finding]:
    """Find masks that store the classes as other numbers than the others."""
    if masks.mapping is None:
        usual = [value for value in masks.values if 0 < value < masks.classes] or ([1] if 1 in masks.values else [])
        other = [value for value in masks.values if value > 0 and value not in usual]
        likely = other not in ([masks.classes], list(range(max(2, masks.classes), max(2, masks.classes) + len(usual))))
    else:
        usual = [value for value in masks.values if masks.class_of(value) in range(1, masks.classes)]
        other = [value for value in masks.values if value > 0 and value not in masks.mapped_values]
        likely = set(other) <= OBJECT_VALUES and len({masks.class_of(value) for value in usual}) == 1
    if not usual or not other or not likely:
        return
    with_other, with_usual = masks.holding(other), masks.holding(usual)
    binary = masks.classes <= 2 or usual == [1]
    # Two encodings are likely where every mask uses one of them, and a mask of the other one also shows the background.
    single = (masks.occurs[:, 1:][:, [value - 1 for value in other]].sum(axis=1) <= 1).all()
    consistent = single if binary else len(other) == len(usual) == masks.classes - 1
    if (with_other & with_usual).any() or not (with_other & masks.occurs[:, 0]).any() or not consistent:
        return
    known = dict(masks.mapping) if masks.mapping is not None else {0: 0} | {value: value for value in usual}
    targets = [masks.class_of(value) for value in usual]
    merged = known | {value: targets[0] if binary else target for value, target in zip(other, targets * len(other), strict=False)}
    names = two_classes(masks.names) if masks.classes == 1 else None
    remedies = [
        Remedy(names, merged, when=f"if {_join(other)} {'mean' if len(other) > 1 else 'means'} the same as {_join(usual)}"),
        Remedy(names, known | dict.fromkeys(other, IGNORE), when=f"if {_join(other)} {'are' if len(other) > 1 else 'is'} to be ignored"),
    ]
    yield masks.finding(
        "values.mixed-encodings",
        f"{masks.describe(with_other)} store {pixel_counts(masks.counted(other))} where "
        f"others ({listed(masks.keys(with_usual))}) store {pixel_counts(masks.counted(usual))}: two encodings in one dataset",
        remedies, chosen=with_other, values=[*usual, *other],
    )  # fmt: skip


def find_blurred_masks(masks: AllMasks) -> Iterator[Finding]:
    """Find values between the two of masks of two classes."""
    if not masks.undefined or masks.classes > 2:
        return
    candidates = masks.values if masks.mapping is None else [value for value in masks.values if value in masks.mapped_values]
    first = max(candidates, key=lambda value: masks.pixels[value])
    if not (far := [value for value in candidates if abs(value - first) >= 32]):
        return
    low, high = sorted((first, max(far, key=lambda value: masks.pixels[value])))
    between = [value for value in masks.values if value not in (low, high)]
    majority = int(masks.pixels[low] + masks.pixels[high]) * 2 >= int(masks.pixels.sum())
    near = all(low - 16 <= value <= high + 16 for value in between)
    if (
        len(between) < 3
        or not majority
        or not near
        or not set(between) - masks.mapped_values
        or masks.class_of(low) == masks.class_of(high) != IGNORE
    ):
        return
    middle = (low + high + 1) // 2
    highest = [int(np.flatnonzero(row)[-1]) for row in masks.occurs]
    safe = all(value >= middle or value == low for value in highest)  # a mask of 0 and 1 among them would be emptied
    rewrite = f"a >= {middle}" if masks.mapping is None else f"n.where(a >= {middle}, {high}, {low})"
    names = two_classes(masks.names) if masks.classes == 1 else None
    chosen = masks.holding(between)
    advice = f"export the masks without anti-aliasing and resize them with nearest neighbour alone, or threshold them at {middle}"
    yield masks.finding(
        "values.blurred",
        f"{masks.describe(chosen)} hold {len(between)} values besides {low} and {high} "
        f"({pixel_counts(masks.counted(between))}): {low}/{high} masks whose edges were blurred, resized, anti-aliased or compressed",
        [Remedy(names, advice=advice, rewrite=rewrite if safe else "")], chosen=chosen, values=between,
    )  # fmt: skip


def find_object_as_255(masks: AllMasks) -> Iterator[Finding]:
    """Find 0/255 masks: the only values are 0 and 255."""
    if masks.values == [0, IGNORE] and IGNORE not in masks.mapped_values:
        meaning = "the object saved as 255, which means ignored"
        if masks.classes == 1:
            meaning += f", and the background taken for {masks.names[0]}, the one class in names"
        yield masks.finding(
            "values.object-as-255",
            f"all {masks.count} masks hold only 0 and 255 ({int(masks.pixels[IGNORE])} pixels): 0/255 masks, {meaning}",
            [Remedy(two_classes(masks.names) if masks.classes == 1 else None, {0: 0, IGNORE: 1})], values=[0, IGNORE],
        )  # fmt: skip


def _join(values: Sequence[int]) -> str:
    return " and ".join([", ".join(map(str, values[:-1])), str(values[-1])] if len(values) > 1 else [str(values[0])])
