"""Signed distances between borders."""

import cv2
import numpy as np
import pytest

from upscore.review.border_bias import MIN_BORDER, border_distances, median_distance


def disc(radius, size=(120, 120)):
    label = np.zeros(size, np.uint8)
    cv2.circle(label, (60, 60), radius, 1, -1)
    return label


@pytest.mark.parametrize("grown", [-3, 0, 3])
def test_the_median_is_by_how_much_an_object_is_drawn_larger(grown):
    found = border_distances(disc(40 + grown), disc(40), 2)
    assert median_distance(found[1], min_border=50) == pytest.approx(grown, abs=0.5)
    assert median_distance(found[0], min_border=50) == pytest.approx(-grown, abs=0.5)


def test_a_shift_has_no_bias():
    label = np.roll(disc(40), 4, axis=1)
    assert median_distance(border_distances(label, disc(40), 2)[1], min_border=50) == pytest.approx(0, abs=0.5)


def test_few_borders_and_ignored_ones_give_no_median():
    label = disc(40)
    assert np.isnan(median_distance(border_distances(label[55:65], disc(40)[55:65], 2)[1]))
    assert border_distances(label, disc(40), 2)[1].sum() > MIN_BORDER
    label[cv2.dilate(disc(42) - disc(37), np.ones((3, 3), np.uint8)) > 0] = 255
    assert border_distances(label, disc(40), 2).sum() == 0


def test_an_object_that_is_not_predicted_has_no_distance():
    assert border_distances(disc(40), np.zeros((120, 120), np.uint8), 2)[1].sum() == 0
