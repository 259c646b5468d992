"""Checks name the samples and values that show what they found, compare like with like, and fail nowhere: records are made up."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from made_records import (
    ONE,
    TWO,
    differing,
    find,
    frames,
    groups,
    masks_of,
    placed,
    record,
    reviewed,
    several,
    shifted,
    snapshot,
)
from upscore.doctor.check import run_check
from upscore.doctor.checks import CHECKS
from upscore.doctor.checks.geometry import border_offset
from upscore.doctor.scan import Record
from upscore.errors import DataError


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
    (finding,) = find("labels.doubtful", reviewed(doubtful=True))
    assert finding.what.startswith("1 of 1 masks that were examined are doubtful by 2 standard deviations and more")
    assert finding.what.endswith("first v")
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


def test_copies_are_counted_beyond_the_first_and_pairs_of_splits_name_training_first():
    copies = [record(key, of_image={"digest": b"copied"}) for key in "abc"]
    (finding,) = find("splits.repeated-images", snapshot([*copies, record("d")]))
    assert "2 of 4 images are copies of others in the same split (a = b = c)" in finding.what
    made = snapshot([record("t", of_image={"hash": 0})], [record("v", of_image={"hash": 1})])
    (finding,) = find("splits.near-duplicates", replace(made, splits=made.splits[::-1]))
    assert finding.evidence == ((("val", "v"), ("train", "t")),)


def test_an_offset_is_that_of_the_upper_half_of_the_strengths():
    assert border_offset([5, 5, 5, 5, 7, 7, 5, 5, 5]) == 0.5
    assert border_offset([5, 5, 5, 6, 7, 5, 5, 5, 5]) == 0.0
    assert border_offset([2] * 9) == 0.0
    (finding,) = find(
        "geometry.dilated", snapshot([record(f"{i}", alignment=placed(outside=[0, 0, 0, 1, 0, 0, 0, 0, 0])) for i in range(10)])
    )
    assert "about 1.0 pixels larger" in finding.what
