"""Records of samples that never were on a disk, for the checks of the doctor."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from upscore.doctor.check import run_check
from upscore.doctor.checks import CHECKS
from upscore.doctor.measurements import Alignment, ImageMeasures, MaskMeasures
from upscore.doctor.scan import Record
from upscore.doctor.snapshot import Snapshot, SplitRecords
from upscore.errors import DataError
from upscore.types import LabelSpace

TWO, ROADS = ("background", "thing"), ("road", "car")
SIDE = 100
HALF, ONE = {0: 5000, 1: 5000}, {0: 10_000}


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


def reviewed(regions=(), bias=None, left_out=(), trained_on=False, doubtful=False):
    examined = SimpleNamespace(name=("val", "v"), trained_on=trained_on)
    region = SimpleNamespace(box=(1, 2, 3, 4), given=0, predicted=1, predicted_prob=0.9)
    review = SimpleNamespace(
        splits={"val": None}, images=(examined,), regions=[(examined, region) for _ in range(regions or 0)] if regions else [],
        border_bias={("val", 1): bias} if bias is not None else {}, left_out=left_out, doubtful=[examined] * doubtful, min_doubt=2.0,
    )  # fmt: skip
    return snapshot(several(2), [record("v")], review=review)


def find(check_id, made):
    check = next(check for check in CHECKS if check.id == check_id)
    found = run_check(check, made)
    assert not [finding for finding in found if "could not be completed" in finding.what], found
    return found
