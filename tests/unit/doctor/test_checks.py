"""Each check finds what is barely wrong, and is silent on what is barely right: records are made up, no file is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_records import (
    HALF,
    ONE,
    ROADS,
    TWO,
    differing,
    dilated,
    find,
    frames,
    groups,
    hashed,
    image,
    masks_of,
    mirrored,
    of_colours,
    one_image,
    placed,
    record,
    refused,
    reviewed,
    several,
    shifted,
    shifted_alone,
    snapshot,
)
from upscore.doctor.check import run_check
from upscore.doctor.checks import CHECKS
from upscore.errors import DataError

COLOURS = bytes(range(6))
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
    "labels.doubtful": ([(reviewed(regions=1), "warning"), (reviewed(doubtful=True), "warning")], [reviewed(), snapshot(several(2))]),
    "labels.borders": ([(reviewed(bias=1.5), "warning"), reviewed(bias=-1.5)], [reviewed(bias=1.4), reviewed(bias=-1.4), reviewed()]),
    "labels.trained-on": (
        [(reviewed(trained_on=True), "warning"), (reviewed(left_out=(("train", "0x"),)), "info")],
        [reviewed(), snapshot(several(2))],
    ),
}  # fmt: skip


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
