import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upscore.objects.detected import DetectedObject
from upscore.objects.suppression import common_pixels, mask_overlap, suppress

BOXES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(1, 5))


def full(box, score=0.5, label_class=1):
    left, top, width, height = box
    return DetectedObject(label_class, score, np.ones((height, width), bool), left, top, (12, 12))


def painted(each):
    mask = np.zeros(each.size, bool)
    left, top, right, bottom = each.box
    mask[top:bottom, left:right] = each.mask
    return mask


@given(BOXES, BOXES, st.data())
def test_common_pixels_are_those_of_the_whole_masks(one, other, data):
    first, second = full(one), full(other)
    for each in (first, second):
        each.mask[data.draw(st.integers(0, each.mask.shape[0] - 1)), 0] = False
    assert common_pixels(first, second) == common_pixels(second, first) == (painted(first) & painted(second)).sum()


def test_a_part_inside_a_better_object_is_removed_and_one_of_another_class_stays():
    whole, part, other, apart = full((0, 0, 4, 4), 0.9), full((0, 0, 2, 2), 0.8), full((0, 0, 2, 2), 0.7, 2), full((5, 5, 2, 2), 0.6)
    assert mask_overlap(whole, part) == 1
    assert suppress([apart, other, part, whole]) == [whole, other, apart]


def test_an_overlap_at_the_limit_stays():
    half, other = full((0, 0, 4, 1), 0.9), full((2, 0, 4, 1), 0.8)
    assert mask_overlap(half, other) == 0.5
    assert suppress([half, other], max_overlap=0.5) == [half, other]
    assert suppress([half, other], max_overlap=0.49) == [half]


def test_what_a_removed_object_overlaps_stays():
    best, removed, behind = full((0, 0, 4, 1), 0.9), full((1, 0, 4, 1), 0.8), full((4, 0, 2, 1), 0.7)
    assert suppress([best, removed, behind], max_overlap=0.4) == [best, behind]
