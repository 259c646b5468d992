"""Images are divided by what the user says belongs together."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscore.data.paired_files import Pair
from upscore.data.split_by import SplitBy
from upscore.data.splits import divide
from upscore.errors import DataError

KEYS = [f"{town}/p{patient}_{number}" for town in ("rome", "oslo") for patient in range(6) for number in range(5)]
PAIRS = [Pair(key, Path(key), Path(key)) for key in KEYS]


@pytest.mark.parametrize(("by", "groups"), [("folder", 2), ("/(p[0-9])_", 6), ("(rome/p1|/p[0-9])_", 7)])
def test_a_group_is_in_one_split(by: str, groups: int) -> None:
    warnings: list[str] = []
    train, val = (divide(Path("x"), PAIRS, split, warnings, because="so", by=SplitBy(by)) for split in ("train", "val"))
    group = SplitBy(by).group
    assert not {group(pair.key) for pair in train} & {group(pair.key) for pair in val}
    assert len(train) + len(val) == len(PAIRS)
    chosen = len({group(pair.key) for pair in val})
    assert (
        warnings[0]
        == f"so, so {len(val)} of 60 images, those of {chosen} of {groups} groups by {by}, chosen by a hash of their names, are val"
    )


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("(", "is no regular expression"),
        ("p[0-9]", "expected folder, column:NAME of a table, or a regular expression with a group"),
        ("(q)", "does not occur in the image 'rome/p0_0'"),
        ("(p)", "puts all 60 images into one group"),
        ("column:a", "the dataset is no table of pairs"),
    ],
)
def test_what_does_not_divide_is_one_line(by: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        divide(Path("x"), PAIRS, "val", [], because="so", by=SplitBy(by))
