"""The division of undivided images into train and val."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscore.data.paired_files import Pair
from upscore.data.splits import divide, group_of


def divided(keys: list[str]) -> tuple[list[str], list[str], str]:
    pairs = [Pair(key, Path(f"{key}.jpg"), Path(f"{key}.png")) for key in keys]
    warnings: list[str] = []
    parts = [[pair.key for pair in divide(Path("data"), pairs, split, warnings, because="so it is")] for split in ("train", "val")]
    assert sorted(parts[0] + parts[1]) == sorted(keys)
    return parts[0], parts[1], warnings[0]


def test_images_with_a_running_number_stay_together() -> None:
    keys = [f"{video}_{frame:04}" for video in "abcdefghijkl" for frame in range(7)]
    train, val, said = divided(keys)
    assert not {group_of(key) for key in train} & {group_of(key) for key in val}
    assert len(val) in (14, 21)
    assert "groups of names with a running number" in said
    assert (train, val) == divided(keys[::-1])[:2] or sorted(val) == sorted(divided(keys[::-1])[1])


@pytest.mark.parametrize(
    "keys", [[f"{n:03}" for n in range(20)], [f"{v}_{n}" for v in "ab" for n in range(10)], [chr(97 + n) for n in range(20)]]
)
def test_where_groups_do_not_divide_the_images_do(keys: list[str]) -> None:
    _, val, said = divided(keys)
    assert len(val) == 4
    assert "groups" not in said


def test_what_a_group_is() -> None:
    assert group_of("video3_0017") == "video3" == group_of("video3-2")
    assert group_of("0017") == "0017"
    assert group_of("street/0017") == "street/0017"
    assert group_of("a_jpg.rf.0f1e2d3c4b5a69788776655443322110") == group_of("a_jpg.rf.ffffffffffffffffffffffffffffffff") == "a_jpg"
