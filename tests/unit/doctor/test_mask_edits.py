"""How masks are read that are refused as they are, number by number, and which remedies a corrected copy follows by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from damage import draw, masks, save
from upscore.data.finding import Finding, Remedy
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mask_edits import read_values, threshold
from upscore.doctor.mend import mend
from upscore.types import LabelSpace

LABELS = LabelSpace(tuple("abcd"))
CLASSES = np.array([[0, 1, 2, 3]] * 3, np.uint16)


def read(pixels: np.ndarray, tmp_path: Path) -> tuple[np.ndarray, str] | None:
    path = tmp_path / "m.png"
    Image.fromarray(pixels).save(path)
    return read_values(path, LABELS, dict.fromkeys(range(4), 0) | {255: 255})


@pytest.mark.parametrize("divisor", [256, 257, 1000])
def test_classes_times_a_factor_are_divided_by_it(divisor: int, tmp_path: Path) -> None:
    found = read(CLASSES * divisor, tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found[0], CLASSES)
    assert found[1] == f"values divided by {divisor}"


def test_numbers_of_objects_behind_a_thousand_are_dropped_up_to_the_last(tmp_path: Path) -> None:
    found = read(CLASSES * 1000 + np.array([[0, 1, 998, 999]], np.uint16), tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found[0], CLASSES)


def test_ignored_pixels_are_values_too(tmp_path: Path) -> None:
    found = read(np.where(CLASSES == 2, 255, CLASSES).astype(np.uint16) * 257, tmp_path)
    assert found is not None
    assert found[0].tolist() == [[0, 1, 255, 3]] * 3


@pytest.mark.parametrize("pixels", [CLASSES * 255, CLASSES * 258 + 1, CLASSES * 2000, CLASSES * 999])
def test_other_factors_are_not_guessed(pixels: np.ndarray, tmp_path: Path) -> None:
    found = read(pixels, tmp_path)
    if found is not None:  # numbers that a thousand explains too
        np.testing.assert_array_equal(found[0], pixels // 1000)
        assert found[1] == "values divided by 1000"
    assert (pixels >= 4000).any() <= (found is None)


def test_the_middle_of_two_values_is_the_higher_one() -> None:
    assert threshold(np.array([[99, 100, 101, 126, 127, 128]], np.uint8), 0, 200).tolist() == [[0, 200, 200, 200, 200, 200]]
    assert threshold(np.array([[126, 127, 128]], np.uint8), 0, 255).tolist() == [[0, 0, 255]]


@pytest.fixture
def shifted_numbers(tmp_path: Path) -> Path:
    """A dataset whose masks hold 1 and 2 for its two classes."""
    root = draw(tmp_path / "data", two=True)
    for path in masks(root):
        with Image.open(path) as file:
            save(path, np.array(file) + 1)
    return root


def test_a_remedy_that_depends_on_what_masks_mean_is_not_followed(shifted_numbers: Path, tmp_path: Path) -> None:
    diagnosis = diagnose(shifted_numbers, only=["values"])
    (finding,) = diagnosis.findings
    assert mend(diagnosis, tmp_path / "followed").remaining == ()
    (remedy,) = finding.remedies
    doubtful = replace(finding, remedies=(replace(remedy, when="if 1 is the background"),))
    mended = mend(replace(diagnosis, findings=(doubtful,)), tmp_path / "doubtful")
    assert mended.remaining == (doubtful,)
    assert not mended.changes
    either = replace(finding, remedies=(remedy, Remedy(mapping={1: 1, 2: 0})))
    assert mend(replace(diagnosis, findings=(either,)), tmp_path / "either").remaining == (either,)


def test_of_two_settings_the_second_is_left_to_the_user(shifted_numbers: Path, tmp_path: Path) -> None:
    diagnosis = diagnose(shifted_numbers, only=["values"])
    (finding,) = diagnosis.findings
    other = Finding("values.unnamed", "error", "data", "another encoding", remedies=(Remedy(mapping={1: 1, 2: 0}),))
    mended = mend(replace(diagnosis, findings=(finding, other)), tmp_path / "mended")
    assert mended.remaining == (other,)
    assert "label_mapping: {1: 0, 2: 1}" in mended.yaml.read_text()
