"""Kinds of errors, and colours that can be told apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from upscore.html.error_view import (
    CONFUSED,
    IGNORED,
    INVENTED,
    MISSED,
    draw_errors,
    find_class_errors,
    find_errors,
    legend_of_errors,
)
from upscore.types import LabelSpace

OBJECTS = LabelSpace(("background", "cat", "dog"))
SCENE = LabelSpace(("sky", "road", "car"))
truths = hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 255]))
predictions = hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2]))


def kind_of(truth: int, predicted: int, *, background: bool) -> int:
    """Return the kind of one pixel, by the definition."""
    if truth == 255:
        return IGNORED.number
    if truth == predicted:
        return 0
    if background and 0 in (truth, predicted):
        return INVENTED.number if truth == 0 else MISSED.number
    return CONFUSED.number


@given(truth=truths, predicted=predictions, labels=st.sampled_from([OBJECTS, SCENE]))
def test_every_pixel_has_the_kind_of_its_definition(truth: np.ndarray, predicted: np.ndarray, labels: LabelSpace) -> None:
    expected = [
        [kind_of(int(t), int(p), background=labels is OBJECTS) for t, p in zip(*rows, strict=True)]
        for rows in zip(truth, predicted, strict=True)
    ]
    assert find_errors(truth, predicted, labels).tolist() == expected


@given(truth=truths, predicted=predictions, label=st.integers(0, 2))
def test_missed_and_invented_pixels_of_a_class_are_its_false_negatives_and_positives(
    truth: np.ndarray, predicted: np.ndarray, label: int
) -> None:
    errors, valid = find_class_errors(truth, predicted, label), truth != 255
    correct = int(((truth == label) & (predicted == label)).sum())
    assert int((errors == MISSED.number).sum()) == int((truth == label).sum()) - correct
    assert int((errors == INVENTED.number).sum()) == int(((predicted == label) & valid).sum()) - correct
    assert not (errors == CONFUSED.number).any()
    assert np.array_equal(errors == IGNORED.number, ~valid)


def test_the_legend_has_the_kinds_that_are_drawn() -> None:
    assert [colour for colour, _ in legend_of_errors(OBJECTS)] == [kind.colour for kind in (MISSED, INVENTED, CONFUSED, IGNORED)]
    assert [colour for colour, _ in legend_of_errors(LabelSpace(("background", "cat")))] == [
        kind.colour for kind in (MISSED, INVENTED, IGNORED)
    ]
    assert [meaning for _, meaning in legend_of_errors(SCENE)] == ["wrong class", "not evaluated"]
    assert len(legend_of_errors(LabelSpace(("background",)))) == 2


def test_errors_are_drawn_over_a_pale_image_or_transparent() -> None:
    errors = np.array([[0, MISSED.number, IGNORED.number]], np.uint8)
    alone = draw_errors(errors)
    assert alone[0].tolist() == [[0, 0, 0, 0], [*MISSED.colour, 255], [*IGNORED.colour, 255]]
    over = draw_errors(errors, np.full((1, 3, 3), 30, np.uint8))
    assert over[0, 1:].tolist() == [list(MISSED.colour), list(IGNORED.colour)]
    assert over[0, 0].min() >= 170


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
BACKGROUNDS = [(170, 170, 170), (255, 255, 255), (37, 40, 45), (236, 235, 229)]  # pale images; the ground of a map in dark and in light


def lab(colour: tuple[int, ...], vision: np.ndarray) -> np.ndarray:
    """Return CIELAB of sRGB as it is seen."""
    c = np.array(colour) / 255
    linear = np.clip(vision @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_stay_apart_from_one_another_and_from_the_background(vision: str) -> None:
    colours = [kind.colour for kind in (MISSED, INVENTED, CONFUSED)]
    pairs = [*combinations(colours, 2), *((colour, other) for colour in colours for other in (*BACKGROUNDS, IGNORED.colour))]
    for colour, other in pairs:
        assert np.linalg.norm(lab(colour, VISION[vision]) - lab(other, VISION[vision])) > 30
