"""Damage planted in real data: each kind is found under its id, and what was not lost is restored to the pixel.

The data is looked for beside the repository. A few images of each split stand for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from damage import GENERAL, MANY, OBJECTS, image_of, masks
from upscore.data.open_dataset import open_dataset
from upscore.doctor.diagnosis import Diagnosis, diagnose
from upscore.doctor.mend import mend

TRAIN, VAL = 12, 5
NOT_IN = {"pennfudan": {"a mask copied to another image"}, "camvid": set[str]()}  # of Penn-Fudan every image has a size of its own
CASES = [("pennfudan", name, case) for name, case in OBJECTS.items()] + [("camvid", name, case) for name, case in MANY.items()]
# Each kind in one of the two; in both where UPSCORE_REAL is set.
CASES += [
    (data, name, case)
    for number, (name, case) in enumerate(GENERAL.items())
    for parity, data in enumerate(("camvid", "pennfudan"))
    if name not in NOT_IN[data] and (number % 2 == parity or "UPSCORE_REAL" in os.environ or name in NOT_IN["pennfudan"])
]


def subset(source: Path, target: Path) -> Path:
    """Link a few images of each split, evenly spread, and their masks; what plants damage unlinks first."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        found = masks(source, split)
        for path in found[:: max(1, len(found) // count)][:count]:
            for file in (path, image_of(path)):
                link = target / file.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
    (target / "dataset.yaml").write_text((source / "dataset.yaml").read_text())
    return target


@pytest.fixture(scope="module")
def clean(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Diagnosis]]:
    """Return each dataset's subset, and what the doctor finds in it, which is little: a subset may lack a rare class."""
    known: dict[str, tuple[Path, Diagnosis]] = {}

    def get(name: str) -> tuple[Path, Diagnosis]:
        if name not in known:
            root = subset(shared_data / name, tmp_path_factory.mktemp(name) / name)
            known[name] = root, diagnose(root)
        return known[name]

    return get


def labels_of(path: Path) -> dict[tuple[str, str], np.ndarray]:
    found = {}
    for split in ("train", "val"):
        dataset = open_dataset(path, split)
        found |= {(split, dataset.keys[i]): dataset[i].label for i in range(len(dataset))}
    return found


@pytest.mark.parametrize("name", ["pennfudan", "camvid"])
def test_of_all_planted_kinds_nothing_is_found_in_clean_data(name, clean):
    planted = {case[1] for _, _, case in CASES}
    assert {finding.id for finding in clean(name)[1].findings} & planted == set()


@pytest.mark.parametrize(("data", "name", "case"), CASES, ids=[f"{data}: {name}" for data, name, _ in CASES])
def test_damage_is_found_under_its_id_and_mended(data, name, case, clean, shared_data, tmp_path):
    plant, expected, outcome = case
    damaged = subset(shared_data / data, tmp_path / "damaged")
    plant(damaged)
    diagnosis = diagnose(damaged, only=[expected])
    assert expected in {finding.id for finding in diagnosis.findings}
    if outcome not in ("equal", "left out", "covered"):
        return
    mended = mend(diagnosis, tmp_path / "mended")
    was, now = labels_of(clean(data)[0]), labels_of(mended.yaml)
    assert now
    for key, label in now.items():
        if outcome == "covered":  # what lies beyond the image, or was cut off, is lost, and ignored
            known = (label != 255)[8:-8, 8:-8]
            assert not ((label != was[key])[8:-8, 8:-8] & known & (was[key] != 255)[8:-8, 8:-8]).any()
        elif key in was:
            np.testing.assert_array_equal(label, was[key])
    if outcome == "equal":
        assert now.keys() == was.keys()


def test_at_least_24_kinds_are_planted():
    assert len({name for _, name, _ in CASES}) >= 24
