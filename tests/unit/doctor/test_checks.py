"""Each check finds what is barely wrong, and is silent on what is barely right: records are made up, no file is read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from upscore.doctor.check import run_check
from upscore.doctor.checks import CHECKS
from upscore.doctor.measurements import Alignment, ImageMeasures, MaskMeasures
from upscore.doctor.scan import Record
from upscore.doctor.snapshot import Snapshot, SplitRecords
from upscore.errors import DataError
from upscore.types import LabelSpace

TWO, ROADS = ("background", "thing"), ("road", "car")
SIDE = 100
COLOURS = bytes(range(6))


class Images:
    """A split whose samples are never read."""

    name, warnings, label_mapping = "made", (), None

    def __init__(self, split, records, names, mapping):
        self.split, self.keys, self.labels = split, [record.key for record in records], LabelSpace(names)
        if mapping is not None:
            self.label_mapping = mapping

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        raise AssertionError("checks read nothing")

    def raw_label(self, index):
        raise AssertionError("checks read nothing")


def snapshot(train=(), val=(), names=TWO, mapping=None, **values):
    splits = [
        SplitRecords(Images(name, records, names, mapping), [replace(record, split=name) for record in records])
        for name, records in (("train", train), ("val", val))
        if records
    ]
    return Snapshot("made", splits, **values)


def image(key="a", **values):
    digest = hashlib.sha256(key.encode()).digest()
    return ImageMeasures(**{
        "digest": digest[:8], "hash": int.from_bytes(digest[:8]), "brightness": 0.5, "contrast": 0.2, "sharpness": 1.0, "saturation": 0.3,
        "colour": (0.5, 0.5, 0.5), **values,
    })  # fmt: skip


def mask(key="a", **values):
    usual = {"digest": key.encode(), "objects": {0: 1, 1: 5}, "specks": 0, "holes": 0, "between": 0, "jumps": 0, "straight": 0.0}
    return MaskMeasures(**usual | values)


def record(key="a", counts=None, size=(SIDE, SIDE), of_image=None, of_mask=None, **values):
    """Return a record of an image that half is background and half a thing, in which nothing is wrong."""
    counted = {0: 5000, 1: 5000} if counts is None else counts
    stored = np.array([list(counted), list(counted.values())], np.int64)
    return Record("", key, size, image=image(key, **of_image or {}), mask=mask(key, **of_mask or {}), stored=stored, bands="RGB", **values)


def several(count, **values):
    return [record(f"{number}x", **values) for number in range(count)]


def differing(count, *others):
    return [*several(count), *others]


def refused(check):
    error = DataError("cannot be used", check=check)
    return snapshot([record("a"), Record("", "b", mask_error=error)])


def placed(row=0, column=0, best=2.0, here=2.0, rest=1.0, borders=1000, mirrored=(0.0, 0.0, 0.0), outside=None):
    """Return an alignment that is strongest when the mask is moved by (row, column), and elsewhere ``rest``."""
    shifts = np.full((17, 17), rest, np.float32)
    shifts[8, 8] = here
    shifts[8 + row, 8 + column] = best
    return Alignment(shifts, mirrored, np.full(9, np.nan, np.float32) if outside is None else np.array(outside, np.float32), borders)


def shifted(count, of=5, **values):
    moved = placed(**{"row": 3, "here": 1.0} | values)
    return snapshot([record(f"{i}x", alignment=moved if i < count else placed()) for i in range(of)])


def shifted_alone(**values):
    return shifted(1, **{"best": 2.0, "here": 1.0, "borders": 200} | values)


def mirrored(strength, borders=100):
    return snapshot(differing(3, record("b", alignment=placed(best=1.0, here=1.0, mirrored=(strength, 0, 0), borders=borders))))


def dilated(count, outside):
    return snapshot(several(count, alignment=placed(outside=outside)))


def hashed(*bits):
    """Return a training and a validation image whose hashes differ in so many bits."""
    return snapshot([record("t", of_image={"hash": 0})], [record(f"v{k}", of_image={"hash": 2**k - 1}) for k in bits])


def frames(numbers, alike=True, others=0):
    """Return validation frames of these numbers among training frames, whose hashes differ in one bit from the next one's if alike."""

    def frame(number):
        key = f"street_{number:03}"
        return record(key, of_image={"hash": (1 << (number + 1)) - 1} if alike else {})

    val = [frame(number) for number in numbers]
    return snapshot(
        [frame(number) for number in range(60) if number not in numbers], val + [record(f"other{chr(97 + i)}") for i in range(others)]
    )


def groups(*sizes):
    """Return validation images in groups of one hash each, far from one another."""
    return snapshot(
        several(1), [record(f"{g}-{i}", of_image={"hash": 0xFF << (8 * g)}) for g, size in enumerate(sizes) for i in range(size)]
    )


def one_image(**values):
    return snapshot(differing(4, record("b", of_image=values)))


def of_colours(train, val, difference):
    other = {"colour": (0.5, 0.5 + difference, 0.5)}
    return snapshot(several(train), [record(f"v{i}", of_image=other) for i in range(val)])


def masks_of(*counts, names=TWO, mapping=None, palettes=None, split="train"):
    records = [record(f"{number}x", counted, palette=palettes[number] if palettes else b"") for number, counted in enumerate(counts)]
    return snapshot(**{split: records}, names=names, mapping=mapping)


def reviewed(regions=(), bias=None, left_out=(), trained_on=False):
    examined = SimpleNamespace(name=("val", "v"), trained_on=trained_on)
    region = SimpleNamespace(box=(1, 2, 3, 4), given=0, predicted=1, predicted_prob=0.9)
    review = SimpleNamespace(
        splits={"val": None}, images=(examined,), regions=[(examined, region) for _ in range(regions or 0)] if regions else [],
        border_bias={("val", 1): bias} if bias is not None else {}, left_out=left_out,
    )  # fmt: skip
    return snapshot(several(2), [record("v")], review=review)


HALF, ONE = {0: 5000, 1: 5000}, {0: 10_000}
EDGE = [0.0, 0, 0, 0, 1, 0, 0, 0, 0]
INSIDE = [0.0, 0, 0, 1, 0, 0, 0, 0, 0]
ALMOST = [0.0, 0, 0, 0.68, 1, 0, 0, 0, 0]  # 0.26 pixels inside
WEAK = [1.0, 1, 1, 1.19, 1, 1, 1, 1, 1]

# What is barely wrong and, where given, how severe; what is barely right, of which nothing may be found under this id.
CASES = {
    "files.layout": ([snapshot(several(1), unopened={"val": DataError("no mask")})], [snapshot(several(1))]),
    "files.unreadable": ([refused("files.unreadable"), refused("")], [refused("values.alpha")]),
    "files.bands-differ": ([snapshot(differing(2, replace(record("b"), bands="grey")))], [snapshot(several(3))]),
    "files.case": ([snapshot([record("a"), record("A")])], [snapshot([record("a")], [record("A")])]),
    "values.lossy": ([refused("values.lossy")], [refused("files.unreadable")]),
    "values.colours": ([refused("values.colours")], [refused("values.alpha")]),
    "values.alpha": ([refused("values.alpha")], [refused("values.colours")]),
    "values.range": ([refused("values.range")], [refused("values.lossy")]),
    "values.object-as-255": ([masks_of({0: 9, 255: 1}, {0: 9, 255: 1})], [masks_of({0: 9, 1: 1, 255: 1}, HALF)]),
    "values.no-class": ([masks_of({0: 9, 1: 9, 2: 1})], [masks_of({0: 9, 1: 9, 255: 1})]),
    "values.unnamed": (
        [(masks_of({0: 9, 1: 9, 7: 9}, mapping={0: 0, 1: 1}), "info")],
        [masks_of({0: 9, 1: 9, 7: 9}, mapping={0: 0, 1: 1, 7: 255})],
    ),
    "values.mixed-encodings": ([masks_of(HALF, HALF, {0: 9, 255: 9})], [masks_of(HALF, HALF, {0: 9, 1: 9, 255: 9})]),
    "values.blurred": (
        [masks_of({0: 9000, 255: 900, **dict.fromkeys(range(30, 90, 3), 3)})],
        [masks_of({0: 9000, 1: 900, 255: 90})],
    ),
    "values.palettes-differ": (
        [masks_of(HALF, HALF, palettes=[COLOURS, COLOURS[::-1]])],
        [masks_of(HALF, HALF, palettes=[COLOURS, COLOURS + b"\1\2\3"])],
    ),
    "values.interpolated": (
        [snapshot(several(1, of_mask={"between": 40, "jumps": 119}))],
        [
            snapshot(several(1, of_mask={"between": 40, "jumps": 120})),
            snapshot(several(1, of_mask={"between": 39, "jumps": 0})),
        ],
    ),
    "sizes.turned": ([refused("sizes.turned")], [refused("sizes.differ")]),
    "sizes.orientation": (
        [snapshot(several(1, alignment=placed(best=1.0, here=1.0), turned_strength=1.16))],
        [snapshot(several(1, alignment=placed(best=1.0, here=1.0), turned_strength=1.15)), snapshot(several(1, turned_strength=9.0))],
    ),
    "sizes.scaled": ([refused("sizes.scaled")], [refused("sizes.off-by-one")]),
    "sizes.off-by-one": ([refused("sizes.off-by-one")], [refused("sizes.scaled")]),
    "sizes.differ": ([refused("sizes.differ")], [refused("sizes.turned")]),
    "sizes.aspect": (
        [
            (snapshot(differing(4, record("b", size=(100, 301)))), "info"),
            snapshot(differing(4, record("b", size=(301, 100)))),
        ],
        [snapshot(differing(4, record("b", size=(100, 300)))), snapshot(differing(3, record("b", size=(100, 900))))],
    ),
    "geometry.shifted": (
        [
            (shifted(5, best=2.0, here=1.74), "error"),
            (shifted(5, row=2, best=1.21), "error"),
            (shifted(5, row=0, column=-2), "error"),
            (shifted(4), "error"),
            (shifted_alone(), "warning"),
            (shifted_alone(row=0, column=-3), "warning"),
            (shifted_alone(best=1.31, here=1.0), "warning"),
            (shifted_alone(best=2.0, here=1.44), "warning"),
        ],
        [
            shifted(5, best=2.0, here=1.75),
            shifted(5, row=1),
            shifted(5, best=1.19),
            shifted(0),
            shifted_alone(borders=199),
            shifted_alone(row=2),
            shifted_alone(best=1.3, here=1.0),
            shifted_alone(best=2.0, here=1.46),
            snapshot(several(5)),
        ],
    ),
    "geometry.mirrored": ([(mirrored(1.26), "error")], [mirrored(1.25), mirrored(1.26, borders=99)]),
    "geometry.dilated": (
        [(dilated(10, INSIDE), "warning"), dilated(10, INSIDE[::-1])],
        [dilated(9, INSIDE), dilated(10, EDGE), dilated(10, ALMOST), dilated(10, WEAK), dilated(10, None)],
    ),
    "geometry.specks": (
        [snapshot(several(1, of_mask={"specks": 20})), snapshot(several(1, size=(50, 50), of_mask={"specks": 12}))],
        [
            snapshot(several(1, of_mask={"specks": 19, "holes": 20})),
            snapshot(several(1, size=(50, 50), of_mask={"specks": 11})),
        ],
    ),
    "geometry.holes": (
        [snapshot(several(1, of_mask={"holes": 20})), snapshot(several(1, size=(50, 50), of_mask={"holes": 12}))],
        [
            snapshot(several(1, of_mask={"holes": 19, "specks": 20})),
            snapshot(several(1, size=(50, 50), of_mask={"holes": 11})),
        ],
    ),
    "geometry.straight-border": (
        [(snapshot(differing(1, record("b", of_mask={"straight": 0.8}))), "info")],
        [snapshot(differing(1, record("b", of_mask={"straight": 0.79}))), snapshot(several(2, of_mask={"straight": 0.9}))],
    ),
    "ignored.whole-split": ([masks_of({255: 9})], [masks_of({255: 9, 0: 1})]),
    "ignored.whole-mask": ([(masks_of(HALF, HALF, {255: 9}), "warning")], [masks_of(HALF, HALF, {255: 99, 0: 1})]),
    "ignored.mostly": (
        [(masks_of(HALF, HALF, {255: 9001, 0: 999}), "warning")],
        [
            masks_of(HALF, HALF, {255: 9000, 0: 1000}),
            masks_of(HALF, HALF, {255: 9}),
            masks_of(HALF, {255: 9001, 0: 999}, {255: 9001, 0: 999}),
            masks_of(HALF, {255: 9001, 0: 999}),
        ],
    ),
    "ignored.fraction": ([(masks_of({255: 3001, 0: 3999, 1: 3000}), "info")], [masks_of({255: 3000, 0: 4000, 1: 3000})]),
    "balance.one-class": ([(masks_of(ONE, ONE), "error")], [masks_of(ONE, {0: 9, 1: 1})]),
    "balance.class-not-shown": (
        [(masks_of(HALF, names=(*TWO, "other")), "warning")],
        [masks_of({0: 9, 1: 1, 2: 1}, names=(*TWO, "other"))],
    ),
    "balance.not-trained": (
        [(snapshot(several(2, counts=ONE), several(2)), "warning")],
        [
            snapshot(differing(0, record("a", counts={0: 9, 1: 1}), record("b", counts=ONE)), several(2)),
            snapshot(several(2), several(2, counts=ONE)),
            snapshot([], several(2)),
        ],
    ),
    "balance.single-image": (
        [(snapshot([*several(4, counts=ONE), record("b")]), "warning")],
        [snapshot([*several(3, counts=ONE), record("b"), record("c")]), snapshot([*several(3, counts=ONE), record("b")])],
    ),
    "balance.rare": (
        [(masks_of({0: 9991, 1: 9}), "info"), masks_of({0: 9991, 1: 9, 255: 9991})],
        [masks_of({0: 9990, 1: 10}), masks_of(ONE), masks_of({0: 9990, 1: 10, 255: 9990})],
    ),
    "balance.few-objects": (
        [
            (snapshot(several(2), several(2, of_mask={"objects": {0: 9, 1: 2}})), "info"),
            snapshot(several(2), [record("v", of_mask={"objects": {0: 4, 1: 5}})], names=ROADS),
        ],
        [
            snapshot(several(2), [record("v", of_mask={"objects": {0: 1, 1: 5}})]),
            snapshot([record("t", of_mask={"objects": {1: 1}})], several(2)),
            snapshot(several(2), [record("v", of_mask={"objects": {0: 5, 1: 5}})], names=ROADS),
        ],
    ),
    "balance.empty": (
        [
            (snapshot(several(20, counts=ONE)), "warning"),
            (snapshot([*several(19, counts=ONE), record("b")]), "info"),
            (snapshot([*several(3, counts={0: 9, 255: 1}), record("b"), record("c")]), "info"),
        ],
        [
            snapshot([*several(3, counts=ONE), *[record(f"b{i}") for i in range(3)]]),
            snapshot([*several(3, counts=ONE), record("b")]),
        ],
    ),
    "splits.shared-images": (
        [(snapshot([record("a")], [record("v", of_image={"digest": image("a").digest})]), "warning")],
        [snapshot([record("a"), record("b", of_image={"digest": image("a").digest})], [record("v")])],
    ),
    "splits.repeated-images": (
        [(snapshot([record("a"), record("b", of_image={"digest": image("a").digest})]), "warning")],
        [snapshot([record("a")], [record("v", of_image={"digest": image("a").digest})])],
    ),
    "splits.same-masks": (
        [(snapshot([record("a")], [record("v", of_mask={"digest": b"a"})]), "warning")],
        [
            snapshot([record("a"), record("b", of_image={"digest": image("a").digest}, of_mask={"digest": b"a"})]),
            snapshot([record("a", ONE), record("b", ONE, of_mask={"digest": b"a"})]),
        ],
    ),
    "splits.near-duplicates": (
        [(hashed(4), "warning"), (hashed(0), "warning"), (hashed(5), "info"), (hashed(8), "info")],
        [
            hashed(9),
            snapshot([record("t", of_image={"hash": 0, "contrast": 0.02})], [record("v", of_image={"hash": 1})]),
            snapshot([record("t", of_image={"hash": 0})], [record("v", of_image={"hash": 0, "digest": image("t").digest})]),
            snapshot([record("t", of_image={"hash": 0}), record("s", of_image={"hash": 1})]),
        ],
    ),
    "splits.groups": (
        [(frames([10, 20, 30]), "warning"), frames([10, 20, 30], others=6)],
        [frames([10, 20]), frames([10, 20, 30], alike=False), frames([10, 20, 30], others=7)],
    ),
    "splits.effective-size": (
        [(groups(3, 2, 1), "info")],
        [groups(2, 2, 1), groups(2, 2), groups(3, 1, 1, 1)],
    ),
    "images.dark": (
        [(one_image(brightness=0.059), "warning")],
        [one_image(brightness=0.06), one_image(brightness=0.01, contrast=0.0039)],
    ),
    "images.bright": (
        [(one_image(brightness=0.971), "warning")],
        [one_image(brightness=0.97), one_image(brightness=0.99, contrast=0.0039)],
    ),
    "images.constant": ([(one_image(contrast=0.0039), "warning")], [one_image(contrast=0.004)]),
    "images.blurred": (
        [(one_image(sharpness=0.19), "warning")],
        [
            one_image(sharpness=0.2),
            one_image(sharpness=0.0, contrast=0.0039),
            snapshot(differing(3, record("b", of_image={"sharpness": 0.1}))),
        ],
    ),
    "images.grey": (
        [(one_image(saturation=0.0), "info")],
        [
            one_image(saturation=0.001),
            one_image(saturation=0.0, colour=(0.5,)),
            one_image(saturation=0.0, contrast=0.0039),
            snapshot([record("a"), record("b", of_image={"saturation": 0.0})]),
            snapshot(several(3, of_image={"saturation": 0.0})),
        ],
    ),
    "images.unlike-training": (
        [(of_colours(10, 5, 0.026), "warning"), of_colours(10, 5, -0.026)],
        [of_colours(10, 5, 0.024), of_colours(9, 5, 0.5), of_colours(10, 4, 0.5)],
    ),
    "labels.doubtful": ([(reviewed(regions=1), "warning")], [reviewed(), snapshot(several(2))]),
    "labels.borders": ([(reviewed(bias=1.5), "warning"), reviewed(bias=-1.5)], [reviewed(bias=1.4), reviewed(bias=-1.4), reviewed()]),
    "labels.trained-on": (
        [(reviewed(trained_on=True), "warning"), (reviewed(left_out=(("train", "0x"),)), "info")],
        [reviewed(), snapshot(several(2))],
    ),
}  # fmt: skip


def find(check_id, made):
    check = next(check for check in CHECKS if check.id == check_id)
    found = run_check(check, made)
    assert not [finding for finding in found if "could not be completed" in finding.what], found
    return found


@pytest.mark.parametrize("check_id", [check.id for check in CHECKS])
def test_what_is_barely_wrong_is_found_and_what_is_barely_right_is_not(check_id):
    wrong, right = CASES[check_id]
    assert wrong
    assert right
    for number, case in enumerate(wrong):
        made, severity = case if isinstance(case, tuple) else (case, None)
        found = find(check_id, made)
        assert found, f"wrong {number}"
        assert severity is None or {finding.severity for finding in found} == {severity}, f"wrong {number}"
    for number, made in enumerate(right):
        assert find(check_id, made) == [], f"right {number}"


def test_every_check_has_its_cases():
    assert CASES.keys() == {check.id for check in CHECKS}


def test_nothing_is_found_in_records_of_a_good_dataset():
    made = snapshot(several(12), [record(f"v{i}") for i in range(6)])
    assert [finding.text() for check in CHECKS for finding in run_check(check, made)] == []


def evidence(check_id, made):
    """Return the keys of the first sample of each group, of all findings."""
    return [group[0][1] for finding in find(check_id, made) for group in finding.evidence]


def colour(key, value, split="val"):
    return record(key, of_image={"colour": (value, 0.5, 0.5)})


THREE = (*TWO, "other")
CHOSEN = {
    "images.unlike-training": (snapshot(several(10), [colour(f"v{i}", 0.6 + 0.01 * i) for i in range(6)]), ["v5", "v4", "v3", "v2"]),
    "ignored.fraction": (masks_of(*({255: 5000 + i, 0: 4000 - i, 1: 1000} for i in range(6)), names=THREE), ["5x", "4x", "3x", "2x"]),
    "balance.not-trained": (snapshot(several(2, counts=ONE), [record("v", counts=ONE), record("w")]), ["w"]),
    "balance.single-image": (snapshot([*several(2, counts=ONE), record("b"), *[record(f"c{i}", ONE) for i in range(2)]]), ["b"]),
    "balance.rare": (masks_of({0: 99_990, 1: 1}, ONE, {0: 99_990, 1: 2}), ["2x", "0x"]),
    "balance.few-objects": (
        snapshot(several(2), [record("v", ONE, of_mask={"objects": {0: 1}}), record("w", of_mask={"objects": {1: 1}})]), ["w"],
    ),
    "balance.empty": (snapshot([*several(4, counts=ONE), record("b")]), ["0x", "1x", "2x", "3x"]),
    "splits.groups": (frames([10, 20, 59]), ["street_010", "street_020", "street_059"]),
    "splits.effective-size": (groups(1, 2, 3), ["2-0", "1-0"]),
    "files.bands-differ": (snapshot(differing(2, replace(record("b"), bands="grey"))), ["b"]),
    "sizes.aspect": (snapshot([record(f"{i}w", size=(100, 200)) for i in range(4)] + [record("b", size=(100, 601))]), ["b"]),
}  # fmt: skip


@pytest.mark.parametrize("check_id", CHOSEN)
def test_the_samples_that_show_it_are_named(check_id):
    made, expected = CHOSEN[check_id]
    assert evidence(check_id, made) == expected


def test_a_near_duplicate_is_shown_with_its_nearest_image():
    made = snapshot([record(key, of_image={"hash": bits}) for key, bits in (("far", 0b1110), ("near", 0b1), ("same", 0b11))], [
        record("v", of_image={"hash": 0}),
    ])  # fmt: skip
    (finding,) = find("splits.near-duplicates", made)
    assert finding.evidence == ((("val", "v"), ("train", "near")),)


def test_a_frame_is_shown_with_the_more_alike_of_its_two_neighbours():
    hashes = {"f1": 0, "f2": 0b1, "f3": 0b1111, "f11": 0b1111 << 8, "f12": 0b1 << 8, "f13": 0, "f21": 1 << 40, "f22": 3 << 40}
    val = [record(key, of_image={"hash": hashes[key]}) for key in ("f2", "f12", "f22")]
    train = [record(key, of_image={"hash": bits}) for key, bits in hashes.items() if key not in ("f2", "f12", "f22")]
    # Other images of training are far from these, so that neighbours are more alike than others.
    (finding,) = find("splits.groups", snapshot(train + [record(f"far{chr(97 + i)}") for i in range(30)], val))
    assert [(group[0][1], group[1][1]) for group in finding.evidence] == [("f2", "f1"), ("f12", "f13"), ("f22", "f21")]


def test_values_and_classes_are_those_that_are_rare():
    (finding,) = find("balance.rare", masks_of({0: 99_990, 5: 9, 7: 3}, names=THREE, mapping={0: 0, 5: 1, 7: 1}))
    assert finding.values == {5: 9, 7: 3}
    assert "thing 0.012 %" in finding.what
    (finding,) = find("balance.few-objects", snapshot(several(1), [record("v", of_mask={"objects": {1: 1}})], names=THREE))
    assert "thing 1:" in finding.what
    assert "other" not in finding.what


@pytest.mark.parametrize(("moved", "of", "severity"), [(3, 4, "error"), (2, 4, "warning"), (2, 3, "error")])
def test_all_masks_are_shifted_where_more_than_half_are(moved, of, severity):
    (finding,) = find("geometry.shifted", shifted(moved, of, best=3.0, here=1.0))
    assert finding.severity == severity
    assert "3 pixels above" in finding.what


def test_strengths_are_compared_with_one_another():
    weak = placed(best=0.1, here=0.1, rest=0.05, mirrored=(0.124, 0, 0))
    assert find("geometry.mirrored", snapshot(several(3, alignment=weak))) == []
    strong = replace(weak, mirrored=(0.126, 0, 0))
    assert find("geometry.mirrored", snapshot(several(3, alignment=strong)))
    assert find("sizes.orientation", snapshot(several(1, alignment=weak, turned_strength=0.116)))
    assert find("sizes.orientation", snapshot(several(1, alignment=weak, turned_strength=0.114))) == []
    assert find("geometry.shifted", snapshot(several(3, alignment=placed(row=3, best=0.119, here=0.1, rest=0.1)))) == []
    assert find("geometry.shifted", snapshot(several(3, alignment=placed(row=3, best=0.121, here=0.1, rest=0.1))))


def test_sharpness_is_compared_with_the_usual_one():
    def made(sharpness):
        return snapshot([*[record(f"{i}x", of_image={"sharpness": 5.0}) for i in range(4)], record("b", of_image={"sharpness": sharpness})])

    assert evidence("images.blurred", made(0.99)) == ["b"]
    assert evidence("images.blurred", made(1.0)) == []


def test_labels_are_reported_by_split():
    made = reviewed(regions=2, bias=2.0)
    image_of_test = SimpleNamespace(name=("test", "t"), trained_on=False)
    made = replace(made, review=SimpleNamespace(**{**vars(made.review), "images": (*made.review.images, image_of_test)}))
    (finding,) = find("labels.doubtful", made)
    assert "in 1 of 1 images that were examined, 2 regions" in finding.what
    assert finding.evidence == ((("val", "v"),),)
    assert evidence("labels.borders", made) == ["v"]
    (finding,) = find("labels.borders", replace(made, review=SimpleNamespace(**{**vars(made.review), "border_bias": {("val", 1): -2.0}})))
    assert "'thing' 2.0 pixels inside" in finding.what


UNREADABLE = [Record("", key, image_error=(error := DataError("not an image")), mask_error=error) for key in "abcdefghijkl"]


@pytest.mark.parametrize(
    "made",
    [
        snapshot(unopened={"": DataError("no")}), snapshot(UNREADABLE), snapshot(UNREADABLE, several(6)), snapshot(several(12), UNREADABLE),
        snapshot([], several(6)), snapshot(several(1)),
        snapshot([replace(one, mask=None, stored=None, mask_error=DataError("no")) for one in several(12)], several(6)),
    ],
    ids=["nothing opened", "nothing readable", "no training", "no validation", "val alone", "one image", "no training masks"],
)  # fmt: skip
def test_no_check_fails_where_there_is_little_to_examine(made):
    for check in CHECKS:
        if made.splits or check.family == "files":
            find(check.id, made)


def test_checks_that_count_classes_are_silent_where_masks_store_them_in_another_way():
    made = masks_of(*[{0: 2000, 255: 8000}] * 6)
    assert find("values.object-as-255", made)
    assert [check.id for check in CHECKS if check.needs_classes] == [
        "ignored.mostly", "ignored.fraction", "balance.not-trained", "balance.single-image", "balance.rare", "balance.few-objects",
        "balance.empty",
    ]  # fmt: skip
    assert [finding.id for check in CHECKS if check.needs_classes for finding in run_check(check, made)] == []
