"""How masks are read that are refused as they are, what is done to one mask, and which remedies a corrected copy follows by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from damage import draw, masks, save
from upscore.data.finding import Finding, Remedy
from upscore.doctor.diagnosis import diagnose
from upscore.doctor.mask_edits import EDITS, READINGS, SplitPlacement, measure_placements, place, read_values, threshold
from upscore.doctor.measurements import Alignment
from upscore.doctor.mend import mend
from upscore.doctor.scan import Record
from upscore.types import LabelSpace, voc_palette

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


TWO = LabelSpace(("background", "thing"))
OWN = LabelSpace(("background", "thing"), ((10, 20, 30), (40, 50, 60)))
VALUES = {0: 0, 1: 1, 255: 255}
MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
IMAGE = np.zeros((2, 3, 3), np.uint8)


def read_as(check: str, pixels: np.ndarray, tmp_path: Path, labels: LabelSpace = TWO, values=VALUES):
    path = tmp_path / "m.png"
    Image.fromarray(pixels).save(path)
    return READINGS[check](path, labels, values)


def edit(check: str, mask: np.ndarray, record: Record | None = None, image=IMAGE, placement=None):
    return EDITS[check](mask, record or Record("train", "a"), image, placement or SplitPlacement())


def coloured(mask: np.ndarray, *colours: tuple[int, int, int]) -> np.ndarray:
    return np.array(colours, np.uint8)[mask]


@pytest.mark.parametrize("palette", ["classes", "voc"])
def test_colours_of_either_palette_are_classes_and_vocs_border_is_ignored(palette, tmp_path):
    colours = OWN.palette if palette == "classes" else voc_palette(2)
    border = np.array([[0, 1, 2], [0, 0, 1]])
    found = read_as("values.colours", coloured(border, *colours, (224, 224, 192)), tmp_path, OWN)
    assert found is not None
    assert found[0].tolist() == [[0, 1, 255], [0, 0, 1]]
    assert found[1] == "colours read by " + ("the classes' palette" if palette == "classes" else "PASCAL VOC's palette")


@pytest.mark.parametrize("other", [(10, 20, 31), (0, 0, 0), (255, 255, 255)])
def test_a_colour_of_no_palette_is_not_guessed(other, tmp_path):
    assert read_as("values.colours", coloured(np.array([[0, 1, 2]]), *OWN.palette, other), tmp_path, OWN) is None
    assert read_as("values.colours", MASK, tmp_path, OWN) is None


def test_of_values_that_are_one_class_the_first_has_its_colour(tmp_path):
    found = read_as("values.colours", coloured(MASK, *OWN.palette), tmp_path, OWN, {0: 0, 3: 1, 1: 1, 255: 255})
    assert found is not None
    assert found[0].tolist() == MASK.tolist()


@pytest.mark.parametrize("bands", [2, 4])
def test_transparency_is_dropped_where_the_other_bands_agree(bands, tmp_path):
    alpha = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
    found = read_as("values.alpha", np.dstack([MASK] * (bands - 1) + [alpha]), tmp_path)
    assert found is not None
    assert found[0].tolist() == MASK.tolist()


def test_transparency_of_colours_is_not_dropped(tmp_path):
    alpha = np.full(MASK.shape, 128, np.uint8)
    assert read_as("values.alpha", np.dstack([MASK, MASK, MASK[:, ::-1], alpha]), tmp_path) is None
    assert read_as("values.alpha", np.dstack([MASK, MASK, MASK]), tmp_path) is None
    assert read_as("values.alpha", MASK, tmp_path) is None


@pytest.mark.parametrize("bands", [1, 3])
def test_a_lossy_mask_of_two_values_is_thresholded_at_half_its_largest(bands, tmp_path):
    grey = np.array([[3, 99, 100, 200]], np.uint8)
    found = read_as("values.lossy", grey if bands == 1 else np.dstack([grey] * bands), tmp_path)
    assert found is not None
    assert found[0].tolist() == [[0, 0, 1, 1]]
    assert found[1] == "thresholded at 100"


def test_a_lossy_mask_of_more_classes_or_too_dark_is_not_guessed(tmp_path):
    grey = np.array([[3, 99, 100, 200]], np.uint8)
    assert read_as("values.lossy", grey, tmp_path, LabelSpace(tuple("abc"))) is None
    assert read_as("values.lossy", np.array([[0, 63]], np.uint8), tmp_path) is None
    assert read_as("values.lossy", np.array([[0, 64]], np.uint8), tmp_path) is not None


def test_negative_and_real_numbers_are_not_divided(tmp_path):
    for pixels in (np.array([[-256, 256]], np.int32), np.array([[0.0, 256.0]], np.float32)):
        path = tmp_path / "m.tif"
        Image.fromarray(pixels).save(path)
        assert READINGS["values.range"](path, TWO, VALUES) is None


def test_what_is_ignored_keeps_its_number_when_a_mask_is_moved_and_what_it_does_not_cover_is_ignored():
    moved, how = edit("geometry.shifted", MASK, placement=SplitPlacement(shift=(1, -1)))
    assert moved.tolist() == [[255, 255, 255], [1, 1, 255]]
    assert how.startswith("moved by 1 rows and -1 columns")


def test_a_smaller_mask_is_placed_and_its_ignored_pixels_are_counted():
    mask = np.array([[0, 255], [1, 1]], np.uint8)
    placed, how = edit("sizes.off-by-one", mask, placement=SplitPlacement(placements={(0, 1): (0, 1)}))
    assert placed.tolist() == [[255, 0, 255], [255, 1, 1]]
    assert how == "placed at row 0, column 1 of the image; 2 px that it does not cover are ignored"
    cropped, how = edit("sizes.off-by-one", np.ones((3, 3), np.uint8), placement=SplitPlacement(placements={(-1, 0): (-1, 0)}))
    assert cropped.tolist() == [[1] * 3] * 2
    assert how == "placed at row -1, column 0 of the image"


def test_every_placement_is_measured_and_the_true_one_is_strongest():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 2, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    for bands in (1, 3):
        image = np.repeat((mask * 200)[..., None], bands, axis=2)
        found = measure_placements(mask[1:, :-2], image)
        assert set(found) == {(row, column) for row in (0, 1) for column in (0, 1, 2)}
        assert max(found, key=lambda position: found[position][0] / found[position][1]) == (1, 0)
        larger = measure_placements(np.pad(mask, ((1, 0), (0, 0)), mode="edge"), image)
        assert max(larger, key=lambda position: larger[position][0] / larger[position][1]) == (-1, 0)
    assert set(measure_placements(np.zeros((64, 63), np.uint8), np.zeros((64, 64, 3), np.uint8)).values()) == {(0.0, 0)}


@pytest.mark.parametrize(("way", "axes", "words"), [(0, 1, "left to right"), (1, 0, "top to bottom"), (2, (0, 1), "in both directions")])
def test_a_mask_is_mirrored_as_it_fits(way, axes, words):
    strengths = [0.0, 0.0, 0.0]
    strengths[way] = 9.0
    alignment = Alignment(np.ones((17, 17), np.float32), tuple(strengths), np.ones(9, np.float32), 1000)
    mirrored, how = edit("geometry.mirrored", MASK, replace(Record("train", "a"), alignment=alignment))
    assert mirrored.tolist() == np.flip(MASK, axes).tolist()
    assert how == f"mirrored {words}"


def test_steps_between_two_classes_take_the_nearest_class():
    steps = np.array([[0, 0, 0, 2, 4, 4, 4]] * 3, np.uint8)
    steps[1, 3] = 1
    filled, how = edit("values.interpolated", steps)
    assert set(np.unique(filled)) == {0, 4}
    assert (filled[:, :3] == 0).all()
    assert (filled[:, 4:] == 4).all()
    assert how.startswith("3 px ")


def test_scaled_masks_are_resized_to_the_image_and_specks_filled():
    doubled, how = edit("sizes.scaled", MASK.repeat(2, 0).repeat(2, 1))
    assert doubled.tolist() == MASK.tolist()
    assert how == "resized from 4×6 to 2×3 with nearest neighbour"
    speck = np.zeros((7, 7), np.uint8)
    speck[3, 3] = 1
    filled, how = edit("geometry.specks", speck)
    assert not filled.any()
    assert how == "1 px given the class around them"


def test_a_mask_is_placed_as_far_as_it_lies_in_the_image():
    assert place(MASK, (2, 3), 0, 0).tolist() == MASK.tolist()
    assert place(MASK, (3, 3), 2, -2).tolist() == [[255] * 3, [255] * 3, [1, 255, 255]]
    assert place(MASK, (1, 2), -1, 0).tolist() == [[0, 0]]
