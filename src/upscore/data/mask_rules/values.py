"""Stored values that are no class: what they probably mean, and every way to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from upscore.data.finding import Finding, Remedy, with_background
from upscore.data.stored_masks import OBJECT_VALUES, AllMasks, pixel_counts, two_classes
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["find_ignored_splits", "find_undefined_values", "find_unmapped_values"]


def find_ignored_splits(masks: AllMasks) -> Iterator[Finding]:
    """Find splits of which every pixel is ignored."""
    for part in masks.parts:
        values = part.values()
        if all(part.class_of(value) == IGNORE for value in values):
            remedies = [] if values == [IGNORE] else _readings(values, masks)
            unnamed = [value for value in values if value not in masks.mapped_values] if masks.mapping is not None else []
            why = f" because label_mapping does not name {pixel_counts(masks.counted(unnamed))}" if unnamed else ""
            check = Remedy(advice="check the masks" + (" and label_mapping" if masks.mapping is not None else ""))
            yield masks.finding(
                "ignored.whole-split", f"every pixel of all {len(part.keys)} masks is ignored{why}, expected classes", remedies or [check],
                values=values, part=part,
            )  # fmt: skip


def find_undefined_values(masks: AllMasks) -> Iterator[Finding]:
    """Find values that are no class, where there is no label_mapping."""
    if masks.mapping is not None or not masks.undefined:
        return
    chosen = masks.holding(masks.undefined)
    expected = f"0 to {masks.classes - 1}" if masks.classes > 1 else "0 alone for the one class in names"
    meaning, remedies = _likely_meaning(masks)
    if len(masks.values) > max(32, masks.classes + 8):
        meaning = f"{len(masks.values)} different values: masks resized with interpolation, blurred or saved as photographs"
        remedies = [Remedy(advice="export them anew, resized with nearest neighbour alone")]
    yield masks.finding(
        "values.no-class",
        f"{masks.describe(chosen)} hold values that are no class "
        f"({pixel_counts(masks.counted(masks.undefined))}), expected {expected} or 255 for ignored: {meaning}",
        remedies, chosen=chosen, values=masks.undefined,
    )  # fmt: skip


def _likely_meaning(masks: AllMasks) -> tuple[str, list[Remedy]]:
    """Return what values that are no class probably are, and a remedy for each way to read them."""
    values, undefined, classes, names = masks.values, masks.undefined, masks.classes, masks.names
    others = [value for value in values if value != IGNORE]
    identity = {value: value for value in range(classes)}
    ignore = Remedy(mapping=identity | dict.fromkeys(undefined, IGNORE), when=f"to ignore {'it' if len(undefined) == 1 else 'them'}")
    if others[0] == 1 and others[-1] == classes and classes > 1:
        return f"classes numbered from 1 to {classes}", [Remedy(mapping={value: value - 1 for value in range(1, classes + 1)})]
    if classes == 1:
        return "names has one class and lacks the background", _readings(values, masks)
    # Undefined values follow the classes that occur; where only 0 occurs, they are the classes in names, in order.
    known = identity if any(0 < value < classes for value in others) else {0: 0} if others[0] == 0 else {}
    every = known | {value: len(known) + number for number, value in enumerate(undefined)}
    add = Remedy((*names, *(f"class{value}" for value in undefined[classes - len(known) :])), _omit_identity(every))
    if len(others) == classes and others == [0, *undefined]:
        spread = Remedy(mapping={value: number for number, value in enumerate(others)})
        if IGNORE not in values:
            return "as many values as classes, spread out", [spread]
        also = {value: number for number, value in enumerate([*others, IGNORE])}
        third = Remedy(mapping={0: 0, others[1]: IGNORE, IGNORE: 1}, when=f"if 255 is {names[1]} and {others[1]} is to be ignored")
        fourth = Remedy((*names, "class255"), also, when="if 255 is a class too")
        return "as many values as classes, spread out", [
            Remedy(mapping=spread.mapping, when="if 255 means ignored"), third if classes == 2 else fourth,
        ]  # fmt: skip
    if len(values) == classes and values == [0, *undefined, IGNORE]:
        spread = Remedy(mapping={value: number for number, value in enumerate(values)})
        return "as many values as classes, spread out, the last one saved as 255", [spread]
    shown = [value for value in others if value < classes]
    ignored = [ignore] if len(shown) > 1 else []
    if undefined == [classes]:
        named = with_background(names)
        background = [Remedy(named, when=f"if 0 is a background and {classes} is {names[-1]}")] if named else []
        first = background + ignored if others == list(range(classes + 1)) else ignored + background
        what = "a void class, or names lacks " + ("the background or a class" if named else "a class")
        return f"probably {what}", [
            *_numbered_twice(masks), *first, Remedy(add.names, add.mapping, when=f"if {classes} is another class"),
        ]  # fmt: skip
    if len(undefined) == 1 and len(shown) > 1:
        added = Remedy(add.names, add.mapping, when="if it is a class")
        return "probably a void class or one missing from names", [ignore, added]
    readings = [Remedy(add.names, add.mapping, when="to add the classes to names")]
    if len(others) == classes:
        read = Remedy(mapping={value: number for number, value in enumerate(others)}, when="if these are the classes in order")
        readings.insert(0, read)
    return "classes missing from names, or values to be ignored", readings + ignored


def _numbered_twice(masks: AllMasks) -> Iterator[Remedy]:
    """Yield a remedy where some masks may number the classes from 0 and others from 1: no mask holds 0 and the highest number."""
    from_zero, from_one = masks.occurs[:, 0], masks.occurs[:, masks.classes]
    if from_zero.any() and not (from_zero & from_one).any():
        # A mask that holds neither may be of either kind: then no command can be given.
        certain = (from_zero | from_one | masks.occurs[:, IGNORE] & (masks.occurs.sum(axis=1) == 1)).all()
        yield Remedy(
            advice="lower each value of these by one",
            when=f"if only some masks ({listed(masks.keys(from_one))}) number the classes from 1",
            rewrite=f"a - (a < 255) * (a[a < 255].max(initial=0) == {masks.classes})" if certain else "",
        )


def find_unmapped_values(masks: AllMasks) -> Iterator[Finding]:
    """Find values that label_mapping does not name, and that are therefore ignored."""
    if masks.mapping is None or not masks.undefined:
        return
    shown = {masks.class_of(value) for value in masks.values}
    targets = {*masks.mapping.values()} & set(range(masks.classes))
    lost = sorted(targets - shown)
    lost_names = [masks.names[label] for label in lost]
    chosen = masks.holding(masks.undefined)
    each = listed([f"{value} ({masks.pixels[value]} px in {int(masks.occurs[:, value].sum())} masks)" for value in masks.undefined], 6)
    what = f"label_mapping does not name {each}, stored in {int(chosen.sum())} of {masks.count} masks: such pixels are ignored"
    silenced = Remedy(
        mapping=dict(masks.mapping) | dict.fromkeys(masks.undefined, IGNORE),
        when=f"if {'it is' if len(masks.undefined) == 1 else 'they are'} meant to be ignored",
    )
    if lost:
        what += f", and no mask shows {listed(lost_names, 6)}"
    if not lost or (
        2 * len(lost) < len(targets) and len(shown - {IGNORE}) > 1
    ):  # most of the mapping fits: a rare class and a void are more likely
        yield masks.finding("values.unnamed", what, severity="warning" if lost else "info", chosen=chosen, values=masks.undefined)
        return
    readings = _readings(masks.values, masks)
    if (
        not readings
        and len(lost) == 1
        and set(masks.undefined) <= OBJECT_VALUES
        and (masks.occurs[:, masks.undefined].sum(axis=1) <= 1).all()
    ):
        readings = [Remedy(mapping=dict(masks.mapping) | dict.fromkeys(masks.undefined, lost[0]))]  # encodings of the one class
    if not readings and len(lost) == len(masks.undefined):
        readings = [Remedy(mapping=dict(masks.mapping) | dict(zip(masks.undefined, lost, strict=True)))]
    remedies = [*readings, *([silenced] if len(shown - {IGNORE}) > 1 else [])]
    fatal = bool(readings) or len(shown - {IGNORE}) < 2
    if not remedies:
        remedies = [Remedy(advice=f"give their class in label_mapping, such as {masks.undefined[0]}: {lost[0]}")]
    yield masks.finding("values.unnamed", what, remedies, severity="error" if fatal else "warning", chosen=chosen, values=masks.undefined)


def _readings(values: Sequence[int], masks: AllMasks) -> list[Remedy]:
    """Return the settings under which the stored ``values`` are all classes, in their order; empty where none is likely."""
    others = [value for value in values if value != IGNORE]
    if masks.classes == 1:
        if len(values) < 2 or (len(values) > 2 and len(others) < 2):
            return []
        if values in ([0, 1], [0, 1, IGNORE]):
            return [Remedy(two_classes(masks.names), None if masks.mapping is None else {0: 0, 1: 1})]
        if len(values) == 2:
            low, high = (values[1], values[0]) if values == [1, IGNORE] else values
            return [Remedy(two_classes(masks.names), {low: 0, high: 1})]
        names = (*two_classes(masks.names), *(f"class{value}" for value in others[2:]))
        return [Remedy(names, _omit_identity({value: number for number, value in enumerate(others)}))]
    if others and others[-1] < masks.classes and len(others) > 1:
        return [Remedy(mapping={value: value for value in others})]
    for found in (others, list(values)):
        if len(found) == masks.classes:
            return [Remedy(mapping={value: number for number, value in enumerate(found)})]
    return []


def _omit_identity(mapping: Mapping[int, int]) -> Mapping[int, int] | None:
    """Return the mapping, or None where it changes nothing."""
    return None if all(value == label for value, label in mapping.items()) else mapping
