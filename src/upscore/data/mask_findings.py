"""What is wrong with a dataset's masks, told from the numbers they store: each fault a value with its remedies.

Masks store numbers, and what a number means is a convention that people mistake: objects
saved as 255, which means ignored; a background that is not named; classes numbered from 1;
half of the files in one encoding and half in another; edges blurred by a resize. Each rule
below looks for one such mistake in the numbers of all masks. A remedy is what makes the
masks read as they were meant; where they can be meant in two ways, each way has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from upscore.data.remedies import Description, Remedy, rewriting, with_background
from upscore.text import listed
from upscore.types import IGNORE

__all__ = ["Finding", "StoredMasks", "diagnose"]

_OBJECT = {1, 127, 128, 254, 255}  # what masks of one object on a background store for it


@dataclass(frozen=True, eq=False)
class StoredMasks:
    """The numbers that the masks of one split store.

    Parameters
    ----------
    name, split : str
        Which part of which dataset.
    keys : sequence of str
        The samples' keys.
    names : tuple of str
        The classes.
    occurs : (masks, 256) bool
        Which stored values each mask holds.
    pixels : (256,) int64
        Pixels of each stored value, over all masks.
    mapping : mapping of int to int, optional
        The user's label_mapping; 255 means ignored.
    palettes : sequence of bytes
        RGB of each mask's numbers, empty where it has none; empty altogether where masks are not files.
    files : sequence of Path
        The masks' files; empty where they are not files.
    description : Description, optional
        Where names and label_mapping are set.
    """

    name: str
    split: str
    keys: Sequence[str]
    names: tuple[str, ...]
    occurs: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.int64]
    mapping: Mapping[int, int] | None = None
    palettes: Sequence[bytes] = ()
    files: Sequence[Path] = ()
    description: Description | None = None

    def class_of(self, value: int) -> int:
        """Return the class of a stored value, 255 where it is ignored; a value that is no class is returned as it is."""
        return value if self.mapping is None else self.mapping.get(value, IGNORE)

    def values(self) -> list[int]:
        """Return the stored values that occur, in order."""
        return [int(value) for value in np.flatnonzero(self.pixels)]

    def shown(self) -> list[int]:
        """Return the classes that occur, in order."""
        return sorted({self.class_of(value) for value in self.values()} & set(range(len(self.names))))


@dataclass(frozen=True)
class Finding:
    """One thing about a dataset's masks that its user should know.

    Parameters
    ----------
    kind : str
        Which rule found it.
    fatal : bool
        Whether training on the masks as they are would be wrong.
    where : str
        The dataset and its splits.
    what : str
        What was found.
    keys : tuple of str
        The samples concerned; empty where it is all of them.
    values : dict of int to int
        Pixels of each stored value concerned.
    remedies : tuple of Remedy
        What mends it; more than one where that depends on what the masks mean.
    told : str
        The remedies in words.
    """

    kind: str
    fatal: bool
    where: str
    what: str
    keys: tuple[str, ...] = ()
    values: Mapping[int, int] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()
    told: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.told}" if self.told else "")


def diagnose(parts: Sequence[StoredMasks], *, training: bool = True) -> list[Finding]:
    """Return what is wrong with the masks of one dataset: one fatal finding, or any number of others.

    Parameters
    ----------
    parts : sequence of StoredMasks
        Its splits, which share names and label_mapping; they are looked at together.
    training : bool
        Whether the first of them is to be learned from: fewer than two classes are then fatal.
    """
    if not parts or not all(len(part.keys) for part in parts):
        return []
    whole = _Whole(parts)
    warnings: list[Finding] = []
    for rule in _RULES:
        for finding in rule(whole):
            if finding.fatal:
                return [finding]
            warnings.append(finding)
    for number, part in enumerate(parts):
        for finding in _classes(whole, part, learned=training and number == 0):
            if finding.fatal:
                return [finding]
            warnings.append(finding)
    return warnings


class _Whole:
    """All splits together."""

    def __init__(self, parts: Sequence[StoredMasks]) -> None:
        first = parts[0]
        self.parts, self.names, self.mapping, self.class_of = parts, first.names, first.mapping, first.class_of
        self.named = frozenset(first.mapping or ())
        self.occurs = np.concatenate([part.occurs for part in parts])
        self.pixels = np.sum([part.pixels for part in parts], axis=0)
        self.palettes = [palette for part in parts for palette in part.palettes]
        self.files = [file for part in parts for file in part.files]
        self.values = [int(value) for value in np.flatnonzero(self.pixels)]
        self.count, self.classes = len(self.occurs), len(self.names)
        # Values that are neither a class nor ignored on purpose.
        if self.mapping is None:
            self.strange = [value for value in self.values if self.classes <= value < IGNORE]
        else:
            self.strange = [value for value in self.values if value not in self.named and value != IGNORE]

    def holding(self, values: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return which masks hold any of ``values``."""
        return np.asarray(self.occurs[:, list(values)].any(axis=1))

    def keys(self, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the keys of the chosen masks; with their split where there are several."""
        several = len(self.parts) > 1
        names = [f"{part.split} {key}" if several else key for part in self.parts for key in part.keys]
        return tuple(names[index] for index in np.flatnonzero(chosen).tolist())

    def counted(self, values: Sequence[int]) -> dict[int, int]:
        return {value: int(self.pixels[value]) for value in values}

    def finding(
        self, kind: str, what: str, remedies: Sequence[Remedy], *, fatal: bool = True, keys: Sequence[str] = (),
        values: Sequence[int] = (), among: Sequence[StoredMasks] = (),
    ) -> Finding:  # fmt: skip
        parts = among or self.parts
        told = "; or, ".join(remedy.text(self.parts[0].description, self.names, self.files) for remedy in remedies)
        where = f"{parts[0].name} ({' and '.join(part.split for part in parts)})"
        return Finding(kind, fatal, where, what, tuple(keys), self.counted(values), tuple(remedies), told)


def _ignored(whole: _Whole) -> Iterator[Finding]:
    """Every pixel of a split is ignored."""
    for part in whole.parts:
        values = part.values()
        if all(part.class_of(value) == IGNORE for value in values):
            remedies = [] if values == [IGNORE] else _readings(values, whole)
            unnamed = [value for value in values if value not in whole.named] if whole.mapping is not None else []
            why = f" because label_mapping does not name {_pixels(whole.counted(unnamed))}" if unnamed else ""
            check = Remedy(advice="check the masks" + (" and label_mapping" if whole.mapping is not None else ""))
            yield whole.finding(
                "all ignored", f"every pixel of all {len(part.keys)} masks is ignored{why}, expected classes", remedies or [check],
                values=values, among=[part],
            )  # fmt: skip


def _palettes(whole: _Whole) -> Iterator[Finding]:
    """The same number has another colour in another mask."""
    if len(set(whole.palettes)) < 2:
        return
    used: dict[bytes, npt.NDArray[np.bool_]] = {}
    for palette, occurs in zip(whole.palettes, whole.occurs, strict=True):
        used[palette] = used[palette] | occurs if palette in used else occurs
    colours: dict[bytes, dict[int, tuple[int, ...]]] = {}
    for palette, occurs in used.items():
        numbers = [n for n in np.flatnonzero(occurs).tolist() if 3 * n + 3 <= len(palette) and whole.class_of(n) != IGNORE]
        given = {number: tuple(palette[3 * number : 3 * number + 3]) for number in numbers}
        if any(colour != (number,) * 3 for number, colour in given.items()):  # a grey ramp shows numbers, not colours
            colours[palette] = given
    votes: dict[int, dict[tuple[int, ...], int]] = {}
    for palette in whole.palettes:
        for number, colour in colours.get(palette, {}).items():
            seen = votes.setdefault(number, {})
            seen[colour] = seen.get(colour, 0) + 1
    if not (clashing := sorted(number for number, seen in votes.items() if len(seen) > 1)):
        return
    (model, _), *_ = Counter(palette for palette in whole.palettes if palette in colours).most_common(1)
    usual = {number: max(seen, key=lambda colour: seen[colour]) for number, seen in votes.items()} | colours[model]
    other = {palette for palette, given in colours.items() if any(usual[number] != colour for number, colour in given.items())}
    files = whole.keys(np.array([palette in other for palette in whole.palettes]))
    like = whole.keys(np.array([palette == model for palette in whole.palettes]))[0]
    number = clashing[0]
    here, there = list(votes[number])[:2]
    remedies = [
        Remedy(
            when="if the colours are right",
            advice=f"export all masks with the palette of {like}" + _by_colour(whole, colours, usual),
        ),
        Remedy(
            when="if the numbers are right and the colours do not matter", advice="save them without palettes" + rewriting("a", whole.files)
        ),
    ]
    yield whole.finding(
        "palettes differ",
        f"{len(files)} of {whole.count} masks ({listed(files)}) have another palette than the rest: {number} is the colour {here} in some "
        f"and {there} in others",
        remedies, keys=files, values=clashing,
    )  # fmt: skip


def _by_colour(whole: _Whole, colours: Mapping[bytes, Mapping[int, tuple[int, ...]]], usual: Mapping[int, tuple[int, ...]]) -> str:
    """Return the command that gives every colour the number it has in most masks; "" where some masks have no colours, or many."""
    number_of = {colour: number for number, colour in sorted(usual.items(), reverse=True)}
    for given in colours.values():
        for colour in given.values():
            if colour not in number_of:
                free = (number for number in range(256) if number not in number_of.values() and whole.class_of(number) != IGNORE)
                number_of[colour] = next(free, IGNORE)
    for palette, occurs in zip(whole.palettes, whole.occurs, strict=True):
        if palette not in colours:
            return ""
        for number in np.flatnonzero(occurs).tolist():
            colour = tuple(palette[3 * number : 3 * number + 3])
            if whole.class_of(number) == IGNORE and number_of.setdefault(colour, number) != number:
                return ""
    if len(number_of) > 32:
        return ""
    table = ", ".join(f"{(r << 16) + (g << 8) + b}: {number}" for (r, g, b), number in number_of.items())
    return rewriting(f"n.vectorize({{{table}}}.get)(n.array(i.convert('RGB')) @ [65536, 256, 1])", whole.files)


def _mixed(whole: _Whole) -> Iterator[Finding]:
    """Some masks store the classes as other numbers than the rest."""
    if whole.mapping is None:
        usual = [value for value in whole.values if 0 < value < whole.classes] or ([1] if 1 in whole.values else [])
        other = [value for value in whole.values if value > 0 and value not in usual]
        likely = other not in ([whole.classes], list(range(max(2, whole.classes), max(2, whole.classes) + len(usual))))
    else:
        usual = [value for value in whole.values if whole.class_of(value) in range(1, whole.classes)]
        other = [value for value in whole.values if value > 0 and value not in whole.named]
        likely = set(other) <= _OBJECT and len({whole.class_of(value) for value in usual}) == 1
    if not usual or not other or not likely:
        return
    these, those = whole.holding(other), whole.holding(usual)
    binary = whole.classes <= 2 or usual == [1]
    # An encoding is plain where every mask keeps to one of them and at least one of each also shows the background.
    one_each = (whole.occurs[:, 1:][:, [value - 1 for value in other]].sum(axis=1) <= 1).all()
    plain = one_each if binary else len(other) == len(usual) == whole.classes - 1
    if (these & those).any() or not (these & whole.occurs[:, 0]).any() or not plain:
        return
    files, rest = whole.keys(these), whole.keys(those)
    kept = dict(whole.mapping) if whole.mapping is not None else {0: 0} | {value: value for value in usual}
    targets = [whole.class_of(value) for value in usual]
    read = kept | {value: targets[0] if binary else target for value, target in zip(other, targets * len(other), strict=False)}
    names = _two(whole.names) if whole.classes == 1 else None
    remedies = [
        Remedy(names, read, when=f"if {_either(other)} {'mean' if len(other) > 1 else 'means'} the same as {_either(usual)}"),
        Remedy(names, kept | dict.fromkeys(other, IGNORE), when=f"if {_either(other)} {'are' if len(other) > 1 else 'is'} to be ignored"),
    ]
    yield whole.finding(
        "mixed encodings",
        f"{len(files)} of {whole.count} masks ({listed(files)}) store {_pixels(whole.counted(other))} where others ({listed(rest)}) store "
        f"{_pixels(whole.counted(usual))}: two encodings in one dataset",
        remedies, keys=files, values=[*usual, *other],
    )  # fmt: skip


def _blurred(whole: _Whole) -> Iterator[Finding]:
    """The masks of two classes hold values in between."""
    if not whole.strange or whole.classes > 2:
        return
    pool = whole.values if whole.mapping is None else [value for value in whole.values if value in whole.named]
    first = max(pool, key=lambda value: whole.pixels[value])
    if not (far := [value for value in pool if abs(value - first) >= 32]):
        return
    low, high = sorted((first, max(far, key=lambda value: whole.pixels[value])))
    between = [value for value in whole.values if value not in (low, high)]
    most = int(whole.pixels[low] + whole.pixels[high]) * 2 >= int(whole.pixels.sum())
    near = all(low - 16 <= value <= high + 16 for value in between)
    if len(between) < 3 or not most or not near or not set(between) - whole.named or whole.class_of(low) == whole.class_of(high) != IGNORE:
        return
    middle = (low + high + 1) // 2
    tops = [int(np.flatnonzero(row)[-1]) for row in whole.occurs]
    sure = all(top >= middle or top == low for top in tops)  # a mask of 0 and 1 among them would be emptied
    to = (0, 1) if whole.mapping is None else (low, high)
    pixels = f"a >= {middle}" if to == (0, 1) else f"n.where(a >= {middle}, {to[1]}, {to[0]})"
    names = _two(whole.names) if whole.classes == 1 else None
    files = whole.keys(whole.holding(between))
    export = "export the masks without anti-aliasing and resize them with nearest neighbour alone"
    threshold = f"threshold them at {middle}{rewriting(pixels, whole.files) if sure else ''}"
    yield whole.finding(
        "blurred",
        f"{len(files)} of {whole.count} masks ({listed(files)}) hold {len(between)} values besides {low} and {high} "
        f"({_pixels(whole.counted(between))}): {low}/{high} masks whose edges were blurred, resized, anti-aliased or compressed",
        [Remedy(names, advice=f"{export}, or {threshold}")], keys=files, values=between,
    )  # fmt: skip


def _object_as_255(whole: _Whole) -> Iterator[Finding]:
    """The only values are 0 and 255."""
    if whole.values == [0, IGNORE] and IGNORE not in whole.named:
        said = "the object saved as 255, which means ignored"
        if whole.classes == 1:
            said += f", and the background taken for {whole.names[0]}, the one class in names"
        yield whole.finding(
            "0/255",
            f"all {whole.count} masks hold only 0 and 255 ({int(whole.pixels[IGNORE])} pixels): 0/255 masks, {said}",
            [Remedy(_two(whole.names) if whole.classes == 1 else None, {0: 0, IGNORE: 1})], values=[0, IGNORE],
        )  # fmt: skip


def _no_class(whole: _Whole) -> Iterator[Finding]:
    """Values that are no class, without a mapping."""
    if whole.mapping is not None or not whole.strange:
        return
    files = whole.keys(whole.holding(whole.strange))
    expected = f"0 to {whole.classes - 1}" if whole.classes > 1 else "0 alone for the one class in names"
    many = len(whole.values) > max(32, whole.classes + 8)
    guess, remedies = _guess(whole)
    if many:
        guess = f"{len(whole.values)} different values: masks resized with interpolation, blurred or saved as photographs"
        remedies = [Remedy(advice="export them anew, resized with nearest neighbour alone")]
    yield whole.finding(
        "no class",
        f"{len(files)} of {whole.count} masks ({listed(files)}) hold values that are no class ({_pixels(whole.counted(whole.strange))}), "
        f"expected {expected} or 255 for ignored: {guess}",
        remedies, keys=files, values=whole.strange,
    )  # fmt: skip


def _guess(whole: _Whole) -> tuple[str, list[Remedy]]:
    """Say what values that are no class probably are, and how each way to read them is told."""
    values, strange, classes, names = whole.values, whole.strange, whole.classes, whole.names
    others = [value for value in values if value != IGNORE]
    kept = {value: value for value in range(classes)}
    ignore = Remedy(mapping=kept | dict.fromkeys(strange, IGNORE), when=f"to ignore {'it' if len(strange) == 1 else 'them'}")
    if others[0] == 1 and others[-1] == classes and classes > 1:
        return f"classes numbered from 1 to {classes}", [Remedy(mapping={value: value - 1 for value in range(1, classes + 1)})]
    if classes == 1:
        return "names has one class and lacks the background", _readings(values, whole)
    # Numbers that are no class follow the classes that occur; where none does but 0, they are those that names has, in order.
    known = kept if any(0 < value < classes for value in others) else {0: 0} if others[0] == 0 else {}
    every = known | {value: len(known) + number for number, value in enumerate(strange)}
    add = Remedy((*names, *(f"class{value}" for value in strange[classes - len(known) :])), _identity_or(every))
    if len(others) == classes and others == [0, *strange]:
        spread = Remedy(mapping={value: number for number, value in enumerate(others)})
        if IGNORE not in values:
            return "as many values as classes, spread out", [spread]
        also = {value: number for number, value in enumerate([*others, IGNORE])}
        third = Remedy(mapping={0: 0, others[1]: IGNORE, IGNORE: 1}, when=f"if 255 is {names[1]} and {others[1]} is to be ignored")
        wide = Remedy((*names, "class255"), also, when="if 255 is a class too")
        return "as many values as classes, spread out", [
            Remedy(mapping=spread.mapping, when="if 255 means ignored"), third if classes == 2 else wide,
        ]  # fmt: skip
    if len(values) == classes and values == [0, *strange, IGNORE]:
        spread = Remedy(mapping={value: number for number, value in enumerate(values)})
        return "as many values as classes, spread out, the last one saved as 255", [spread]
    shown = [value for value in others if value < classes]
    ignored = [ignore] if len(shown) > 1 else []
    if strange == [classes]:
        named = with_background(names)
        background = [Remedy(named, when=f"if 0 is a background and {classes} is {names[-1]}")] if named else []
        first = background + ignored if others == list(range(classes + 1)) else ignored + background
        what = "a void class, or names lacks " + ("the background or a class" if named else "a class")
        return f"probably {what}", [
            *_numbered_twice(whole), *first, Remedy(add.names, add.mapping, when=f"if {classes} is another class"),
        ]  # fmt: skip
    if len(strange) == 1 and len(shown) > 1:
        added = Remedy(add.names, add.mapping, when="if it is a class")
        return "probably a void class or one missing from names", [ignore, added]
    readings = [Remedy(add.names, add.mapping, when="to add the classes to names")]
    if len(others) == classes:
        read = Remedy(mapping={value: number for number, value in enumerate(others)}, when="if these are the classes in order")
        readings.insert(0, read)
    return "classes missing from names, or values to be ignored", readings + ignored


def _numbered_twice(whole: _Whole) -> Iterator[Remedy]:
    """Some masks number the classes from 0, and others from 1: no mask holds both ends."""
    from_zero, from_one = whole.occurs[:, 0], whole.occurs[:, whole.classes]
    if from_zero.any() and not (from_zero & from_one).any():
        # A mask that holds neither end may be of either kind; where there is one, no command can know.
        sure = (from_zero | from_one | whole.occurs[:, IGNORE] & (whole.occurs.sum(axis=1) == 1)).all()
        lowered = rewriting(f"a - (a < 255) * (a[a < 255].max(initial=0) == {whole.classes})", whole.files) if sure else ""
        listed_keys = listed(whole.keys(from_one))
        yield Remedy(
            advice=f"lower each value of these by one{lowered}", when=f"if only some masks ({listed_keys}) number the classes from 1"
        )


def _unnamed(whole: _Whole) -> Iterator[Finding]:
    """Values that label_mapping does not name, and which are therefore ignored."""
    if whole.mapping is None or not whole.strange:
        return
    shown = {whole.class_of(value) for value in whole.values}
    targets = {*whole.mapping.values()} & set(range(whole.classes))
    lost = sorted(targets - shown)
    lost_names = [whole.names[label] for label in lost]
    files = whole.holding(whole.strange)
    each = listed([f"{value} ({whole.pixels[value]} px in {int(whole.occurs[:, value].sum())} masks)" for value in whole.strange], 6)
    what = f"label_mapping does not name {each}, stored in {int(files.sum())} of {whole.count} masks: such pixels are ignored"
    silenced = Remedy(
        mapping=dict(whole.mapping) | dict.fromkeys(whole.strange, IGNORE),
        when=f"if {'it is' if len(whole.strange) == 1 else 'they are'} meant to be ignored",
    )
    if not lost:
        yield whole.finding("unnamed values", what, [], fatal=False, keys=whole.keys(files), values=whole.strange)
        return
    what += f", and no mask shows {listed(lost_names, 6)}"
    if 2 * len(lost) < len(targets) and len(shown - {IGNORE}) > 1:  # most of the mapping fits: a rare class and a void, more likely
        yield whole.finding("unnamed values", what, [], fatal=False, keys=whole.keys(files), values=whole.strange)
        return
    readings = _readings(whole.values, whole)
    if not readings and len(lost) == 1 and set(whole.strange) <= _OBJECT and (whole.occurs[:, whole.strange].sum(axis=1) <= 1).all():
        readings = [Remedy(mapping=dict(whole.mapping) | dict.fromkeys(whole.strange, lost[0]))]  # encodings of the one class
    if not readings and len(lost) == len(whole.strange):
        readings = [Remedy(mapping=dict(whole.mapping) | dict(zip(whole.strange, lost, strict=True)))]
    remedies = [*readings, *([silenced] if len(shown - {IGNORE}) > 1 else [])]
    fatal = bool(readings) or len(shown - {IGNORE}) < 2
    if not remedies:
        remedies = [Remedy(advice=f"give their class in label_mapping, such as {whole.strange[0]}: {lost[0]}")]
    yield whole.finding("unnamed values", what, remedies, fatal=fatal, keys=whole.keys(files), values=whole.strange)


def _readings(values: Sequence[int], whole: _Whole) -> list[Remedy]:
    """Return the settings under which the stored ``values`` are all classes, in their order; empty where none is plain."""
    others = [value for value in values if value != IGNORE]
    if whole.classes == 1:
        if len(values) < 2 or (len(values) > 2 and len(others) < 2):
            return []
        if values in ([0, 1], [0, 1, IGNORE]):
            return [Remedy(_two(whole.names), None if whole.mapping is None else {0: 0, 1: 1})]
        if len(values) == 2:
            low, high = (values[1], values[0]) if values == [1, IGNORE] else values
            return [Remedy(_two(whole.names), {low: 0, high: 1})]
        names = (*_two(whole.names), *(f"class{value}" for value in others[2:]))
        return [Remedy(names, _identity_or({value: number for number, value in enumerate(others)}))]
    if others and others[-1] < whole.classes and len(others) > 1:
        return [Remedy(mapping={value: value for value in others})]
    for found in (others, list(values)):
        if len(found) == whole.classes:
            return [Remedy(mapping={value: number for number, value in enumerate(found)})]
    return []


def _classes(whole: _Whole, part: StoredMasks, *, learned: bool) -> Iterator[Finding]:
    """Which classes a split shows: fewer than two to learn from, or none of some."""
    shown, values, count = part.shown(), part.values(), len(part.keys)
    absent = [name for label, name in enumerate(part.names) if label not in shown]
    ignored = [value for value in values if part.class_of(value) == IGNORE]
    alone = ", ".join(part.names[label] for label in shown) or "nothing"
    besides = f"; {_pixels({value: int(part.pixels[value]) for value in ignored})} are ignored" if ignored else ""
    if learned and len(shown) < 2:
        lacking = f"no mask shows {listed(absent, 6)}, " if absent else "names has one class, "
        yield whole.finding(
            "one class",
            f"{lacking}all {count} masks show {alone} and nothing else{besides}: a network learns nothing from fewer than two classes",
            _for_one_class(whole, part, ignored), values=values, among=[part],
        )  # fmt: skip
        return
    if learned:
        if absent:
            yield whole.finding(
                "class not shown",
                f"no mask shows {listed(absent, 6)} ({len(absent)} of {len(part.names)} classes): not learned, and left out of the mean "
                "IoU unless predicted",
                [], fatal=False, among=[part],
            )  # fmt: skip
    else:
        before = whole.parts[0].shown()
        missing = [part.names[label] for label in before if label not in shown] if part is not whole.parts[0] else absent
        if len(shown) < 2:
            yield whole.finding(
                "one class",
                f"all {count} masks show {alone} and nothing else{besides}: the mean IoU of one class says nothing of how well classes are "
                f"told apart, and nothing of {listed(missing, 6)}" if missing else f"all {count} masks show {alone} and nothing else",
                [], fatal=False, among=[part],
            )  # fmt: skip
        elif missing:
            yield whole.finding(
                "class not shown",
                f"no mask shows {listed(missing, 6)}: how well {'they are' if len(missing) > 1 else 'it is'} labelled is not measured, and "
                "the mean IoU is over the other classes",
                [], fatal=False, among=[part],
            )  # fmt: skip
    blank = ~part.occurs[:, [value for value in values if part.class_of(value) != IGNORE]].any(axis=1)
    if blank.any():
        keys = [part.keys[index] for index in np.flatnonzero(blank).tolist()]
        yield whole.finding(
            "all ignored",
            f"{len(keys)} of {count} masks hold ignored pixels alone ({listed(keys)})",
            [],
            fatal=False,
            keys=keys,
            among=[part],
        )


def _for_one_class(whole: _Whole, part: StoredMasks, ignored: Sequence[int]) -> list[Remedy]:
    check = Remedy(advice="check that the masks were exported with all their classes")
    if len(part.names) == 1:
        return [Remedy(_two(part.names), None, advice="give masks that show both")]
    if len(ignored) == 1 and len(part.shown()) == 1:
        (alone,), (value,) = part.shown(), ignored
        second = next(label for label in range(len(part.names)) if label != alone)
        kept = {alone: alone} if whole.mapping is None else whole.mapping
        return [Remedy(mapping=dict(kept) | {value: second}, when=f"if {value} is {part.names[second]}"), check]
    if whole.mapping is not None and ignored:
        return [Remedy(advice=f"let label_mapping send {listed(list(ignored), 6)} to classes"), check]
    return [check]


def _two(names: Sequence[str]) -> tuple[str, ...]:
    return with_background(names) or (names[0], "object")


def _identity_or(mapping: Mapping[int, int]) -> Mapping[int, int] | None:
    """Return the mapping, or None where it changes nothing."""
    return None if all(value == label for value, label in mapping.items()) else mapping


def _either(values: Sequence[int]) -> str:
    return " and ".join([", ".join(map(str, values[:-1])), str(values[-1])] if len(values) > 1 else [str(values[0])])


def _pixels(counts: Mapping[int, int]) -> str:
    return listed([f"{value}: {pixels} px" for value, pixels in counts.items()], 6)


_RULES: tuple[Callable[[_Whole], Iterator[Finding]], ...] = (
    _ignored, _palettes, _mixed, _blurred, _object_as_255, _no_class, _unnamed,
)  # fmt: skip
