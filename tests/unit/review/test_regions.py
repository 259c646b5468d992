"""Which regions are doubtful, and what is known of each."""

import numpy as np
import pytest

from upscore.review.regions import MAX_GIVEN_PROB, MAX_REGIONS, find_regions


def planted(*boxes, size=(60, 70), given=0.001, sure=0.99):
    """Boxes (top, bottom, left, right) that are labelled 0 and predicted as 1."""
    label, predicted = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for top, bottom, left, right in boxes:
        predicted[top:bottom, left:right] = 1
    wrong = predicted != label
    return label, predicted, np.where(wrong, given, 0.98), np.where(wrong, sure, 0.98)


def test_a_perfect_prediction_has_none():
    label = np.random.default_rng(0).integers(0, 4, (30, 40)).astype(np.uint8)
    assert find_regions(label, label, np.ones(label.shape), np.ones(label.shape)) == []


def test_area_box_classes_and_mask():
    [region] = find_regions(*planted((5, 15, 8, 28)))
    assert (region.given, region.predicted, region.area, region.box) == (0, 1, 200, (8, 5, 28, 15))
    assert region.mask.shape == (10, 20)
    assert region.mask.all()
    assert region.given_prob == pytest.approx(0.001)
    assert region.predicted_prob == pytest.approx(0.99)
    assert region.confident_fraction(0.98) == 1
    assert region.confident_fraction(1.0) == 0


def test_thin_ones_and_probable_ones_are_left_out():
    assert find_regions(*planted((5, 8, 0, 70))) != []
    assert find_regions(*planted((5, 7, 0, 70))) == []
    assert find_regions(*planted((5, 15, 8, 28), given=1.5 * MAX_GIVEN_PROB)) == []


def test_ignored_pixels_are_in_no_region():
    label, predicted, given, sure = planted((5, 15, 8, 28))
    label[5:15, 8:18] = 255
    [region] = find_regions(label, predicted, given, sure)
    assert region.box == (18, 5, 28, 15)
    label[5:15, 8:28] = 255
    assert find_regions(label, predicted, given, sure) == []


def test_the_largest_of_equally_improbable_ones_comes_first_and_no_more_than_a_limit():
    boxes = [(y, y + 4 + (y == 24), x, x + 5) for y in range(0, 48, 6) for x in range(0, 56, 7)]
    found = find_regions(*planted(*boxes))
    assert len(found) == MAX_REGIONS
    assert found[0].area == 25
    assert [region.evidence for region in found] == sorted((region.evidence for region in found), reverse=True)


def test_regions_that_touch_at_a_corner_are_two():
    assert len(find_regions(*planted((5, 15, 8, 18), (15, 25, 18, 28)))) == 2
